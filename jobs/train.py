"""Train on Ray: the same run as `python -m trainer.train`, on machines that come and go.

    python -m jobs.train CONFIG.json --num-workers 2
    ray job submit --working-dir . -- python -m jobs.train /shared/CONFIG.json --num-workers 8

A worker that dies, or hangs and ends itself, costs the steps since the last checkpoint and nothing
else: on as many workers the result has the same bits. The driver keeps no state of its own, so
submitting the same job again is the retry.
"""

import json
import os
import sys
from pathlib import Path

from jobs.commands.guarded import run_as_command
from jobs.commands.options import Address, JsonSummary
from jobs.ray.driver import read_job, run_training
from jobs.ray.workers import Workers
from pipeline.dataset.errors import Exit

ONE_WORKER = Workers()


def train(
    config: Path,
    *,
    workers: Workers = ONE_WORKER,
    max_failures: int = 3,
    storage: str | None = None,
    address: Address = None,
    json_: JsonSummary = False,
) -> int:
    """Train as a file says, on Ray workers that are started again when one is lost.

    Parameters
    ----------
    config
        The file, as `python -m trainer.train` takes it. On a cluster its paths must be absolute
        and lead to the same storage from all machines.
    max_failures
        Times that workers may be lost before the run gives up; -1 never gives up.
    storage
        Where Ray Train keeps notes of its own: a folder or a URL; WORKDIR/ray by default.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    job = read_job(config, workers, on_cluster=address is not None)
    progress = _ignore if json_ else _print
    summary = run_training(job, workers, max_failures, storage, address, progress)
    print(json.dumps(summary, indent=1) if json_ else summary["weights"])
    return Exit.OK


def _print(line: str) -> None:
    print(f"train: {line}", file=sys.stderr, flush=True)


def _ignore(line: str) -> None:
    """With --json nothing but the summary is printed."""


if __name__ == "__main__":
    run_as_command(train)
