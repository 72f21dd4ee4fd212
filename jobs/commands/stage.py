"""`openwit stage`: single stages from the shell, their options made from each stage's Params.

openwit stage NAME --in ... --out ...
"""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import BaseModel, ConfigDict, Field, create_model

from jobs.commands.options import Address, Inline, JsonSummary, NumWorkers
from jobs.commands.recipes import choose_progress, open_scheduler, report_losses, run_recipe
from jobs.commands.resolve import dataset_at
from jobs.stages.catalogue import CATALOGUE
from pipeline.dataset.errors import UserError
from pipeline.dataset.params import Params
from pipeline.inputs import resolve
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.wiring import Node
from pipeline.run import summary
from pipeline.stage import AnyStage, Side
from pipeline.store.objects import Store

HERE = "in"


class _Where(BaseModel):
    """Where a stage reads and writes, the same for all stages."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    in_: Annotated[list[str], Parameter(name="--in", negative=())]
    """What it reads: a stage's folder or NAME/STAGE, or files for a stage that reads files."""
    out: str
    """The store to write to; the result lies in OUT/STAGE/KEY."""
    inline: Annotated[Inline, Parameter(negative=())] = False
    workers: NumWorkers = None
    address: Address = None
    json_: JsonSummary = False


def stage_app() -> App:
    """The `stage` command with one subcommand per stage."""
    app = App(name="stage", help="Run a single stage on a folder or files.")
    for stage in CATALOGUE.values():
        if not stage.sees_all:
            app.command(_command(stage), name=stage.name)
    return app


def _command(stage: AnyStage) -> Callable[..., int]:
    """A function whose keywords are the stage's own: cyclopts reads them off its signature."""
    kinds: dict[str, type[BaseModel]] = {"where": _Where, "params": stage.params}
    if stage.sides:
        kinds["sides"] = _sides_model(stage)

    def command(**given: Any) -> int:
        sides = given["sides"].model_dump() if "sides" in given else {}
        return _run(stage, given["where"], sides, given.get("params"), given.get("execution"))

    flat = {name: Annotated[kind, Parameter(name="*")] for name, kind in kinds.items()}
    needed = {"where", "sides"} | ({"params"} if _has_required(stage.params) else set())
    nested = {"execution": Annotated[stage.execution, Parameter(name="--exec")]}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=inspect.Parameter.empty if name in needed else None,
            )
            for name, kind in {**flat, **nested}.items()
        ]
    )
    command.__annotations__ = {**flat, **nested, "return": int}
    command.__doc__ = _as_markdown(stage.summary + ".")
    return command


def _as_markdown(text: str) -> str:
    """The text for help, which is read as Markdown: `<img>` would be a tag and vanish."""
    return text.replace("<", r"\<")


def _has_required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _sides_model(stage: AnyStage) -> type[BaseModel]:
    fields: dict[str, Any] = {
        side: (str, Field(description=f"Its {side}: files, a stage's folder or NAME/STAGE."))
        for side in stage.sides
    }
    return create_model(f"{stage.name}-sides", **fields)


def _run(
    stage: AnyStage,
    where: _Where,
    sides: Mapping[str, str],
    params: Params | None,
    execution: BaseModel | None,
) -> int:
    store = Store(where.out)
    given = {name: _side([pattern], store) for name, pattern in sides.items()}
    given[HERE] = _side(where.in_, store)
    node = Node(
        name=stage.name,
        stage=stage,
        params=params or stage.params(),
        execution=stage.execution.model_validate(execution.model_dump() if execution else {}),
        upstream=HERE,
        sides={side: side for side in sides},
    )
    recipe = Recipe(stage.name, Path(), where.out, {}, (node,))
    build = run_recipe(
        recipe,
        store,
        scheduler=lambda: open_scheduler(where.inline, where.workers, where.address),
        progress=choose_progress(where.json_),
        given=given,
    )
    folder = build.finished[stage.name].folder
    print(json.dumps(summary(build), indent=1) if where.json_ else f"{where.out}/{folder}")
    return report_losses(build)


def _side(patterns: list[str], store: Store) -> Side:
    """A finished stage, or files by their patterns."""
    if len(patterns) == 1 and not Path(patterns[0]).is_file():
        try:
            return dataset_at(patterns[0])
        except UserError:
            if not any(mark in patterns[0] for mark in "*?["):
                raise
    return resolve({HERE: tuple(patterns)}, Path.cwd(), store)[HERE]
