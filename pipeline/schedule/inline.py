"""Everything in this process, in order: for debugging and for tests."""

from collections.abc import Iterator, Sequence

from pipeline.schedule.scheduler import Work
from pipeline.work import Done, StageRun


class Inline:
    """The scheduler without workers."""

    def run(self, work: Work, run: StageRun, indices: Sequence[int]) -> Iterator[Done]:
        """One after the other."""
        for index in indices:
            yield work(run, index)

    def close(self) -> None:
        """Nothing to let go of."""
