"""Stages: a name, a version, frozen parameters and a pure function, in one of three shapes.

`Map` works on one partition at a time, `Exchange` makes rows meet by key, `Fold` reduces
partitions to one small artifact. Parameters are identity; `Execution` is how a stage runs and
never enters a key.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from pipeline.inputs import Files
from pipeline.store.result import Result

Side = Result | Files

KEY = "key"
"""The column that an exchange adds while rows travel: fixed_size_binary(16), gone afterwards."""


STATUS = "status"
"""The file of a scratch folder that holds what `Task.tell` said last."""


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


@dataclass(frozen=True)
class Task:
    """What a stage's function is given: one partition, its parameters and the other inputs it
    named.

    `table` holds the partition's rows, sorted by uid. `upstream` is the whole input and `sides` the
    other inputs by name. `scratch` is a folder of the stage's own that survives a kill; it exists
    for stages that see their input whole.
    """

    index: int
    params: Any
    execution: Any
    table: pa.Table
    upstream: Side
    sides: Mapping[str, Side]
    scratch: Path | None = None

    def tell(self, line: str) -> None:
        """Say in one line how far a long task is, for whoever watches the run."""
        if self.scratch is not None:
            self.scratch.mkdir(parents=True, exist_ok=True)
            (self.scratch / STATUS).write_text(line, encoding="utf-8")


@dataclass(frozen=True)
class Output:
    """What a stage's function gives back: rows with verdicts, and files to keep beside them by
    suffix.
    """

    table: pa.Table
    files: Mapping[str, bytes | memoryview | Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Map:
    """One partition in, the same rows out with verdicts.

    `whole` makes a single partition of the whole input, for work that cannot be cut (training); its
    task's table then holds `columns` of every row (all of them by default).
    """

    run: Callable[[Task], Output]
    whole: bool = False
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Exchange:
    """Rows meet by key: `spread` gives every row its key, `run` sees all the rows of a bucket at
    once.

    `spread(table, params)` returns a table with the column `KEY`; it may repeat rows in a stage
    that does not conserve them. Buckets are ranges of keys, `buckets(rows, params)` of them.
    """

    spread: Callable[[pa.Table, Any], pa.Table]
    run: Callable[[Task], Output]
    buckets: Callable[[int, Any], int]


@dataclass(frozen=True)
class Fold:
    """Partitions to one small table: `part` of each, merged associatively, then finished.

    `part(task)` is the table of one partition; `merge(tables, params)` joins any number of them,
    read one at a time, and gives the same result however they are grouped.
    """

    part: Callable[[Task], pa.Table]
    merge: Callable[[Iterable[pa.Table], Any], pa.Table]


Shape = Map | Exchange | Fold


@dataclass(frozen=True)
class Stage:
    """One kind of work.

    `reads` is "rows" for a stage that takes the rows of the stage before it, or the name of the
    input or stage that it takes by default. `conserves` promises its input's rows back, each with
    a verdict. `sides` names further inputs and where each comes from by default; `sees_all` adds
    every input and earlier stage of the recipe. `modules` are those whose source makes up the
    stage, watched for drift.
    """

    name: str
    version: int
    summary: str
    params: type[BaseModel]
    shape: Shape
    reasons: type[StrEnum] | None = None
    reads: str = "rows"
    conserves: bool = True
    sides: Mapping[str, str] = field(default_factory=dict)
    sees_all: bool = False
    execution: type[Execution] = Execution
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Parameters that could change or grow unnoticed are refused here, once."""
        config = self.params.model_config
        if not config.get("frozen") or config.get("extra") != "forbid":
            raise TypeError(f"{self.name}: {self.params.__name__} must be frozen and forbid extras")

    def damages(self) -> frozenset[str]:
        """The reasons that mean a row was lost to a fault."""
        members = self.reasons or ()
        return frozenset(str(reason) for reason in members if getattr(reason, "damage", False))

    def label(self, reason: str) -> str:
        """What a person reads for a reason."""
        members = {str(member): member for member in self.reasons or ()}
        return str(getattr(members.get(reason), "label", reason))
