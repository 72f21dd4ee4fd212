"""Many builds, each killed once at a random moment of its life and run again from what is left."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.quickstart.serve import ReplayServer
from tests.support.small import command, digests, kill_tree, start, write_recipe

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
TRIALS = 30
Digests = dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ReplayServer() as server:
        yield server.address


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, web: str) -> Digests:
    folder = tmp_path_factory.mktemp("expected")
    process = start(command(write_recipe(folder), folder / "store", web, "--inline"))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return digests(folder / "store")


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_build_killed_once_comes_to_the_same(
    tmp_path: Path, web: str, expected: Digests, trial: int
) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store"
    process = start(command(recipe, store, web, "--workers", "2"))
    try:
        process.wait(timeout=random.Random(trial).uniform(1.0, 20.0))
    except subprocess.TimeoutExpired:
        kill_tree(process)
    again = start(command(recipe, store, web, "--workers", "2"))
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert digests(store) == expected
