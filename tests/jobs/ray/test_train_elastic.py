"""A run whose group grows when a machine comes and shrinks when it goes, on a cluster of Ray's."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import coloured_pairs, write_dataset
from tests.support.small import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray]

STEPS, LOG_EVERY = 1_500, 20
CONFIG = {
    "model": "ViT-Ti-8-32px",
    "steps": STEPS,
    "batch_size": 16,
    "warmup_steps": 2,
    "log_every": LOG_EVERY,
    "checkpoint_every_steps": LOG_EVERY,
    "num_threads": 1,
}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head with room for one worker."""
    utils = pytest.importorskip("ray.cluster_utils")
    ray_cluster = utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield ray_cluster
    ray_cluster.shutdown()


@pytest.mark.chaos
def test_a_run_grows_and_shrinks_with_its_cluster_and_misses_no_step(
    cluster: Any, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "squares", coloured_pairs(64))
    workdir, config = tmp_path / "run", tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "dataset": str(dataset), "workdir": str(workdir)}))
    command = [sys.executable, "-m", "jobs.train", str(config), "--address", cluster.address]
    command += ["--min-workers", "1", "--max-workers", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    _wait_until(process, lambda: _sizes(workdir) == [1])
    node = cluster.add_node(num_cpus=1)
    _wait_until(process, lambda: _sizes(workdir) == [1, 2])
    cluster.remove_node(node)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert _sizes(workdir) == [1, 2, 1]
    assert [row["step"] for row in _rows(workdir)] == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))
    assert _rows(workdir)[-1]["loss"] < 1.0


def _rows(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _sizes(workdir: Path) -> list[int]:
    """How many workers there were, one after the other."""
    sizes = [
        round(row["samples_per_s"] / row["samples_per_s_per_device"]) for row in _rows(workdir)
    ]
    return [size for size, _ in groupby(sizes)]


def _wait_until(
    process: "subprocess.Popen[str]", met: Callable[[], bool], seconds: float = 240
) -> None:
    """Until `met()`, which must come before the process ends."""
    ends = time.monotonic() + seconds
    while not met():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends, "nothing came of it"
        time.sleep(0.2)
