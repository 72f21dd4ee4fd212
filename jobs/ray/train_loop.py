"""What each Ray Train worker does: the trainer's loop, saved whenever the run or a machine ends."""

from dataclasses import asdict
from typing import Any

import ray
from ray.train import get_preemption_info, report
from ray.train.collective import broadcast_from_rank_zero

from trainer.errors import Stopped
from trainer.run.metrics import Metrics
from trainer.train import train

PREEMPTION_EVERY = 10
"""Steps between questions whether a machine is about to go: each makes all workers wait for all."""


def train_loop(loop_config: dict[str, Any]) -> dict[str, Any]:
    """Train `loop_config["job"]` in the process group that Ray Train has made; a summary of it.

    Raises the trainer's UserErrors. A hung worker ends itself with exit code 75
    (`trainer.run.heartbeat`); to Ray that is a worker that died, and the group starts again.
    """
    job, mailbox = loop_config["job"], loop_config["mailbox"]
    watch = SaveWatch(mailbox)
    while True:
        try:
            result = train(
                job.config,
                job.sources,
                job.workdir,
                job.run,
                initial_weights=job.initial_weights,
                progress=_report,
                stop_signal=watch,
            )
        except Stopped as stopped:
            # All workers must agree, or some would wait for the others' gradients forever.
            if broadcast_from_rank_zero(ray.get(mailbox.stop_requested.remote())):
                return {"stopped_at": stopped.step}
            continue  # A machine goes: saved; until Ray ends the group, go on training.
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


class SaveWatch:
    """Asked after each step: must the run be saved, because it is to stop or a machine goes?"""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox, self._answer = mailbox, mailbox.stop_requested.remote()
        self._steps = 0
        self._seen: set[str] = set()

    def __call__(self) -> bool:
        """True in any worker is enough; for a machine that goes, it is True once."""
        self._steps += 1
        # Both questions, always: a worker that left out the second would keep the others waiting.
        preempted = self._steps % PREEMPTION_EVERY == 0 and self._newly_preempted()
        return self._stop_requested() or preempted

    def _stop_requested(self) -> bool:
        """The latest answer that has come, without waiting for one."""
        ready, _ = ray.wait([self._answer], timeout=0)
        if not ready:
            return False
        answer: bool = ray.get(self._answer)
        self._answer = self._mailbox.stop_requested.remote()
        return answer

    def _newly_preempted(self) -> bool:
        info = get_preemption_info()
        nodes = set(info.preempted_node_to_ranks) if info else set()
        new = nodes - self._seen
        self._seen |= nodes
        return bool(new)
