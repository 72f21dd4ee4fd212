"""Counts, speed and time left of the stage at hand, in one line for people."""

from collections import Counter
from collections.abc import Callable

from pipeline.dataset.manifest import Manifest
from pipeline.plan import Action, Step
from pipeline.work import Done

Clock = Callable[[], float]


class Meter:
    """Counts of the stage at hand."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stage = self.said = ""
        self.started = clock()
        self.reset("parts", 0, 0)

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self.stage, self.said, self.started = stage, "", self._clock()
        self.reset("parts", 0, 0)

    def reset(self, kind: str, total: int, done: int) -> None:
        """A round of `total` pieces starts, `done` of them committed before."""
        self.kind, self.total, self.before, self.done = kind, total, done, done
        self.rows_in = self.rows_kept = 0
        self.reasons: Counter[str] = Counter()
        self.round_started = self._clock()

    def add(self, done: Done) -> None:
        """A piece is committed."""
        self.done += 1
        self.rows_in += done.rows_in
        self.rows_kept += done.rows_kept
        self.reasons.update(done.reasons)

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
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
