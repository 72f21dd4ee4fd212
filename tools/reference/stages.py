"""The page of stages: what each reads, needs, adds and asks for."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.stage import AnyStage, Execution
from tools.reference.markdown import as_type, as_value, code, codes, escaped, page, table

_INTRO = """The stages that a recipe can name, in the order in which a build usually runs them.
Parameters are part of a result's identity; what stands under `execution` in a recipe is not."""
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def stages_page(stages: Sequence[AnyStage]) -> str:
    """One section per stage, and one on how stages are executed."""
    overview = table(
        ("stage", "version", "shape", "what it does"),
        [_row(stage) for stage in stages],
    )
    common = "## How every stage runs\n\n" + _fields(Execution.model_fields)
    return page("Stages", _INTRO, [overview, *map(_section, stages), common])


def _row(stage: AnyStage) -> tuple[str, str, str, str]:
    link = f"[`{stage.name}`](#{stage.name})"
    return link, str(stage.version), type(stage.shape).__name__, stage.summary


def _section(stage: AnyStage) -> str:
    parts = [f"## {stage.name}", escaped(stage.summary) + ".", _facts(stage)]
    if stage.params.model_fields:
        parts += ["**Parameters**", _fields(stage.params.model_fields)]
    own = {
        name: field
        for name, field in stage.execution.model_fields.items()
        if name not in Execution.model_fields
    }
    if own:
        parts += ["**Execution**", _fields(own)]
    return "\n\n".join(parts)


def _facts(stage: AnyStage) -> str:
    sides = [
        f"{code(name)} (by default {code(side.default)}){': ' * bool(side.about)}{side.about}"
        for name, side in stage.sides.items()
    ]
    facts = {
        "version": str(stage.version),
        "shape": type(stage.shape).__name__,
        "reads": "the rows of the stage before it" if stage.reads == "rows" else code(stage.reads),
        "sides": "; ".join(sides),
        "needs": codes(column.name for column in stage.needs),
        "adds": codes(column.name for column in stage.adds),
        "files": codes(f".{suffix}" for suffix in stage.files),
        "reasons": codes(str(reason) for reason in stage.reasons or ()),
    }
    return "\n".join(f"- {name}: {escaped(text)}" for name, text in facts.items() if text)


def _fields(fields: dict[str, FieldInfo]) -> str:
    head = ("name", "type", "default", "what it says")
    return table(head, [_field(name, field) for name, field in fields.items()])


def _field(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    kind = ", ".join((as_type(field.annotation), *_bounds(field.metadata)))
    return code(name), kind, _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return code(as_value(value.model_dump() if isinstance(value, BaseModel) else value))


def _bounds(metadata: Iterable[Any]) -> list[str]:
    """The bounds of a field as people write them; pydantic keeps them as one object each."""
    return [
        f"{sign} {getattr(bound, name):g}"
        for bound in metadata
        for name, sign in _SIGNS.items()
        if hasattr(bound, name)
    ]
