"""Progress: what a person sees while stages run, live in a terminal, as plain lines elsewhere."""

import logging
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.manifest import Manifest
from pipeline.plan import Action, Step
from pipeline.work import Done

LINES_EVERY_S = 5.0
Clock = Callable[[], float]


class Progress:
    """Told of what happens, in order; says nothing itself."""

    def begin(self, step: Step) -> None:
        """A stage is about to run or to be reused."""

    def work(self, kind: str, total: int, done: int) -> None:
        """A round of `total` pieces starts, `done` of them committed before."""

    def advance(self, done: Done) -> None:
        """A piece is committed."""

    def tell(self, line: str) -> None:
        """What a long task says of how far it is."""

    def end(self, step: Step, manifest: Manifest) -> None:
        """The stage is complete."""

    def close(self) -> None:
        """Nothing more will happen: leave the screen as it should stay."""


class _Meter:
    """Counts of the stage at hand."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stage = self.said = ""
        self.started = clock()
        self.reset("parts", 0, 0)

    def begin(self, stage: str) -> None:
        self.stage, self.said, self.started = stage, "", self._clock()
        self.reset("parts", 0, 0)

    def reset(self, kind: str, total: int, done: int) -> None:
        self.kind, self.total, self.before, self.done = kind, total, done, done
        self.rows_in = self.rows_kept = 0
        self.reasons: Counter[str] = Counter()
        self.round_started = self._clock()

    def add(self, done: Done) -> None:
        self.done += 1
        self.rows_in += done.rows_in
        self.rows_kept += done.rows_kept
        self.reasons.update(done.reasons)

    @property
    def seconds(self) -> float:
        return self._clock() - self.started

    def line(self) -> str:
        """The stage in one line: parts, pairs in and out, speed, time left, top drop reason."""
        passed = max(self._clock() - self.round_started, 1e-9)
        fresh = self.done - self.before
        words = [f"{self.stage}: {self.kind} {self.done:,}/{self.total:,}"]
        if self.rows_in:
            words.append(
                f"{self.rows_in:,} in, {self.rows_kept:,} out, {self.rows_in / passed:,.0f}/s"
            )
        if fresh and self.done < self.total:
            words.append(f"{passed / fresh * (self.total - self.done):,.0f} s left")
        if self.reasons:
            reason, count = self.reasons.most_common(1)[0]
            words.append(f"most dropped: {reason} {count:,}")
        if self.said:
            words.append(self.said)
        return "  ".join(words)


def finished_line(step: Step, manifest: Manifest, seconds: float) -> str:
    """A stage that is complete, in one line."""
    out = "out" if manifest.conserves else "new"
    words = [
        f"{step.node.name:<16}{manifest.rows_in:>10,} in {manifest.rows_kept:>10,} {out}",
        "reused" if step.done else f"{seconds:5.1f} s",
    ]
    if manifest.reasons:
        reason, count = max(manifest.reasons.items(), key=lambda item: item[1])
        words.append(f"{reason} {count:,}")
    if step.action not in (Action.REUSED, Action.NEW):
        words.append(f"[{step.action}: {step.why}]")
    return "  ".join(words)


class Lines(Progress):
    """Plain log lines: at the end of each stage, and every few seconds in a long one."""

    def __init__(self, log: logging.Logger, clock: Clock = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._meter = _Meter(clock)
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

    def tell(self, line: str) -> None:
        """Speak when it has been quiet for a while."""
        self._meter.said = line
        if self._clock() - self._spoken >= LINES_EVERY_S:
            self._spoken = self._clock()
            self._log.info(self._meter.line())

    def end(self, step: Step, manifest: Manifest) -> None:
        """One line for the stage."""
        self._log.info(finished_line(step, manifest, self._meter.seconds))


class Terminal(Progress):
    """A live line for the stage at hand above which finished stages stay."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._meter = _Meter(clock)
        self._live: Live | None = None

    def begin(self, step: Step) -> None:
        """Show the stage at once, with a clock that runs while its parts do."""
        self._meter.begin(step.node.name)
        if not step.done:
            self._live = Live(
                console=self._console,
                get_renderable=lambda: Text(f"{self._meter.line()}  {self._meter.seconds:,.0f} s"),
                transient=True,
            )
            self._live.start()

    def work(self, kind: str, total: int, done: int) -> None:
        """Start a round."""
        self._meter.reset(kind, total, done)

    def advance(self, done: Done) -> None:
        """Count."""
        self._meter.add(done)

    def tell(self, line: str) -> None:
        """Show it behind the counts."""
        self._meter.said = line

    def end(self, step: Step, manifest: Manifest) -> None:
        """Leave one line for the stage."""
        self.close()
        self._console.print(Text(finished_line(step, manifest, self._meter.seconds)))

    def close(self) -> None:
        """Take the live line away."""
        if self._live:
            self._live.stop()
            self._live = None
