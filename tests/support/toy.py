"""A tiny catalogue for the engine's tests: numbers instead of pairs, every shape once.

Lives in a module of its own so that Ray's workers can import it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.params import Params
from pipeline.dataset.verdict import Judge, Reason
from pipeline.exchange import sort_by_uid
from pipeline.inputs import Files
from pipeline.recipe import load
from pipeline.run import Build, build
from pipeline.schedule.scheduler import Scheduler
from pipeline.stage import KEY, Exchange, Fold, Map, Output, Stage, Task
from pipeline.store.objects import Store
from pipeline.store.result import Result
from pipeline.watch.progress import Progress


class NumbersParams(Params):
    """How many numbers a file stands for."""

    rows: int = 500


class DivideParams(Params):
    """Which numbers go."""

    divisor: int = 3


class Why(Reason):
    """Why a number goes."""

    DIVISIBLE = "divisible", "divisible by the divisor"
    BROKEN = "broken", "could not be read", "", True
    REPEATED = "repeated", "the same number again"


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _numbers(task: Task) -> Output:
    assert isinstance(task.upstream, Files)
    seed = int(task.upstream.open(task.index).read())
    numbers = [(seed * 7919 + 31 * row) % 997 for row in range(task.params.rows)]
    names = [f"http://n.example/{seed}/{row}" for row in range(task.params.rows)]
    uids = pa.array([digest(name) for name in names], pa.binary(16))
    return Output(sort_by_uid(pa.table({"uid": uids, "url": names, "number": numbers})))


def _divide(task: Task) -> Output:
    numbers = task.table["number"].to_numpy()
    judge = Judge(task.table)
    judge.drop(numbers % 7 == 6, Why.BROKEN, numbers)
    judge.drop(numbers % task.params.divisor == 0, Why.DIVISIBLE, numbers, task.params.divisor)
    return Output(judge.table())


def _by_number(table: pa.Table, params: Params) -> pa.Table:
    keys = [digest(str(number)) for number in table["number"].to_pylist()]
    return table.append_column(KEY, pa.array(keys, pa.binary(16)))


def _distinct(task: Task) -> Output:
    numbers = task.table["number"].to_numpy()
    _, first = np.unique(numbers, return_index=True)
    judge = Judge(task.table)
    judge.drop(~np.isin(np.arange(len(numbers)), first), Why.REPEATED, numbers)
    return Output(judge.table())


def _count(task: Task) -> pa.Table:
    return _counted(task.table["number"], pa.array(np.ones(task.table.num_rows, np.int64)))


def _merge(tables: Iterable[pa.Table], params: Params) -> pa.Table:
    together = pa.concat_tables(
        [_counted(pa.array([], pa.int64()), pa.array([], pa.int64())), *tables]
    )
    return _counted(together["number"], together["count"])


def _counted(numbers: pa.Array, counts: pa.Array) -> pa.Table:
    grouped = (
        pa.table({"number": numbers, "count": counts})
        .group_by("number")
        .aggregate([("count", "sum")])
    )
    columns = pa.table({"number": grouped["number"], "count": grouped["count_sum"]})
    return columns.sort_by("number")


def _rarest(task: Task) -> Output:
    counts = task.sides["counts"]
    assert isinstance(counts, Result)
    return Output(
        task.table.append_column("total", pa.array([counts.table().num_rows] * task.table.num_rows))
    )


MODULES = (__name__,)
CATALOGUE = {
    stage.name: stage
    for stage in (
        Stage(
            "numbers", 1, "Numbers", NumbersParams, Map(_numbers), reads="seeds", modules=MODULES
        ),
        Stage("divide", 1, "Divide", DivideParams, Map(_divide), Why, modules=MODULES),
        Stage(
            "distinct",
            1,
            "Distinct",
            Params,
            Exchange(_by_number, _distinct, lambda rows, p: 4),
            Why,
            modules=MODULES,
        ),
        Stage("count", 1, "Count", Params, Fold(_count, _merge), conserves=False, modules=MODULES),
        Stage(
            "rarest", 1, "Rarest", Params, Map(_rarest), sides={"counts": "count"}, modules=MODULES
        ),
    )
}
RECIPE = """\
name: toy
inputs:
  seeds: seeds/*
stages:
  numbers: {rows: 300}
  divide: {divisor: 3}
  distinct:
  count:
  rarest:
execution:
  divide: {loss_budget: 1.0}
"""


def write_recipe(folder: Path, text: str = RECIPE, seeds: int = 5) -> Path:
    """A folder with a recipe and its input files; returns the recipe's path."""
    (folder / "seeds").mkdir(exist_ok=True)
    for seed in range(seeds):
        (folder / "seeds" / f"{seed:03d}").write_text(str(seed))
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def build_toy(path: Path, store: Store, scheduler: Scheduler, until: str | None = None) -> Build:
    return build(load(path, CATALOGUE), store, scheduler, Progress(), until)


def contents(made: Build) -> dict[str, tuple[str, str]]:
    """What identifies each stage's result: kept rows and ledger."""
    return {
        name: (dataset.manifest.content, dataset.manifest.ledger)
        for name, dataset in made.finished.items()
    }


def brute_force(seeds: int, rows: int, divisor: int) -> list[int]:
    """The distinct numbers that should be left, computed with no engine at all."""
    numbers = {(seed * 7919 + 31 * row) % 997 for seed in range(seeds) for row in range(rows)}
    return sorted(n for n in numbers if n % 7 != 6 and n % divisor)


def numbers_left(dataset: Result) -> list[int]:
    return sorted(pc.unique(dataset.table()["number"]).to_pylist())
