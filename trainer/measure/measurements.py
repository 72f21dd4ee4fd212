"""Figures as lines for a terminal and as a block of Markdown for `BENCHMARKS.md`."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.measure.checks import Check
from trainer.measure.device import Machine
from trainer.measure.losses import LossFigures
from trainer.measure.steps import DENSE, FeedFigures, StepFigures

GOALS_OF_USABLE = {"ViT-B-32": 0.35, "ViT-B-16": 0.45, "ViT-L-14": 0.45}
GOAL_OF_PEER = 1.3
GOAL_OF_WAIT = 0.05


@dataclass(frozen=True)
class StepComparison:
    """Steps of one model: ours, and a peer's beside them."""

    ours: StepFigures
    peer: StepFigures | None
    """None where it could not be measured."""

    @property
    def ratio(self) -> float | None:
        """Our pairs per second, divided by the peer's."""
        if self.peer is None:
            return None
        return self.ours.samples_per_s / self.peer.samples_per_s

    @property
    def met(self) -> bool | None:
        """Whether both goals are; None where there is none for this model or peer."""
        goal = GOALS_OF_USABLE.get(self.ours.model)
        if goal is None or self.peer is None or self.ratio is None or self.peer.who == DENSE:
            return None
        return self.ours.of_usable >= goal and self.ratio >= GOAL_OF_PEER


@dataclass
class Measurements:
    """Everything that was measured on one machine, in the order it came."""

    machine: Machine
    checks: list[Check] = field(default_factory=list)
    steps: list[StepComparison] = field(default_factory=list)
    losses: list[LossFigures] = field(default_factory=list)
    feeding: list[FeedFigures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What could not be measured, and why."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        steps = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in self.steps]
        checks = [asdict(check) | {"passed": check.passed} for check in self.checks]
        return asdict(self) | {"steps": steps, "checks": checks}

    def markdown(self) -> str:
        """A heading that names the machine, and a table for each kind of figure."""
        parts = [f"### {self.machine}", *_checks(self.checks), *_steps(self.steps)]
        parts += [*_losses(self.losses), *_feeding(self.feeding)]
        parts += [f"Not measured: {failure}" for failure in self.failures]
        return "\n\n".join(parts) + "\n"


def _checks(checks: Sequence[Check]) -> list[str]:
    rows = [(c.name, f"{c.found:.1e}", f"{c.limit:.1e}", _yes(c.passed)) for c in checks]
    return _table(("agreement (relative difference of gradients)", "found", "most", "passed"), rows)


def _steps(steps: Sequence[StepComparison]) -> list[str]:
    heads = "model|trainer|batch|tokens|mode|step|pairs/s|TFLOP/s|of 800|of peak|memory|ratio|met"
    rows = []
    for row in steps:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        rows.append((*_figures(row.ours), ratio, _yes(row.met)))
        if row.peer is not None:
            rows.append((*_figures(row.peer), "", ""))
    return _table(heads.split("|"), rows)


def _figures(figures: StepFigures) -> tuple[str, ...]:
    return (
        figures.model,
        figures.who,
        f"{figures.batch:,}",
        str(figures.text_length),
        figures.precision + (", compiled" if figures.compiled else ""),
        f"{figures.seconds * 1e3:,.1f} ms",
        f"{figures.samples_per_s:,.0f}",
        f"{figures.tflops:,.1f}",
        f"{figures.of_usable:.1%}",
        "" if figures.of_peak is None else f"{figures.of_peak:.1%}",
        _gigabytes(figures.memory),
    )


def _losses(losses: Sequence[LossFigures]) -> list[str]:
    heads = ("loss of pairs", "ours", "memory", "dense", "memory of dense", "memory ratio")
    rows = []
    for row in losses:
        dense = row.skipped or f"{(row.dense_seconds or 0) * 1e3:,.1f} ms"
        ratio = ""
        if row.memory and row.dense_memory:
            ratio = f"{row.dense_memory / row.memory:.1f}"
        times = (f"{row.pairs:,}", f"{row.seconds * 1e3:,.1f} ms", _gigabytes(row.memory))
        rows.append((*times, dense, _gigabytes(row.dense_memory), ratio))
    return _table(heads, rows)


def _feeding(feeding: Sequence[FeedFigures]) -> list[str]:
    heads = ("real pairs", "batch", "workers", "pairs/s", "waiting for data", "met")
    rows = []
    for row in feeding:
        rate, wait = f"{row.samples_per_s:,.0f}", f"{row.data_wait:.1%}"
        met = _yes(row.data_wait <= GOAL_OF_WAIT)
        rows.append((row.model, f"{row.batch:,}", str(row.workers), rate, wait, met))
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """One table, or nothing where there are no rows."""
    lines = [" | ".join(row) for row in (heads, ["---"] * len(heads), *rows)]
    return ["\n".join(f"| {line} |" for line in lines)] if len(lines) > 2 else []


def _gigabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e9:,.2f} GB"


def _yes(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "NO"
