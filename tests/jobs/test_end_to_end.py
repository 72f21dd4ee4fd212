"""The whole graph on a part of the mini-web: the same bytes, whatever happens on the way."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.quickstart.serve import ReplayServer
from tests.support.small import command, digests, kill_tree, start, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.ray]

KILLS = 10


Unbroken = tuple[Path, Path, dict[str, Any]]
"""The recipe, the store and the summary of a run."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ReplayServer() as server:
        yield server.address


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, web: str) -> Unbroken:
    """An unbroken run in one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    recipe, store = write_recipe(folder), folder / "store"
    done = subprocess.run(
        command(recipe, store, web, "--inline", "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return recipe, store, json.loads(done.stdout)


def test_every_pair_is_accounted_for_to_the_last_stage(unbroken: Unbroken) -> None:
    _, _, summary = unbroken
    assert summary["stages"]["extract"]["rows_in"] > 2_000
    assert summary["stages"]["train"]["rows_kept"] > 300
    candidates = summary["stages"]["extract"]["rows_in"]
    rows = [stage for name, stage in summary["stages"].items() if name not in NOT_ROWS]
    assert candidates == sum(stage["rows_dropped"] for stage in rows) + rows[-1]["rows_kept"]


NOT_ROWS = ("count", "image-neighbours", "evaluate", "report")


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_workers_make_the_bytes_that_one_process_makes(
    tmp_path: Path, web: str, unbroken: Unbroken, workers: int
) -> None:
    recipe, store, _ = unbroken
    process = start(
        command(recipe, tmp_path / "store", web, "--workers", str(workers), "--until", "shard")
    )
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    made = digests(tmp_path / "store")
    expected = digests(store)
    assert made == {name: expected[name] for name in made}
    assert "shard" in made


def test_killed_at_random_moments_it_comes_to_the_same(
    tmp_path: Path, web: str, unbroken: Unbroken
) -> None:
    recipe, expected_store, _ = unbroken
    chance, kills, finished = random.Random(20261122), 0, 0
    committed: dict[str, int] = {}
    while kills < KILLS or not finished:
        store = tmp_path / f"store-{finished}"
        process = start(command(recipe, store, web, "--workers", "2"))
        ended = _wait(process, chance.uniform(3.0, 12.0) if kills < KILLS else 300.0)
        now = _committed(store)
        assert {path: now.get(path) for path in committed} == committed, "a commit was done again"
        if ended:
            assert process.returncode == 0, process.communicate()[1]
            assert digests(store) == digests(expected_store)
            finished, committed = finished + 1, {}
        else:
            kill_tree(process)
            kills, committed = kills + 1, _committed(store)


def _wait(process: "subprocess.Popen[str]", seconds: float) -> bool:
    """Whether the process ended by itself within the time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _committed(store: Path) -> dict[str, int]:
    """The time of the last write of every committed part and of its record."""
    times = {}
    for record in store.glob("*/*/done/*.json"):
        files = json.loads(record.read_text())["files"].values()
        paths = [record, *(record.parent.parent / ref["path"] for ref in files)]
        times.update({str(path): path.stat().st_mtime_ns for path in paths})
    return times


@pytest.mark.parametrize("how", ["--inline", "--workers=2"])
def test_ctrl_c_is_one_line_and_loses_nothing(
    tmp_path: Path, web: str, unbroken: Unbroken, how: str
) -> None:
    recipe, expected_store, _ = unbroken
    arguments = command(recipe, tmp_path / "store", web, how)
    process = start(arguments)
    while not list(tmp_path.glob("store/*/*/done/*.json")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "openwit: stopped; everything committed stays" in errors and "Traceback" not in errors
    again = start(arguments)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert digests(tmp_path / "store") == digests(expected_store)


def test_again_everything_is_reused(unbroken: Unbroken, web: str) -> None:
    recipe, store, _ = unbroken
    done = subprocess.run(
        command(recipe, store, web, "--inline", "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    summary = json.loads(done.stdout)
    assert {stage["action"] for stage in summary["stages"].values()} == {"reused"}
