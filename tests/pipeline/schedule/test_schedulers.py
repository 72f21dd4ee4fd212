"""Schedulers on a real Ray: the same bytes with any number of workers, and workers that die."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StageFailed
from pipeline.schedule.inline import Inline
from pipeline.schedule.on_ray import OnRay
from pipeline.schedule.window import Window
from pipeline.stage import Map, Output, RowsTask
from pipeline.store.objects import Store
from tests.support.toy import CATALOGUE, build_toy, contents, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def two_workers() -> Iterator[OnRay]:
    scheduler = OnRay(workers=2)
    yield scheduler
    scheduler.close()


def test_two_workers_make_what_one_process_makes(tmp_path: Path, two_workers: OnRay) -> None:
    path = write_recipe(tmp_path)
    here = build_toy(path, Store(str(tmp_path / "inline")), Inline())
    there = build_toy(path, Store(str(tmp_path / "ray")), two_workers)
    assert contents(here) == contents(there)


@dataclass(frozen=True)
class _DieOnce:
    """Kills its worker the first time that partition 3 is tried."""

    store: Store

    def __call__(self, task: RowsTask[Any, Any]) -> Output:
        if task.index == 3 and self.store.create("died", b""):
            os._exit(9)
        return Output(task.table)


@dataclass(frozen=True)
class _HangOnce:
    """Hangs for an hour the first time that partition 3 is tried."""

    store: Store

    def __call__(self, task: RowsTask[Any, Any]) -> Output:
        if task.index == 3 and self.store.create("hung", b""):
            time.sleep(3600)
            self.store.create("waited for", b"")
        return Output(task.table)


def _refuse(task: RowsTask[Any, Any]) -> Output:
    raise ValueError(f"partition {task.index} cannot be")


def _replace_divide(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[RowsTask[Any, Any]], Output]
) -> None:
    monkeypatch.setitem(CATALOGUE, "divide", replace(CATALOGUE["divide"], shape=Map(function)))


def test_a_partition_whose_worker_dies_is_done_by_another(
    tmp_path: Path, two_workers: OnRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))
    _replace_divide(monkeypatch, _DieOnce(store))
    made = build_toy(write_recipe(tmp_path), store, two_workers, until="divide")
    assert store.exists("died")
    assert made.finished["divide"].manifest.rows_kept == 5 * 300


def test_a_partition_that_hangs_is_done_by_another(
    tmp_path: Path, two_workers: OnRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.schedule.window.HEDGE_FLOOR_S", 0.5)
    store = Store(str(tmp_path / "store"))
    _replace_divide(monkeypatch, _HangOnce(store))
    made = build_toy(write_recipe(tmp_path), store, two_workers, until="divide")
    assert store.exists("hung") and not store.exists("waited for")
    assert made.finished["divide"].manifest.rows_kept == 5 * 300


def test_an_error_of_a_worker_names_stage_and_partition(
    tmp_path: Path, two_workers: OnRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    _replace_divide(monkeypatch, _refuse)
    store = Store(str(tmp_path / "store"))
    with pytest.raises(StageFailed, match=r"divide, partition \d: ValueError: partition \d cannot"):
        build_toy(write_recipe(tmp_path), store, two_workers)


def test_a_straggler_is_named_once_when_it_takes_much_longer_than_the_others() -> None:
    now = [0.0]
    window = Window(hedge_after=5.0, clock=lambda: now[0])
    for index in range(4):
        window.add(f"task {index}", index)
    now[0] = 10.0
    for index in range(3):
        assert window.land(f"task {index}") == (index, True)
    now[0] = 49.0
    assert window.stragglers() == []
    now[0] = 51.0
    assert window.stragglers() == [3]
    assert window.stragglers() == []
    window.add("task 3 again", 3)
    assert window.land("task 3 again") == (3, True)
    assert window.land("task 3") == (3, False)
