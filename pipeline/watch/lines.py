"""Plain log lines, for output that is no terminal."""

import logging
import time

from pipeline.dataset.manifest import Manifest
from pipeline.plan import Step
from pipeline.watch.meter import Clock, Meter, finished_line
from pipeline.watch.progress import Progress
from pipeline.work import Done

LINES_EVERY_S = 5.0


class LogLines(Progress):
    """Plain log lines: at the end of each stage, and every few seconds in a long one."""

    def __init__(self, log: logging.Logger, clock: Clock = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._meter = Meter(clock)
        self._spoken = clock()

    def begin(self, step: Step) -> None:
        """Start counting."""
        self._meter.begin(step.node.name)
        self._spoken = self._clock()

    def work(self, kind: str, total: int, done: int) -> None:
        """Start a round."""
        self._meter.reset(kind, total, done)

    def advance(self, done: Done) -> None:
        """Count."""
        self._meter.add(done)

    def status(self, line: str) -> None:
        """Speak when it has been quiet for a while."""
        self._meter.said = line
        if self._clock() - self._spoken >= LINES_EVERY_S:
            self._spoken = self._clock()
            self._log.info(self._meter.line())

    def end(self, step: Step, manifest: Manifest) -> None:
        """One line for the stage."""
        self._log.info(finished_line(step, manifest, self._meter.seconds))
