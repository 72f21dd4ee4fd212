"""What a worker does: one partition of one stage, from its rows to its commit.

Two kinds of work cover the five shapes. `spill` is the first half of an exchange or a fold; `part`
makes a committed part. Both are plain functions of a `StageRun` and an index, so any scheduler can
call them, twice if need be.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.contract import check_columns, check_conserved
from pipeline.dataset.errors import DamagedFile, OpenwitError
from pipeline.dataset.manifest import Part
from pipeline.dataset.params import Params
from pipeline.errors import StageFailed
from pipeline.exchange import SpillIndex, cut, sort_by_uid, whole
from pipeline.inputs import Files, InputFile
from pipeline.stage import (
    STATUS,
    AnyStage,
    Exchange,
    Execution,
    FileTask,
    Fold,
    Map,
    Output,
    Read,
    RowsTask,
    Side,
    Whole,
    WholeTask,
)
from pipeline.store.objects import Store
from pipeline.store.parts import PartWriter, Split, parquet_bytes, part_record, split
from pipeline.store.result import Result

FOLD_GROUP = 64
"""Source partitions that one worker folds into one spill."""


@dataclass(frozen=True)
class StageRun:
    """A stage about to run: what it is, what it reads, and where it writes. Travels to workers."""

    stage: AnyStage
    params: Params
    execution: Execution
    store: Store
    folder: str
    upstream: Side
    sides: Mapping[str, Side]

    @property
    def rows(self) -> Result:
        """The result that it reads rows from; StageFailed for a stage that reads files."""
        if isinstance(self.upstream, Result):
            return self.upstream
        raise StageFailed(f"{self.stage.name}: reads rows, and was given {self.upstream}")

    @property
    def files(self) -> Files:
        """The files that it reads; StageFailed for a stage that reads rows."""
        if isinstance(self.upstream, Files):
            return self.upstream
        raise StageFailed(f"{self.stage.name}: reads files, and was given {self.upstream}")

    @property
    def writer(self) -> PartWriter:
        """Where its parts go."""
        return PartWriter(self.store, self.folder)

    @property
    def index(self) -> SpillIndex:
        """Where its spills are listed."""
        return SpillIndex(self.store, self.folder)

    @property
    def scratch(self) -> Path | None:
        """A folder of its own that survives a kill, None in a store that is no local folder."""
        return self.store.local(f"{self.folder}/scratch")

    def status(self) -> str:
        """What a long task said last of how far it is; empty if it says nothing."""
        try:
            return (self.scratch / STATUS).read_text(encoding="utf-8") if self.scratch else ""
        except FileNotFoundError:
            return ""

    def task(self, index: int, table: pa.Table) -> RowsTask[Any, Any]:
        """The stage function's view of one partition."""
        return RowsTask(index, self.params, self.execution, self.sides, table)


@dataclass(frozen=True)
class Done:
    """What the driver learns of a finished piece of work: counts, nothing that grows with the
    data.
    """

    index: int
    rows_in: int
    rows_kept: int
    reasons: Mapping[str, int]


def num_buckets(run: StageRun, shape: Exchange[Any, Any]) -> int:
    """How many buckets an exchange has: a function of its input's rows and its parameters."""
    return max(1, shape.buckets(run.rows.manifest.rows_kept, run.params))


def spill(run: StageRun, index: int) -> Done:
    """The first half of an exchange or a fold for one source partition (or group of them)."""
    with _named(run, index):
        clock = WorkClock()
        match run.stage.shape:
            case Exchange() as shape:
                keyed = shape.spread(run.rows.rows(index), run.params)
                table, sections = keyed.table, cut(keyed, num_buckets(run, shape))
            case Fold() as shape:
                table = _folded(run, shape, index)
                sections = whole(table)
            case shape:
                raise StageFailed(f"a {type(shape).__name__} spills nothing")
        ref = run.writer.file("spill", index, "arrow", sections.data)
        schema = bytes(table.schema.serialize()).hex()
        record = {
            "path": ref.path,
            "offsets": sections.offsets,
            "schema": schema,
            "run": clock.facts(),
        }
        run.writer.commit("spilled", index, record)
    return Done(index, sections.rows, sections.rows, {})


