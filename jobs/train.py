"""Train on Ray: the same run as `python -m trainer.train`, on machines that come and go.

    python -m jobs.train CONFIG.json --num-workers 2
    ray job submit --working-dir . -- python -m jobs.train /shared/CONFIG.json --num-workers 8

A worker that dies, or hangs and ends itself, costs the steps since the last checkpoint and nothing
else: on as many workers the result has the same bits. The driver keeps no state of its own, so
submitting the same job again is the retry.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Annotated

from cyclopts import Parameter

from pipeline.dataset.errors import Exit, UserError
from pipeline.schedule.on_ray import start_ray
from trainer.data.loader import Loader
from trainer.train import Job


@Parameter(name="*")
@dataclass(frozen=True)
class Workers:
    """How many processes train, and what Ray reserves for each of them."""

    num_workers: int | None = None
    """Workers; 1 by default."""
    min_workers: int | None = None
    """Fewest workers of a run that starts again with fewer or more as machines go and come."""
    max_workers: int | None = None
    """Most workers of such a run; all numbers from the fewest to the most must divide the batch."""
    cpus_per_worker: int = 1
    """Cores of a worker: torch's threads on a CPU, unless the file says num_threads."""
    gpus_per_worker: int | None = None
    """GPUs reserved for a worker, which uses one; 1 where the file's device is cuda, else 0."""

    def bounds(self) -> tuple[int, int]:
        """Fewest and most workers; UserError if they contradict each other."""
        if self.min_workers is None and self.max_workers is None:
            least = most = 1 if self.num_workers is None else self.num_workers
        elif self.num_workers is None and self.min_workers and self.max_workers:
            least, most = self.min_workers, self.max_workers
        else:
            raise UserError("give either --num-workers or both --min-workers and --max-workers")
        if not 1 <= least <= most:
            raise UserError(f"{least} to {most} workers: give 1 or more, the fewest first")
        return least, most

    def resources(self, device: str) -> dict[str, float]:
        """What Ray reserves for a worker that trains on `device`; UserError if they disagree."""
        wanted = device.startswith("cuda")
        gpus = int(wanted) if self.gpus_per_worker is None else self.gpus_per_worker
        if wanted != (gpus > 0):
            raise UserError(f"--gpus-per-worker {gpus}: the file's device is {device}")
        return {"CPU": float(self.cpus_per_worker)} | ({"GPU": float(gpus)} if gpus else {})


def train(
    config: Path,
    *,
    workers: Workers = Workers(),
    max_failures: int = 3,
    storage: str | None = None,
    address: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
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
    address
        A Ray cluster to use instead of a local Ray; RAY_ADDRESS does the same.
    json_
        Print a JSON summary on standard output and nothing else there.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    job = _checked(config, workers, on_cluster=address is not None)
    with _ray(address, workers, job.run.device), _signals() as stop:
        from jobs.ray.train_group import Group, fit

        group = Group(
            workers.bounds(),
            workers.resources(job.run.device),
            max_failures,
            storage or str(job.workdir / "ray"),
        )
        summary = fit(job, group, stop, _nothing if json_ else _tell)
    print(json.dumps(summary, indent=1) if json_ else summary["weights"])
    return Exit.OK


def _checked(path: Path, workers: Workers, on_cluster: bool) -> Job:
    """The file's run; UserError on what can be known to be wrong before Ray is started."""
    try:
        job = Job.read(path)
        placed = _placed(job)
        if on_cluster and placed != job:
            raise UserError(f"{path}: on a cluster its paths must be absolute")
        _check_split(job.config.batch_size, *workers.bounds())
        workers.resources(job.run.device)
        Loader(placed.sources, placed.config, index_folder=placed.workdir / "index")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return placed


def _placed(job: Job) -> Job:
    """With absolute paths: workers start in folders of their own."""
    sources = tuple(
        replace(each, path=each.path.absolute(), subset=each.subset and each.subset.absolute())
        for each in job.sources
    )
    weights = job.initial_weights
    weights = weights and replace(weights, path=weights.path.absolute())
    return replace(job, sources=sources, workdir=job.workdir.absolute(), initial_weights=weights)


def _check_split(batch_size: int, least: int, most: int) -> None:
    """Ray may start any number of workers between the two: all must divide the batch."""
    uneven = [number for number in range(least, most + 1) if batch_size % number]
    if uneven:
        even = [number for number in range(1, 2 * most + 1) if batch_size % number == 0]
        raise UserError(
            f"batch_size {batch_size} cannot be split evenly among {_listed(uneven)} workers; "
            f"among {_listed(even)} it can, or use a multiple of "
            f"{math.lcm(*range(least, most + 1))} as batch_size"
        )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + (" or " if numbers[1:] else "") + str(numbers[-1])


@contextmanager
def _ray(address: str | None, workers: Workers, device: str) -> Iterator[None]:
    """A Ray to train on: the one that runs in this process already, a cluster, or a local one."""
    import ray

    owned = not ray.is_initialized()
    if owned:
        start_ray(ray, address)
    try:
        if address is None:
            _check_room(ray.cluster_resources(), workers.resources(device), workers.bounds()[0])
        with redirect_stdout(sys.stderr):  # where Ray would print of workers that died
            yield
    finally:
        if owned:
            ray.shutdown()


def _check_room(there: Mapping[str, float], each: Mapping[str, float], least: int) -> None:
    """A cluster may grow; on one machine Ray would wait forever for what is not there."""
    for name, amount in each.items():
        if least * amount > there.get(name, 0):
            raise UserError(
                f"{least} workers of {amount:g} {name} each are more than this machine's "
                f"{there.get(name, 0):g}; use fewer, or --address of a cluster"
            )


@contextmanager
def _signals() -> Iterator[Event]:
    """Set by the first Ctrl-C or SIGTERM; a second one is a KeyboardInterrupt."""
    stop = Event()

    def note(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(line: str) -> None:
    print(f"train: {line}", file=sys.stderr, flush=True)


def _nothing(line: str) -> None:
    """With --json nobody is told."""


if __name__ == "__main__":
    from jobs.commands.app import run_as_command

    run_as_command(train)
