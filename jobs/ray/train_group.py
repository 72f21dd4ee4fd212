"""A group of Ray Train workers around the trainer's loop, and the driver's side of it.

Ray decides when the group starts again: a worker died, a machine is about to go, more machines
came. What it goes on from is the newest checkpoint in the run's own folder, so Ray is handed
metrics and never a checkpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import ray
from ray.train import (
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer

from jobs.ray.mailbox import open_mailbox
from jobs.ray.train_loop import train_loop
from pipeline.dataset.errors import OpenwitError, UserError
from pipeline.errors import Interrupted, StageFailed
from trainer.errors import Stopped
from trainer.parallel.world import TIMEOUT
from trainer.train import Job

POLL_S = 1.0
"""How often the driver looks into the mailbox, in seconds."""


@dataclass(frozen=True)
class WorkerGroup:
    """The workers, and what Ray does for them."""

    bounds: tuple[int, int]
    """Fewest and most workers."""
    resources: dict[str, float]
    """What is reserved for each."""
    max_failures: int
    """Times that the group starts again after a loss; -1 is without end."""
    storage: str
    """Folder or URL of Ray Train's own notes."""


def fit(
    job: Job, group: WorkerGroup, stop: Event, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Train to the end, however often the group has to start again; a summary of the run.

    `progress` gets lines for people. Raises Interrupted once `stop` is set and everything is saved,
    UserError on what a worker met that another start would not mend, StageFailed if workers are
    lost too often.
    """
    mailbox = open_mailbox()
    summary = _watched(_trainer(job, group, mailbox), mailbox, stop, progress)
    if "stopped_at" in summary:
        raise Interrupted(str(Stopped(summary["stopped_at"])))
    return summary


def _trainer(job: Job, group: WorkerGroup, mailbox: Any) -> TorchTrainer:
    least, most = group.bounds
    return TorchTrainer(
        train_loop,
        train_loop_config={"job": job, "mailbox": mailbox},
        torch_config=TorchConfig(timeout_s=int(TIMEOUT.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=least if least == most else (least, most),
            use_gpu="GPU" in group.resources,
            resources_per_worker=group.resources,
        ),
        run_config=RunConfig(
            storage_path=group.storage,
            failure_config=FailureConfig(max_failures=group.max_failures),
            callbacks=[ProgressCallback(mailbox, job.config.steps)],
            logging_config=LoggingConfig("ERROR"),
        ),
    )


def _watched(
    trainer: TorchTrainer, mailbox: Any, stop: Event, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Run the trainer in a thread, so that this one can pass lines on and react to `stop`."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(trainer.fit().return_value)
        except Exception as error:
            outcome.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    requested = False
    while thread.is_alive():
        thread.join(POLL_S)
        if stop.is_set() and not requested:
            requested = True
            progress("saving a checkpoint before the end; once more ends at once")
            ray.get(mailbox.request_stop.remote())
        for line in ray.get(mailbox.collect.remote()):
            progress(line)
    if isinstance(outcome[0], Exception):
        raise _for_people(outcome[0])
    summary: dict[str, Any] = outcome[0]
    return summary


def _for_people(error: Exception) -> OpenwitError:
    cause = error
    while isinstance(cause, ControllerError):
        cause = cause.controller_failure
    if isinstance(cause, UserError):
        return UserError(str(cause))
    failed = StageFailed(
        "workers were lost too often; most often that is memory: lower micro_batch, or raise "
        "--max-failures where machines come and go; the same command goes on from the last "
        "checkpoint"
    )
    failed.__cause__ = error
    return failed


class ProgressCallback(UserCallback):  # type: ignore[misc]
    """Runs beside Ray's controller: posts rows, and ends what another start would not mend."""

    def __init__(self, mailbox: Any, steps: int) -> None:
        self._mailbox, self._steps = mailbox, steps

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Post the first worker's row."""
        row = metrics[0]
        self._mailbox.post.remote(f"step {row['step']:,}/{self._steps:,}, loss {row['loss']:.3f}")

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise a worker's UserError, which ends the run; the rest is Ray's to try again."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError):
                raise error
        failed = ", ".join(
            f"{rank} ({type(error).__name__})" for rank, error in sorted(worker_exceptions.items())
        )
        self._mailbox.post.remote(f"workers failed: {failed}; what follows is from a checkpoint")
