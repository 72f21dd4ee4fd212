"""What a worker does: one partition of one stage, from its rows to its commit.

Two kinds of work cover the three shapes. `spill` is the first half of an exchange or a fold; `part`
makes a committed part. Both are plain functions of a `StageRun` and an index, so any scheduler can
call them, twice if need be.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from pipeline.dataset.errors import DamagedFile, OpenwitError
from pipeline.dataset.manifest import Part
from pipeline.errors import StageFailed
from pipeline.exchange import SpillIndex, cut, sort_by_uid, whole
from pipeline.stage import (
    KEY,
    STATUS,
    Exchange,
    Execution,
    Fold,
    Map,
    Output,
    Side,
    Stage,
    Task,
)
from pipeline.store.objects import Store
from pipeline.store.parts import PartWriter, Split, parquet_bytes, part_record, split
from pipeline.store.result import Result

FOLD_GROUP = 64
"""Source partitions that one worker folds into one spill."""


@dataclass(frozen=True)
class StageRun:
    """A stage about to run: what it is, what it reads, and where it writes. Travels to workers."""

    stage: Stage
    params: BaseModel
    execution: Execution
    store: Store
    folder: str
    upstream: Side
    sides: Mapping[str, Side]

    @property
    def writer(self) -> PartWriter:
        """Where its parts go."""
        return PartWriter(self.store, self.folder)

    @property
    def index(self) -> SpillIndex:
        """Where its spills are listed."""
        return SpillIndex(self.store, self.folder)

    def status(self) -> str:
        """What a long task said last of how far it is; empty if it says nothing."""
        path = self.store.local(f"{self.folder}/scratch/{STATUS}")
        try:
            return path.read_text(encoding="utf-8") if path else ""
        except FileNotFoundError:
            return ""

    def task(self, index: int, table: pa.Table) -> Task:
        """The stage function's view of one partition."""
        shape = self.stage.shape
        root = self.store.local(f"{self.folder}/scratch")
        scratch = root if isinstance(shape, Map) and shape.whole else None
        return Task(
            index,
            self.params,
            self.execution,
            table,
            self.upstream,
            self.sides,
            scratch,
        )


@dataclass(frozen=True)
class Done:
    """What the driver learns of a finished piece of work: counts, nothing that grows with the
    data.
    """

    index: int
    rows_in: int
    rows_kept: int
    reasons: Mapping[str, int]


def spill(run: StageRun, index: int) -> Done:
    """The first half of an exchange or a fold for one source partition (or group of them)."""
    with _named(run, index):
        watch, shape = Stopwatch(), run.stage.shape
        if isinstance(shape, Exchange):
            assert isinstance(run.upstream, Result)
            table = shape.spread(run.upstream.rows(index), run.params)
            pieces = cut(table, num_buckets(run))
        else:
            assert isinstance(shape, Fold)
            table = _folded(run, shape, index)
            pieces = whole(table)
        ref = run.writer.file("spill", index, "arrow", pieces.data)
        schema = bytes(table.schema.serialize()).hex()
        record = {
            "path": ref.path,
            "offsets": pieces.offsets,
            "schema": schema,
            "run": watch.facts(),
        }
        run.writer.commit("spilled", index, record)
    return Done(index, pieces.rows, pieces.rows, {})


def _folded(run: StageRun, shape: Fold, group: int) -> pa.Table:
    assert isinstance(run.upstream, Result)
    parts = run.upstream.manifest.parts[group * FOLD_GROUP : (group + 1) * FOLD_GROUP]
    rows = (run.task(part.index, run.upstream.rows(part.index)) for part in parts)
    return shape.merge((shape.part(task) for task in rows), run.params)


def part(run: StageRun, index: int) -> Done:
    """Make and commit one part."""
    with _named(run, index):
        watch = Stopwatch()
        table, born = _input(run, index)
        output = _apply(run, run.task(index, table))
        rows_in = _rows_in(run, table, output, born)
        if run.stage.conserves and not born:
            _check_conserved(table, output.table)
        reasons = frozenset(str(reason) for reason in run.stage.reasons or ())
        rows = split(output.table, reasons)
        committed = _write(run, index, rows_in, rows, output)
        record = run.writer.commit("done", index, part_record(committed, watch.facts()))
    winner = Part.from_json(record)
    return Done(index, winner.rows_in, winner.rows_kept, winner.reasons)


def _input(run: StageRun, index: int) -> tuple[pa.Table, bool]:
    """The rows of a partition, and whether they are yet to be born from a file."""
    shape, upstream = run.stage.shape, run.upstream
    if isinstance(shape, Fold):
        return shape.merge(run.index.sections(index), run.params), False
    if isinstance(shape, Exchange):
        sections = list(run.index.sections(index))
        rows = pa.concat_tables(sections) if sections else run.index.schema().empty_table()
        return sort_by_uid(rows), False
    if not isinstance(upstream, Result):
        return pa.table({}), True
    if not shape.whole:
        return upstream.rows(index), False
    # A stage that derives something of its own reads what it needs of its input itself.
    table = upstream.table(shape.columns) if run.stage.conserves else pa.table({})
    return table, False


def _rows_in(run: StageRun, table: pa.Table, output: Output, born: bool) -> int:
    if isinstance(run.stage.shape, Fold) and isinstance(run.upstream, Result):
        return run.upstream.manifest.rows_kept
    rows: int = output.table.num_rows if born else table.num_rows
    return rows


def _apply(run: StageRun, task: Task) -> Output:
    shape = run.stage.shape
    if isinstance(shape, Fold):
        return Output(task.table)
    output = shape.run(task)
    if KEY in output.table.column_names:
        output = replace(output, table=output.table.drop_columns([KEY]))
    return output


def _check_conserved(before: pa.Table, after: pa.Table) -> None:
    if after.num_rows != before.num_rows:
        raise StageFailed(f"was given {before.num_rows} rows and returned {after.num_rows}")
    if not after["uid"].equals(before["uid"]):
        raise StageFailed("returned other rows than it was given, or in another order")


def _write(run: StageRun, index: int, rows_in: int, rows: Split, output: Output) -> Part:
    writer = run.writer
    files = {"parquet": writer.file("parts", index, "parquet", parquet_bytes(rows.kept))}
    for suffix, data in output.files.items():
        files[suffix] = writer.file("parts", index, suffix, data)
    if rows.dropped.num_rows:
        files["dropped"] = writer.file("dropped", index, "parquet", parquet_bytes(rows.dropped))
    dropped = rows.dropped.num_rows
    return Part(index, rows_in, rows.kept.num_rows, dropped, rows.reasons, files)


def num_buckets(run: StageRun) -> int:
    """How many buckets an exchange has: a function of its input's rows and its parameters."""
    shape = run.stage.shape
    assert isinstance(shape, Exchange) and isinstance(run.upstream, Result)
    return max(1, shape.buckets(run.upstream.manifest.rows_kept, run.params))


@contextmanager
def _named(run: StageRun, index: int) -> Iterator[None]:
    """Say which stage and partition an error came from."""
    where = f"{run.stage.name}, partition {index}"
    try:
        yield
    except StageFailed as error:
        raise StageFailed(f"{where}: {error}") from error
    except DamagedFile as error:
        raise StageFailed(f"{where}: cannot trust its input: {error}") from error
    except OpenwitError:
        raise
    except Exception as error:
        raise StageFailed(f"{where}: {type(error).__name__}: {error}") from error


class Stopwatch:
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
