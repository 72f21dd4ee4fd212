"""The engine against Ray Data: a map that adds a column, and a hash exchange with a sorted write.

Both sides read the same Parquet files, do the same work on the same local Ray and write Parquet.
Ours also digests and commits every partition, which its times include.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.bench.table import Measurement, against, bounded, interleaved, seconds
from pipeline.dataset import schema
from pipeline.dataset.column import Column
from pipeline.dataset.manifest import parquet_table
from pipeline.dataset.params import Params
from pipeline.inputs import Files, resolve
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.wiring import Node
from pipeline.run import build
from pipeline.schedule.on_ray import OnRay
from pipeline.stage import (
    AnyStage,
    Exchange,
    Execution,
    FileTask,
    Keyed,
    Output,
    Read,
    RowsTask,
    Stage,
)
from pipeline.store.objects import Store
from pipeline.store.result import Result
from pipeline.watch.progress import Progress

ROWS_PER_FILE = 250_000
ROWS_PER_BUCKET = 500_000
NOOP_PARTITIONS = 1_000


def _no_rows(task: FileTask[Params]) -> Output:
    return Output(pa.table({"uid": pa.array([], pa.binary(16))}))


def _measured(table: pa.Table) -> pa.Table:
    """The work of the map, on both sides: the length of each caption in a column of its own."""
    return table.append_column("chars", pc.utf8_length(table["caption"]))


def _map(task: FileTask[Params]) -> Output:
    return Output(_measured(parquet_table(task.file.read())))


def _by_uid(table: pa.Table, params: Params) -> Keyed:
    return Keyed(table, table["uid"].combine_chunks())


def _as_it_is(task: RowsTask[Params]) -> Output:
    return Output(task.table)


def _buckets(rows: int, params: Params) -> int:
    return -(-rows // ROWS_PER_BUCKET)


CHARS = Column("chars", pa.int32(), "Length of the caption.", "characters")
PAIRS = (schema.UID, schema.URL, schema.CAPTION, CHARS)
NOOP = Stage("noop", 1, "Nothing", Params, Read(_no_rows), adds=(schema.UID,))
MAP = Stage("map", 1, "Length of each caption", Params, Read(_map), adds=PAIRS)
EXCHANGE = Stage("exchange", 1, "Sort", Params, Exchange(_by_uid, _as_it_is, _buckets))


def measure(sizes: Sequence[int], repeats: int) -> list[Measurement]:
    """All rows of the bench, for datasets of `sizes` rows each (ascending)."""
    with TemporaryDirectory(prefix="openwit-bench-") as folder, _ray() as scheduler:
        rows = [_noop(Path(folder), scheduler, repeats)]
        times: dict[tuple[str, int], tuple[float, float]] = {}
        driver = psutil.Process()
        before = after = 0
        for size in sizes:
            source = Path(folder) / f"source-{size}"
            write_pairs(source, size)
            ours = _Ours(source, Path(folder), scheduler)
            peer = _RayData(source, Path(folder))
            before = driver.memory_info().rss if size == sizes[0] else before
            for kind in ("map", "exchange"):
                calls = (getattr(ours, kind), getattr(peer, kind))
                our_seconds, peer_seconds = interleaved(calls, repeats)
                times[kind, size] = (our_seconds, peer_seconds)
            after = driver.memory_info().rss
            shutil.rmtree(source)
        rows += _compared(sizes, times)
        rows.append(bounded("driver memory growth", (after - before) / 1e6, "MB", 50))
        return rows


def _compared(
    sizes: Sequence[int], times: dict[tuple[str, int], tuple[float, float]]
) -> Iterator[Measurement]:
    goals = {"map": 3.0, "exchange": 1.5}
    for (kind, size), (our_seconds, peer_seconds) in times.items():
        yield against(
            f"{kind} {size:,} rows", our_seconds, peer_seconds, "Ray Data", "s", goals[kind]
        )
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        for kind in goals:
            growth = times[kind, last][0] / times[kind, first][0]
            most = 1.1 * last / first
            yield bounded(f"{kind}: {last // first} x rows", growth, "x time", most)


def _noop(folder: Path, scheduler: OnRay, repeats: int) -> Measurement:
    source = folder / "noop"
    source.mkdir()
    for number in range(NOOP_PARTITIONS):
        (source / f"{number:05d}").write_bytes(b"")
    runs = count()

    def once() -> float:
        store = Store(str(folder / f"noop-{next(runs)}"))
        files = _files(source, store)
        return seconds(lambda: _run(NOOP, {"in": files}, store, scheduler))

    [taken] = interleaved([once], repeats)
    name = f"no-op map of {NOOP_PARTITIONS:,} partitions, each"
    return bounded(name, taken / NOOP_PARTITIONS * 1000, "ms", 10)


class _Ours:
    """The engine on one source."""

    def __init__(self, source: Path, folder: Path, scheduler: OnRay) -> None:
        self._source, self._folder, self._scheduler = source, folder, scheduler

    def map(self) -> float:
        with _emptied(self._folder / "ours") as place:
            store = Store(str(place))
            files = _files(self._source, store)
            return seconds(lambda: _run(MAP, {"in": files}, store, self._scheduler))

    def exchange(self) -> float:
        with _emptied(self._folder / "ours") as place:
            store = Store(str(place))
            rows = _run(MAP, {"in": _files(self._source, store)}, store, self._scheduler)
            os.sync()  # its source is on disk, as the peer's is
            return seconds(lambda: _run(EXCHANGE, {"in": rows}, store, self._scheduler))


class _RayData:
    """Ray Data on one source, on the same Ray."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self._folder = source, folder

    def map(self) -> float:
        with _emptied(self._folder / "peer") as place:
            rows = self._read(self._source).map_batches(
                _measured, batch_format="pyarrow", batch_size=None
            )
            return seconds(lambda: rows.write_parquet(str(place), compression="zstd"))

    def exchange(self) -> float:
        with _emptied(self._folder / "peer") as place:
            blocks = sum(1 for _ in self._source.glob("*.parquet"))
            rows = self._read(self._source).repartition(blocks, keys=["uid"], sort=True)
            return seconds(lambda: rows.write_parquet(str(place), compression="zstd"))

    def _read(self, place: Path) -> Any:
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        return ray.data.read_parquet(str(place))


