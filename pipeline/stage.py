"""Stages: a name, a version, frozen parameters, the columns they need and add, and a pure function.

The function has one of five shapes: `Read` makes rows from a file, `Map` works on one partition at
a time, `Exchange` makes rows meet by key, `Fold` reduces partitions to one small table, `Whole`
sees its input at once. Parameters are identity; `Execution` is how a stage runs and never enters a
key.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from pipeline.dataset.column import Column
from pipeline.dataset.params import Params
from pipeline.dataset.verdict import RESERVED, Reason
from pipeline.errors import RecipeError
from pipeline.inputs import Files, InputFile
from pipeline.store.result import Result

Side = Result | Files
"""What a stage reads: the rows of a finished stage, or files that the user gave."""

STATUS = "status"
"""The file of a scratch folder that holds what `WholeTask.report` said last."""


class Execution(BaseModel):
    """How a stage runs. None of it can change a result, so none of it is part of its identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_cpus: float = Field(default=1, gt=0)
    """Cores that Ray reserves for one partition."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs that Ray reserves for one partition."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that Ray reserves for one partition, in GB."""
    retries: int = Field(default=3, ge=0)
    """How often a partition is tried again when its worker dies."""
    hedge_after: float = Field(default=5.0, ge=1)
    """A straggler is started a second time after this many medians; the first to finish counts."""
    loss_budget: float = Field(default=0.05, ge=0, le=1)
    """The share of rows that may be lost to damage before the run ends with exit code 2."""


P = TypeVar("P", bound=Params)
E = TypeVar("E", bound=Execution, default=Execution)


@dataclass(frozen=True)
class FilesSide:
    """A further input of a stage that consists of files; `default` names it in a recipe."""

    default: str
    about: str = ""


@dataclass(frozen=True)
class RowsSide:
    """A further input of a stage that is another stage's result.

    `needs` are the columns and `files` the suffixes of the files that it must have.
    """

    default: str
    about: str = ""
    needs: tuple[Column, ...] = ()
    files: tuple[str, ...] = ()


SideSpec = FilesSide | RowsSide


@dataclass(frozen=True)
class Task(Generic[P, E]):
    """What every stage function is given: which partition, its parameters, the other inputs."""

    index: int
    params: P
    execution: E
    sides: Mapping[str, Side]

    def result(self, side: str) -> Result:
        """A side that is a finished stage; RecipeError if it is none."""
        source = self.sides.get(side)
        if isinstance(source, Result):
            return source
        raise RecipeError(f"{side}: give it the result of a stage, not files")

    def files(self, side: str) -> Files:
        """A side that consists of files; RecipeError if it does not."""
        source = self.sides.get(side)
        if isinstance(source, Files):
            return source
        raise RecipeError(f"{side}: give it files, not the result of a stage")


@dataclass(frozen=True)
class FileTask(Task[P, E]):
    """One file of an input, from which rows are made."""

    file: InputFile


@dataclass(frozen=True)
class RowsTask(Task[P, E]):
    """One partition, or one bucket: `table` holds its rows, sorted by uid."""

    table: pa.Table


