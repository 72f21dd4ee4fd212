"""The messages between the driver and the workers: an actor that both can reach.

Ray Train starts and ends the workers by itself, so the driver holds no handle to them; both sides
hold the mailbox's.
"""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Mailbox:
    """One flag for the workers (stop), and lines for people from them."""

    def __init__(self) -> None:
        self._stop = False
        self._lines: list[str] = []

    def request_stop(self) -> None:
        """Ask the workers to save and end."""
        self._stop = True

    def stop_requested(self) -> bool:
        """Whether they were asked to."""
        return self._stop

    def post(self, line: str) -> None:
        """Leave a line for people."""
        self._lines.append(line)

    def collect(self) -> list[str]:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


def open_mailbox() -> Any:
    """The handle of a new mailbox on this machine: it must not go when another machine goes."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