def _run(stage: AnyStage, given: dict[str, Files | Result], store: Store, ray: OnRay) -> Result:
    node = Node(stage.name, stage, Params(), Execution(), "in", {})
    recipe = Recipe("bench", Path(), store.url, {}, (node,))
    return build(recipe, store, ray, Progress(), given=given).finished[stage.name]


def _files(source: Path, store: Store) -> Files:
    return resolve({"in": ("*",)}, source, store)["in"]


@contextmanager
def _ray() -> Iterator[OnRay]:
    scheduler = OnRay()
    try:
        yield scheduler
    finally:
        scheduler.close()


@contextmanager
def _emptied(place: Path) -> Iterator[Path]:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    os.sync()  # or the disk's backlog is charged to whoever runs next
    yield place
    shutil.rmtree(place)


def write_pairs(folder: Path, rows: int) -> None:
    """Write short pairs (uid, url, caption of 1 to 8 words) as Parquet files, always the same."""
    folder.mkdir(parents=True)
    words = pa.array([f"w{number:x}" * (1 + number % 3) for number in range(20_000)])
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        size = min(ROWS_PER_FILE, rows - start)
        pq.write_table(_pairs(number, size, words), folder / f"{number:05d}.parquet")


def _pairs(number: int, size: int, words: pa.Array) -> pa.Table:
    chance = np.random.Generator(np.random.Philox(number))
    uids = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), size, [None, pa.py_buffer(chance.bytes(16 * size))]
    )
    drawn = [words.take(pa.array(chance.zipf(1.3, size) % len(words))) for _ in range(8)]
    lengths = chance.integers(1, 9, size)
    spoken = [
        pc.if_else(pa.array(lengths > place), column, pa.scalar(""))
        for place, column in enumerate(drawn)
    ]
    captions = pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(*spoken, " "))
    numbers = pc.cast(pa.array(chance.integers(0, 1 << 40, size)), pa.string())
    urls = pc.binary_join_element_wise("https://images.example/", numbers, ".jpg", "")
    return pa.table({"uid": uids, "url": urls, "caption": captions})
