"""A tiny catalogue for the engine's tests: numbers instead of pairs, every shape once.

Lives in a module of its own so that Ray's workers can import it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import UID, URL
from pipeline.dataset.verdict import Judge, Reason
from pipeline.exchange import sort_by_uid
from pipeline.recipe.recipe import load
from pipeline.run import Build, build
from pipeline.schedule.scheduler import Scheduler
from pipeline.stage import (
    AnyStage,
    Exchange,
    FileTask,
    Fold,
    Keyed,
    Map,
    Output,
    Read,
    RowsSide,
    RowsTask,
    Rule,
    Stage,
)
from pipeline.store.objects import Store
from pipeline.store.result import Result
from pipeline.watch.progress import Progress

NUMBER = Column("number", pa.int64(), "A number.")
COUNT = Column("count", pa.int64(), "How often it occurs.", "rows")
TOTAL = Column("total", pa.int64(), "How many different numbers there are.")


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


def _numbers(task: FileTask[NumbersParams]) -> Output:
    seed = int(task.file.read())
    numbers = [(seed * 7919 + 31 * row) % 997 for row in range(task.params.rows)]
    names = [f"http://n.example/{seed}/{row}" for row in range(task.params.rows)]
    uids = pa.array([digest(name) for name in names], pa.binary(16))
    return Output(sort_by_uid(pa.table({"uid": uids, "url": names, "number": numbers})))


def _divide(table: pa.Table, params: DivideParams) -> pa.Table:
    numbers = table["number"].to_numpy()
    judge = Judge(table)
    judge.drop(numbers % 7 == 6, Why.BROKEN, numbers)
    judge.drop(numbers % params.divisor == 0, Why.DIVISIBLE, numbers, params.divisor)
    return judge.table()


def _by_number(table: pa.Table, params: Params) -> Keyed:
    keys = [digest(str(number)) for number in table["number"].to_pylist()]
    return Keyed(table, pa.array(keys, pa.binary(16)))


def _distinct(table: pa.Table, params: Params) -> pa.Table:
    numbers = table["number"].to_numpy()
    _, first = np.unique(numbers, return_index=True)
    judge = Judge(table)
    judge.drop(~np.isin(np.arange(len(numbers)), first), Why.REPEATED, numbers)
    return judge.table()


def _four(rows: int, params: Params) -> int:
    return 4


def _count(task: RowsTask[Params]) -> pa.Table:
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


def _rarest(task: RowsTask[Params]) -> Output:
    total = task.result("counts").table().num_rows
    return Output(put(task.table, {TOTAL: pa.array([total] * task.table.num_rows, pa.int64())}))


NUMBERS = Stage(
    "numbers", 1, "Numbers", NumbersParams, Read(_numbers), adds=(UID, URL, NUMBER), reads="seeds"
)
DIVIDE = Stage(
    "divide", 1, "Divide", DivideParams, Map.over(_divide), needs=(UID, NUMBER), reasons=Why
)
DISTINCT = Stage(
    name="distinct",
    version=1,
    summary="Distinct",
    params=Params,
    shape=Exchange(_by_number, Rule(_distinct), _four),
    needs=(NUMBER,),
    reasons=Why,
)
COUNTED = Stage(
    name="count",
    version=1,
    summary="Count",
    params=Params,
    shape=Fold(_count, _merge),
    needs=(NUMBER,),
    adds=(NUMBER, COUNT),
    conserves=False,
)
RAREST = Stage(
    name="rarest",
    version=1,
    summary="Rarest",
    params=Params,
    shape=Map(_rarest),
    adds=(TOTAL,),
    sides={"counts": RowsSide("count", needs=(NUMBER, COUNT))},
)
CATALOGUE: dict[str, AnyStage] = {
    stage.name: stage for stage in (NUMBERS, DIVIDE, DISTINCT, COUNTED, RAREST)
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
        name: (dataset.manifest.content_digest, dataset.manifest.ledger_digest)
        for name, dataset in made.finished.items()
    }


def brute_force(seeds: int, rows: int, divisor: int) -> list[int]:
    """The distinct numbers that should be left, computed with no engine at all."""
    numbers = {(seed * 7919 + 31 * row) % 997 for seed in range(seeds) for row in range(rows)}
    return sorted(n for n in numbers if n % 7 != 6 and n % divisor)


def numbers_left(result: Result) -> list[int]:
    return sorted(pc.unique(result.table()["number"]).to_pylist())
