"""The stages of a recipe, wired one after the other and checked: kinds of inputs and columns.

A stage reads the rows of the stage before it unless `of` says otherwise. Whatever would end in a
missing column, a doubled one or files in place of rows is refused here, with the line to mend.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.dataset.column import Column
from pipeline.dataset.params import Params
from pipeline.recipe.yaml_file import RecipeFile, allowed
from pipeline.stage import AnyStage, Execution, FilesSide, RowsSide, SideSpec

Catalogue = Mapping[str, AnyStage]
_Columns = Mapping[str, tuple[Column, str]]
"""Columns by name, each with the name of the stage that added it."""


@dataclass(frozen=True)
class Node:
    """One stage of a recipe: its name there, what it runs, and where its inputs come from.

    `upstream` and the values of `sides` name earlier nodes or inputs of the recipe.
    """

    name: str
    stage: AnyStage
    params: Params
    execution: Execution
    upstream: str
    sides: Mapping[str, str]


class Wiring:
    """Wires stages one after the other as the recipe lists them."""

    def __init__(
        self,
        source: RecipeFile,
        catalogue: Catalogue,
        inputs: set[str],
        execution: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.nodes: list[Node] = []
        self._source, self._catalogue, self._inputs = source, catalogue, inputs
        self._execution = execution
        self._rows: str | None = None
        self._columns: dict[str, _Columns] = {}

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add one stage entry."""
        here = ("stages", name)
        if name in self._inputs:
            raise self._source.error(here, "an input has the same name; rename one of the two")
        rest = dict(entry)
        used = rest.pop("use", name)
        if used not in self._catalogue:
            what = f"no stage is called {used!r}; {allowed(used, sorted(self._catalogue))}"
            raise self._source.error(here, what)
        stage = self._catalogue[used]
        upstream = self._upstream(here, stage, rest.pop("of", None))
        sides = self._sides(here, stage, rest.pop("from", None) or {})
        params = self._source.validated(stage.params, rest, here)
        self.nodes.append(Node(name, stage, params, self._run(name, stage), upstream, sides))
        self._columns[name] = self._columns_after(here, stage, upstream)
        if stage.conserves:
            self._rows = name

    def check_execution(self) -> None:
        """Refuse an execution entry for a stage that the recipe does not have."""
        names = sorted(node.name for node in self.nodes)
        for name in self._execution:
            if name not in (*names, "all"):
                what = f"no stage of this recipe has that name; {allowed(name, ['all', *names])}"
                raise self._source.error(("execution", name), what)

    def _columns_after(self, here: tuple[str, str], stage: AnyStage, upstream: str) -> "_Columns":
        """The columns of a stage's rows, each with the stage that added it, once its input's have
        been checked.
        """
        before = self._columns.get(upstream, {})
        if not stage.reads_files:
            self._check_columns(here, stage.needs, upstream)
        if stage.reads_files or not stage.conserves:
            before = {}
        for column in stage.adds:
            maker = before[column.name][1] if column.name in before else stage.name
            if maker != stage.name and column not in stage.rewrites:
                what = (
                    f"adds the column {column.name!r}, which {maker!r} has added already; leave "
                    "one of the two out"
                )
                raise self._source.error(here, what)
        return {**before, **{column.name: (column, stage.name) for column in stage.adds}}

    def _check_columns(
        self, field: tuple[str, ...], needs: tuple[Column, ...], source: str
    ) -> None:
        """Refuse a source that lacks a column, naming the stages that would add it."""
        have = self._columns[source]
        for column in needs:
            if column.name not in have:
                makers = [name for name, stage in self._catalogue.items() if column in stage.adds]
                hint = f"; {' or '.join(makers)} adds it, so put that before" if makers else ""
                what = f"needs the column {column.name!r}, which the rows of {source!r} lack{hint}"
                raise self._source.error(field, what)
            if have[column.name][0].type != column.type:
                what = (
                    f"needs the column {column.name!r} of type {column.type}; in the rows of "
                    f"{source!r} it is of type {have[column.name][0].type}"
                )
                raise self._source.error(field, what)

    def _check_kind(
        self, field: tuple[str, ...], source: str, wants_files: bool, suffixes: tuple[str, ...]
    ) -> None:
        """Refuse files where rows are needed, rows where files are, and a stage without a file."""
        if wants_files and source not in self._inputs:
            known = ", ".join(sorted(self._inputs)) or "none"
            what = f"reads files, and {source!r} is a stage; inputs of this recipe: {known}"
            raise self._source.error(field, what)
        if wants_files:
            return
        if source in self._inputs:
            stages = ", ".join(node.name for node in self.nodes) or "none"
            what = f"reads rows, and {source!r} is an input of files; earlier stages: {stages}"
            raise self._source.error(field, what)
        maker = next(node.stage for node in self.nodes if node.name == source)
        for suffix in suffixes:
            if suffix not in maker.files:
                makers = [name for name, stage in self._catalogue.items() if suffix in stage.files]
                what = (
                    f"needs the .{suffix} files of {' or '.join(makers)}, and {source!r} writes "
                    f"{', '.join(maker.files) or 'none'}"
                )
                raise self._source.error(field, what)

    def _run(self, name: str, stage: AnyStage) -> Execution:
        common = {
            field: value
            for field, value in self._execution.get("all", {}).items()
            if field in stage.execution.model_fields
        }
        own = {**common, **self._execution.get(name, {})}
        execution: Execution = self._source.validated(stage.execution, own, ("execution", name))
        return execution

    def _upstream(self, here: tuple[str, str], stage: AnyStage, entry: object) -> str:
        if entry is not None and not isinstance(entry, str):
            raise self._source.error((*here, "of"), f"names one stage or input, not {entry!r}")
        source = entry or (stage.reads if stage.reads != "rows" else self._rows)
        if source is None:
            raise self._source.error(here, "comes first, but needs the rows of an earlier stage")
        known = self._known((*here, "of"), source)
        self._check_kind((*here, "of"), known, stage.reads_files, stage.needs_files)
        return known

    def _sides(self, here: tuple[str, str], stage: AnyStage, entry: object) -> dict[str, str]:
        if not isinstance(entry, Mapping) or not all(isinstance(v, str) for v in entry.values()):
            names = ", ".join(sorted(stage.sides)) or "none"
            what = f"maps inputs of {stage.name} ({names}) to names, not {entry!r}"
            raise self._source.error((*here, "from"), what)
        for side in entry:
            if side not in stage.sides:
                what = f"{stage.name} has no such input; {allowed(side, sorted(stage.sides))}"
                raise self._source.error((*here, "from", side), what)
        everything = [*sorted(self._inputs), *(node.name for node in self.nodes)]
        all_sides = {name: name for name in everything} if stage.sees_all else {}
        defaults = {side: spec.default for side, spec in stage.sides.items()}
        chosen = {**all_sides, **defaults, **entry}
        for side, source in chosen.items():
            self._known((*here, "from", side), source)
        for side, spec in stage.sides.items():
            self._check_side((*here, "from", side), spec, chosen[side])
        return chosen

    def _check_side(self, field: tuple[str, ...], spec: SideSpec, source: str) -> None:
        suffixes = spec.files if isinstance(spec, RowsSide) else ()
        self._check_kind(field, source, isinstance(spec, FilesSide), suffixes)
        if isinstance(spec, RowsSide):
            self._check_columns(field, spec.needs, source)

    def _known(self, field: tuple[str, ...], source: str) -> str:
        earlier = [node.name for node in self.nodes]
        if source not in earlier and source not in self._inputs:
            known = sorted(self._inputs) + earlier
            what = f"needs {source!r}, which is neither an input nor an earlier stage; "
            raise self._source.error(field, what + allowed(source, known))
        return source
