"""The driver of a training on Ray: checks the file, has a Ray to run on, and listens for signals.

Whatever can be known to be wrong is refused before Ray is started, which takes seconds.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from jobs.ray.workers import Workers
from pipeline.dataset.errors import UserError
from pipeline.schedule.on_ray import start_ray
from trainer.data.loader import Loader
from trainer.train import Job


def run_training(
    job: Job,
    workers: Workers,
    max_failures: int,
    storage: str | None,
    address: str | None,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Train a checked job on the Ray at `address`, or on a local one; a summary of the run.

    Raises UserError, Interrupted or StageFailed.
    """
    with ray_to_train_on(address, workers, job.run.device), stop_signals() as stop:
        # Late: it imports Ray Train and torch, and Ray has to be started before.
        from jobs.ray.train_group import WorkerGroup, fit

        group = WorkerGroup(
            workers.bounds(),
            workers.resources(job.run.device),
            max_failures,
            storage or str(job.workdir / "ray"),
        )
        return fit(job, group, stop, progress)


def read_job(path: Path, workers: Workers, on_cluster: bool) -> Job:
    """The file's run with absolute paths; UserError on what is known to be wrong before it starts.

    Workers start in folders of their own, so relative paths are resolved here; on a cluster they
    are refused, because other machines would resolve them differently.
    """
    try:
        given = Job.read(path)
        job = _absolute(given)
        if on_cluster and job != given:
            raise UserError("on a cluster its paths must be absolute")
        workers.check_batch(job.config.batch_size)
        workers.resources(job.run.device)
        Loader(job.sources, job.config, index_folder=job.workdir / "index")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return job


def _absolute(job: Job) -> Job:
    sources = tuple(
        replace(
            source,
            path=source.path.absolute(),
            subset=source.subset and source.subset.absolute(),
        )
        for source in job.sources
    )
    weights = job.initial_weights
    weights = weights and replace(weights, path=weights.path.absolute())
    return replace(job, sources=sources, workdir=job.workdir.absolute(), initial_weights=weights)


@contextmanager
def ray_to_train_on(address: str | None, workers: Workers, device: str) -> Iterator[None]:
    """A Ray: the one that runs in this process already, a cluster, or a local one."""
    import ray  # late: it takes seconds, and what is refused before needs none

    owned = not ray.is_initialized()
    if owned:
        start_ray(ray, address)
    try:
        if address is None:
            workers.check_room(ray.cluster_resources(), device)
        with redirect_stdout(sys.stderr):  # where Ray would print of workers that died
            yield
    finally:
        if owned:
            ray.shutdown()


@contextmanager
def stop_signals() -> Iterator[Event]:
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
