"""What a run asks of a scheduler: call the work of a stage for every index, in any order.

A scheduler is handed a plain function, a `StageRun` and indices, and yields what is done; it keeps
nothing that is not on storage, so a run may end anywhere.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pipeline.work import Done, StageRun

Work = Callable[[StageRun, int], Done]


class Scheduler(Protocol):
    """Calls `work(run, index)` for every index and yields the results in any order.

    It may yield None while nothing is done, so that whoever watches can look around.
    """

    def run(self, work: Work, run: StageRun, indices: Sequence[int]) -> Iterator[Done | None]:
        """Do the work; raises StageFailed for work that failed, after what was done is yielded."""
        ...

    def close(self) -> None:
        """Let go of workers."""
        ...
