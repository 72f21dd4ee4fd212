"""Recipes: a build described in YAML, read into typed stages or refused with the line to mend.

A recipe names its input files, lists its stages in order, and says apart from them how they run. A
stage reads the rows of the stage before it unless `of` says otherwise; `from` redirects its other
inputs; `use` runs a stage under another name. Everything else in its entry is its parameters.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import RecipeError
from pipeline.stage import Execution, Stage

Catalogue = Mapping[str, Stage]
Model = TypeVar("Model", bound=BaseModel)


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    store: str | None = None
    inputs: dict[str, str | list[str]] = {}
    stages: dict[str, dict[str, Any] | None]
    execution: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Node:
    """One stage of a recipe: its name there, what it runs, and where its inputs come from.

    `upstream` and the values of `sides` name earlier nodes or inputs of the recipe.
    """

    name: str
    stage: Stage
    params: BaseModel
    execution: Execution
    upstream: str
    sides: Mapping[str, str]


@dataclass(frozen=True)
class Recipe:
    """A build: its name, where it stores, its input patterns and its nodes in order.

    `store` is relative to where the command runs, `inputs` to the recipe's own folder.
    """

    name: str
    path: Path
    store: str
    inputs: Mapping[str, tuple[str, ...]]
    nodes: tuple[Node, ...]


def load(
    path: str | Path, catalogue: Catalogue, overrides: Mapping[str, str] | None = None
) -> Recipe:
    """Read a recipe; RecipeError names file, line, field, value and what would be allowed.

    `overrides` maps "stage.field" to values for the execution section, as the command line gives
    them.
    """
    source = _Source(Path(path))
    content = source.validated(_Recipe, source.content, ())
    execution = {stage: dict(fields) for stage, fields in content.execution.items()}
    for target, value in (overrides or {}).items():
        stage, _, field = target.partition(".")
        execution.setdefault(stage, {})[field] = yaml.safe_load(value)
    nodes = _Nodes(source, catalogue, set(content.inputs), execution)
    for name, entry in content.stages.items():
        nodes.add(name, entry or {})
    nodes.check_execution()
    inputs = {
        name: (patterns,) if isinstance(patterns, str) else tuple(patterns)
        for name, patterns in content.inputs.items()
    }
    store = content.store or f"runs/{content.name}/store"
    return Recipe(content.name, source.path, store, inputs, tuple(nodes.nodes))


class _Source:
    """The text of a recipe: knows on which line a field stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            self.content = yaml.safe_load(self._text)
            self._tree = yaml.compose(self._text)
        except FileNotFoundError:
            raise RecipeError(f"{path}: there is no such recipe; check the path") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        self._refuse_repeated_keys(self._tree, ())

    def error(self, field: tuple[str | int, ...], what: str) -> RecipeError:
        """An error at a field, with its line."""
        where = ".".join(str(step) for step in field) or "the recipe"
        return RecipeError(f"{self.path}:{self._line(field)}: {where}: {what}")

    def validated(self, model: type[Model], value: Any, field: tuple[str | int, ...]) -> Model:
        """`value` as `model`, or the first error in words."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise self.error((*field, *first["loc"]), _in_words(first, model)) from None

    def _line(self, field: tuple[str | int, ...]) -> int:
        node, line = self._tree, 1
        for step in field:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == str(step)]
                if not found:
                    break
                key, node = found[0]
                line = key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def _refuse_repeated_keys(self, node: Any, field: tuple[str | int, ...]) -> None:
        """YAML keeps the last of two equal keys silently; a stage would vanish unnoticed."""
        if not isinstance(node, yaml.MappingNode):
            return
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                what = (
                    f"{key.value} stands here twice; give the second stage another name with `use`"
                )
                raise RecipeError(f"{self.path}:{key.start_mark.line + 1}: {what}")
            seen.add(key.value)
            self._refuse_repeated_keys(value, (*field, key.value))


class _Nodes:
    """Wires stages one after the other as the recipe lists them."""

    def __init__(
        self,
        source: _Source,
        catalogue: Catalogue,
        inputs: set[str],
        execution: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.nodes: list[Node] = []
        self._source, self._catalogue, self._inputs = source, catalogue, inputs
        self._execution = execution
        self._rows: str | None = None

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add one stage entry."""
        here = ("stages", name)
        if name in self._inputs:
            raise self._source.error(here, "an input has the same name; rename one of the two")
        rest = dict(entry)
        used = rest.pop("use", name)
        if used not in self._catalogue:
            what = f"no stage is called {used!r}; {_allowed(used, sorted(self._catalogue))}"
            raise self._source.error(here, what)
        stage = self._catalogue[used]
        upstream = self._upstream(here, stage, rest.pop("of", None))
        sides = self._sides(here, stage, rest.pop("from", None) or {})
        params = self._source.validated(stage.params, rest, here)
        self.nodes.append(Node(name, stage, params, self._run(name, stage), upstream, sides))
        if stage.conserves:
            self._rows = name

    def check_execution(self) -> None:
        """Refuse an execution entry for a stage that the recipe does not have."""
        names = sorted(node.name for node in self.nodes)
        for name in self._execution:
            if name not in (*names, "all"):
                what = f"no stage of this recipe has that name; {_allowed(name, ['all', *names])}"
                raise self._source.error(("execution", name), what)

    def _run(self, name: str, stage: Stage) -> Execution:
        common = {
            field: value
            for field, value in self._execution.get("all", {}).items()
            if field in stage.execution.model_fields
        }
        own = {**common, **self._execution.get(name, {})}
        return self._source.validated(stage.execution, own, ("execution", name))

    def _upstream(self, here: tuple[str, str], stage: Stage, given: str | None) -> str:
        if given is None and stage.reads != "rows":
            given = stage.reads
        if given is None and self._rows is None:
            raise self._source.error(here, "comes first, but needs the rows of an earlier stage")
        source = given or str(self._rows)
        return self._known((*here, "of"), source)

    def _sides(
        self, here: tuple[str, str], stage: Stage, given: Mapping[str, str]
    ) -> dict[str, str]:
        for side in given:
            if side not in stage.sides:
                what = f"{stage.name} has no such input; {_allowed(side, sorted(stage.sides))}"
                raise self._source.error((*here, "from", side), what)
        everything = [*sorted(self._inputs), *(node.name for node in self.nodes)]
        seen = {name: name for name in everything} if stage.sees_all else {}
        chosen = {**seen, **stage.sides, **given}
        return {side: self._known((*here, "from", side), source) for side, source in chosen.items()}

    def _known(self, field: tuple[str, ...], source: str) -> str:
        earlier = [node.name for node in self.nodes]
        if source not in earlier and source not in self._inputs:
            known = sorted(self._inputs) + earlier
            what = f"needs {source!r}, which is neither an input nor an earlier stage; "
            raise self._source.error(field, what + _allowed(source, known))
        return source


def _in_words(error: Any, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"no such field; {_allowed(str(error['loc'][-1]), sorted(model.model_fields))}"
    if error["type"] == "value_error":  # a check of a whole stage, which names the field itself
        return str(error["ctx"]["error"])
    value = repr(error["input"])
    given = "" if error["type"] == "missing" else f" (given: {value[:80]})"
    return f"{error['msg']}{given}"


def _allowed(given: str, names: list[str]) -> str:
    close = difflib.get_close_matches(given, names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}allowed: {', '.join(names) or 'none'}"