def _folded(run: StageRun, shape: Fold[Any, Any], group: int) -> pa.Table:
    parts = run.rows.manifest.parts[group * FOLD_GROUP : (group + 1) * FOLD_GROUP]
    tasks = (run.task(part.index, run.rows.rows(part.index)) for part in parts)
    return shape.merge((shape.part(task) for task in tasks), run.params)


@dataclass(frozen=True)
class _Work:
    """A partition as it was given and as its function returned it.

    `table` is None where rows were made from a file, `file` is that file.
    """

    rows_in: int
    output: Output
    table: pa.Table | None = None
    file: InputFile | None = None


def part(run: StageRun, index: int) -> Done:
    """Make and commit one part."""
    with _named(run, index):
        clock = WorkClock()
        work = _work(run, index)
        if run.stage.conserves and work.table is not None:
            check_conserved(work.table, work.output.table)
        check_columns(run.stage, work.table, work.output.table)
        reasons = frozenset(map(str, run.stage.reasons or ()))
        rows = split(work.output.table, reasons)
        committed = _write(run, index, work, rows)
        facts = {"file": work.file.facts()} if work.file else {}
        record = part_record(committed, clock.facts()) | facts
        winner = Part.from_json(run.writer.commit("done", index, record))
    return Done(index, winner.rows_in, winner.rows_kept, winner.reasons)


def _work(run: StageRun, index: int) -> _Work:
    """Call the stage's function on what its shape says."""
    match run.stage.shape:
        case Read(function):
            file = run.files.files[index]
            output = function(FileTask(index, run.params, run.execution, run.sides, file))
            return _Work(output.table.num_rows, output, file=file)
        case Map(function):
            table = run.rows.rows(index)
        case Exchange(run=function):
            sections = list(run.index.sections(index))
            rows = pa.concat_tables(sections) if sections else run.index.schema().empty_table()
            table = sort_by_uid(rows)
        case Fold(merge=merge):
            output = Output(merge(run.index.sections(index), run.params))
            return _Work(run.rows.manifest.rows_kept, output)
        case Whole(function, columns):
            return _whole(run, index, function, columns)
    return _Work(table.num_rows, function(run.task(index, table)), table)


def _whole(run: StageRun, index: int, function: Any, columns: tuple[str, ...] | None) -> _Work:
    if run.scratch is None:
        raise StageFailed(f"works on a local disk, and the store is {run.store.url}")
    # A stage that derives rows of its own reads what it needs of its input itself.
    table = run.rows.table(columns) if run.stage.conserves else pa.table({})
    own = (index, run.params, run.execution, run.sides)
    return _Work(table.num_rows, function(WholeTask(*own, table, run.rows, run.scratch)), table)


def _write(run: StageRun, index: int, work: _Work, rows: Split) -> Part:
    writer = run.writer
    files = {"parquet": writer.file("parts", index, "parquet", parquet_bytes(rows.kept))}
    for suffix, data in work.output.files.items():
        files[suffix] = writer.file("parts", index, suffix, data)
    if rows.dropped.num_rows:
        files["dropped"] = writer.file("dropped", index, "parquet", parquet_bytes(rows.dropped))
    dropped = rows.dropped.num_rows
    return Part(index, work.rows_in, rows.kept.num_rows, dropped, rows.reasons, files)


@contextmanager
def _named(run: StageRun, index: int) -> Iterator[None]:
    """Say which stage and partition an error came from."""
    where = f"{run.stage.name}, partition {index}"
    try:
        yield
    except StageFailed as error:
        raise StageFailed(f"{where}: {error}") from error
    except DamagedFile as error:
        raise DamagedFile(f"{where} cannot trust its input: {error}") from error
    except OpenwitError:
        raise
    except Exception as error:
        raise StageFailed(f"{where}: {type(error).__name__}: {error}") from error


class WorkClock:
    """Wall-clock facts of one piece of work: for records and people, never for identity."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def facts(self) -> dict[str, Any]:
        """Where it ran, when it began, and how long it has taken so far."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started.isoformat(timespec="milliseconds"),
            "seconds": round(time.monotonic() - self._wall, 6),
            "cpu_seconds": round(time.process_time() - self._cpu, 6),
        }
