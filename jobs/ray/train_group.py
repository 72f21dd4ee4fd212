"""A group of Ray Train workers around the trainer's loop, and the driver's side of it.

Ray decides when the group starts again: a worker died, a machine is about to go, more machines
came. What it goes on from is the newest checkpoint in the run's own folder, so Ray is handed
metrics and never a checkpoint. Refuses to know how training works.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
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
    get_preemption_info,
    report,
)
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.dataset.errors import OpenwitError, UserError
from pipeline.errors import Interrupted, StageFailed
from trainer.errors import Stopped
from trainer.parallel.world import TIMEOUT
from trainer.run.metrics import Metrics
from trainer.train import Job, train

ASK_EVERY = 10
"""Steps between questions whether a machine is about to go: each makes all workers wait for all."""
POLL_S = 1.0
"""How often the driver looks for news."""


class Desk:
    """Where the driver and the group leave word for each other: an actor beside the driver."""

    def __init__(self) -> None:
        self._stop = False
        self._lines: list[str] = []

    def ask_to_stop(self) -> None:
        """The group is to save and end."""
        self._stop = True

    def must_stop(self) -> bool:
        """Whether it was asked to."""
        return self._stop

    def tell(self, line: str) -> None:
        """Leave a line for people."""
        self._lines.append(line)

    def news(self) -> list[str]:
        """Lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


@dataclass(frozen=True)
class Group:
    """The workers, and what Ray does for them."""

    bounds: tuple[int, int]
    """Fewest and most workers."""
    resources: dict[str, float]
    """What is reserved for each."""
    max_failures: int
    """Times that the group starts again after a loss; -1 is without end."""
    storage: str
    """Folder or URL of Ray Train's own notes."""


def fit(job: Job, group: Group, stop: Event, tell: Callable[[str], None]) -> dict[str, Any]:
    """Train to the end, however often the group has to start again; a summary of the run.

    `tell` gets lines for people. Raises Interrupted once `stop` is set and everything is saved,
    UserError on what a worker met that another start would not mend, StageFailed if workers are
    lost too often.
    """
    least, most = group.bounds
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": job, "desk": desk},
        torch_config=TorchConfig(timeout_s=int(TIMEOUT.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=least if least == most else (least, most),
            use_gpu="GPU" in group.resources,
            resources_per_worker=group.resources,
        ),
        run_config=RunConfig(
            storage_path=group.storage,
            failure_config=FailureConfig(max_failures=group.max_failures),
            callbacks=[Teller(desk, job.config.steps)],
            logging_config=LoggingConfig("ERROR"),
        ),
    )
    summary = _watched(trainer, desk, stop, tell)
    if "stopped_at" in summary:
        raise Interrupted(str(Stopped(summary["stopped_at"])))
    return summary


def _watched(
    trainer: TorchTrainer, desk: Any, stop: Event, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Run the trainer in a thread, so that this one can tell news and hear of `stop`."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(trainer.fit().return_value)
        except Exception as error:
            outcome.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    asked = False
    while thread.is_alive():
        thread.join(POLL_S)
        if stop.is_set() and not asked:
            asked = True
            tell("saving a checkpoint before the end; once more ends at once")
            ray.get(desk.ask_to_stop.remote())
        for line in ray.get(desk.news.remote()):
            tell(line)
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


class Teller(UserCallback):  # type: ignore[misc]
    """Beside Ray's controller: passes rows on, and ends what another start would not mend."""

    def __init__(self, desk: Any, steps: int) -> None:
        self._desk, self._steps = desk, steps

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Tell the first worker's row."""
        row = metrics[0]
        self._desk.tell.remote(f"step {row['step']:,}/{self._steps:,}, loss {row['loss']:.3f}")

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise a worker's UserError, which ends the run; the rest is Ray's to try again."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError):
                raise error
        failed = ", ".join(
            f"{rank} ({type(error).__name__})" for rank, error in sorted(worker_exceptions.items())
        )
        self._desk.tell.remote(f"workers failed: {failed}; what follows is from a checkpoint")


def work(given: dict[str, Any]) -> dict[str, Any]:
    """What each worker does: the trainer's loop, in the process group that Ray Train has made.

    A hung worker ends itself with exit code 75 (`trainer.run.heartbeat`); to Ray that is a worker
    that died, and the group starts again.
    """
    job, desk = given["job"], given["desk"]
    grace = Grace(desk)
    while True:
        try:
            result = train(
                job.config,
                job.sources,
                job.workdir,
                job.run,
                initial_weights=job.initial_weights,
                progress=_report,
                stop_signal=grace,
            )
        except Stopped as stopped:
            if broadcast_from_rank_zero(ray.get(desk.must_stop.remote())):
                return {"stopped_at": stopped.step}
            continue  # A machine goes: saved; until Ray ends the group, work is not idle.
        return {
            "weights": str(result.weights),
            "steps": result.steps,
            "samples_seen": result.samples_seen,
            "refused_steps": result.refused_steps,
            "rewinds": result.rewinds,
            "parameters": result.num_parameters,
        }


def _report(row: Metrics) -> None:
    """To Ray Train; it asks for as many reports from every worker."""
    report(asdict(row))


class Grace:
    """Asked after each step: must the run be saved, because it is to stop or a machine goes?"""

    def __init__(self, desk: Any) -> None:
        self._desk, self._answer = desk, desk.must_stop.remote()
        self._steps = 0
        self._going: set[str] = set()

    def __call__(self) -> bool:
        """True in any worker is enough; for a machine that goes, it is said once."""
        self._steps += 1
        # Both questions, always: a worker that left out the second would keep the others waiting.
        goes = self._steps % ASK_EVERY == 0 and self._machine_goes()
        return self._must_stop() or goes

    def _must_stop(self) -> bool:
        """The latest answer that is here, without waiting for one."""
        ready, _ = ray.wait([self._answer], timeout=0)
        if not ready:
            return False
        answer: bool = ray.get(self._answer)
        self._answer = self._desk.must_stop.remote()
        return answer

    def _machine_goes(self) -> bool:
        info = get_preemption_info()
        nodes = set(info.preempted_node_to_ranks) if info else set()
        new = nodes - self._going
        self._going |= nodes
        return bool(new)