@dataclass(frozen=True)
class WholeTask(RowsTask[P, E]):
    """A whole input at once.

    `table` holds the rows of a stage that conserves them, `upstream` is where they come from, and
    `scratch` is a folder of the stage's own that survives a kill.
    """

    upstream: Result
    scratch: Path

    def report(self, line: str) -> None:
        """Say in one line how far a long task is, for whoever watches the run."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.scratch / STATUS).write_text(line, encoding="utf-8")


@dataclass(frozen=True)
class Output:
    """What a stage function returns: rows with verdicts, and files to keep beside them by
    suffix.
    """

    table: pa.Table
    files: Mapping[str, bytes | memoryview | Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Keyed:
    """Rows on their way to a bucket: `keys` is fixed_size_binary(16), one for each row."""

    table: pa.Table
    keys: pa.Array


@dataclass(frozen=True)
class Rule(Generic[P]):
    """A rule of curation, `(table, params) -> table with verdicts`, as a stage function."""

    rule: Callable[[pa.Table, P], pa.Table]

    def __call__(self, task: RowsTask[P, Any]) -> Output:
        """Judge the rows of a partition."""
        return Output(self.rule(task.table, task.params))


@dataclass(frozen=True)
class Read(Generic[P, E]):
    """Rows from files: each file of the input is one partition."""

    run: Callable[[FileTask[P, E]], Output]


@dataclass(frozen=True)
class Map(Generic[P, E]):
    """One partition in, one partition out."""

    run: Callable[[RowsTask[P, E]], Output]

    @classmethod
    def over(cls, rule: Callable[[pa.Table, P], pa.Table]) -> "Map[P, E]":
        """A map that needs nothing but its rows and parameters."""
        return cls(Rule(rule))


@dataclass(frozen=True)
class Exchange(Generic[P, E]):
    """Rows meet by key: `spread` gives every row its key, `run` sees all the rows of a bucket at
    once.

    `spread(table, params)` may repeat rows in a stage that does not conserve them. Buckets are
    ranges of keys, `buckets(rows, params)` of them.
    """

    spread: Callable[[pa.Table, P], Keyed]
    run: Callable[[RowsTask[P, E]], Output]
    buckets: Callable[[int, P], int]


@dataclass(frozen=True)
class Fold(Generic[P, E]):
    """Partitions to one small table: `part` of each, merged associatively.

    `part(task)` is the table of one partition; `merge(tables, params)` joins any number of them,
    read one at a time, and gives the same result however they are grouped.
    """

    part: Callable[[RowsTask[P, E]], pa.Table]
    merge: Callable[[Iterable[pa.Table], P], pa.Table]


@dataclass(frozen=True)
class Whole(Generic[P, E]):
    """The whole input as one partition, for work that cannot be cut (training).

    A stage that conserves rows is given their `columns` (all of them by default). It works in a
    scratch folder, so its store must be on a local disk.
    """

    run: Callable[[WholeTask[P, E]], Output]
    columns: tuple[str, ...] | None = None


Shape: TypeAlias = Read[P, E] | Map[P, E] | Exchange[P, E] | Fold[P, E] | Whole[P, E]


@dataclass(frozen=True)
class Stage(Generic[P, E]):
    """One kind of work.

    `needs` are the columns that its input must have and `adds` those that it adds, or, if it does
    not conserve rows, all that its own rows have; `rewrites` are those of `adds` that may be
    another stage's. `reads` is "rows" for a stage that takes the rows of the stage before it, or
    the name of the input or stage that it takes by default. `conserves` promises its input's rows
    back, each with a verdict. `files` are the suffixes of what it writes beside its rows,
    `needs_files` of what its input must have. `sides` are further inputs by name; `sees_all` adds
    every input and earlier stage of the recipe.

    Raises TypeError where a declaration contradicts itself.
    """

    name: str
    version: int
    summary: str
    params: type[P]
    shape: Shape[P, E]
    needs: tuple[Column, ...] = ()
    adds: tuple[Column, ...] = ()
    rewrites: tuple[Column, ...] = ()
    reasons: type[Reason] | None = None
    reads: str = "rows"
    conserves: bool = True
    files: tuple[str, ...] = ()
    needs_files: tuple[str, ...] = ()
    sides: Mapping[str, SideSpec] = field(default_factory=dict)
    sees_all: bool = False
    execution: type[E] = Execution  # type: ignore[assignment]  # the default of E

    def __post_init__(self) -> None:
        """Parameters that could change or grow unnoticed are refused here, once."""
        config = self.params.model_config
        if not config.get("frozen") or config.get("extra") != "forbid":
            raise TypeError(f"{self.name}: {self.params.__name__} must be frozen and forbid extras")
        if isinstance(self.shape, Fold) and self.conserves:
            raise TypeError(f"{self.name}: a Fold makes rows of its own, so conserves is False")
        if taken := RESERVED & {column.name for column in self.adds}:
            raise TypeError(f"{self.name}: columns called {sorted(taken)} are the ledger's")
        if not set(self.rewrites) <= set(self.adds):
            raise TypeError(f"{self.name}: what it rewrites is among what it adds")

    @property
    def reads_files(self) -> bool:
        """Whether its input is files and not rows."""
        return isinstance(self.shape, Read)

    def columns_after(self, before: Iterable[Column]) -> tuple[Column, ...]:
        """The columns of its result, given those of its input."""
        if self.reads_files or not self.conserves:
            return self.adds
        return tuple({column.name: column for column in (*before, *self.adds)}.values())

    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions that make its result, for whoever asks where their source is."""
        functions: list[Callable[..., Any]] = []
        for function in vars(self.shape).values():
            if callable(function):
                functions.append(function.rule if isinstance(function, Rule) else function)
        return tuple(functions)

    def reason_list(self) -> dict[str, dict[str, str | bool]]:
        """Its closed list of reasons in plain values: label, hint and damage of each."""
        return {
            str(reason): {"label": reason.label, "hint": reason.hint, "damage": reason.damage}
            for reason in self.reasons or ()
        }


AnyStage: TypeAlias = Stage[Any, Any]
