"""Schedulers that misbehave on purpose, from a seed, so that any failure can be seen again."""

import random
from collections.abc import Iterator, Sequence

from pipeline.schedule.scheduler import Work
from pipeline.work import Done, StageRun


class Killed(BaseException):
    """Stands for kill -9 of the whole run."""


class Chaotic:
    """Any order, some work done twice and its result thrown away, a kill after `lives` pieces."""

    def __init__(self, seed: int, lives: int | None = None) -> None:
        self._random = random.Random(seed)
        self._lives = lives
        self.done: list[tuple[str, str, int]] = []

    def run(self, work: Work, run: StageRun, indices: Sequence[int]) -> Iterator[Done]:
        order = list(indices)
        self._random.shuffle(order)
        for index in order:
            if self._lives is not None:
                if self._lives == 0:
                    raise Killed
                self._lives -= 1
            done = work(run, index)
            self.done.append((run.stage.name, work.__name__, index))
            if self._random.random() < 0.3:
                work(run, index)
            yield done

    def close(self) -> None:
        pass
