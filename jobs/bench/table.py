"""What a benchmark prints: ours against a peer and the goal of each row, as a table or JSON."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Measurement:
    """One measurement. `ratio` above 1 means that ours is better; `met` compares with `goal`.

    Rows that only report have an empty goal, and None for whether it is met.
    """

    name: str
    ours: float
    peer: float | None
    peer_name: str | None
    unit: str
    ratio: float | None
    goal: str
    met: bool | None


def against(
    name: str, ours: float, peer: float, peer_name: str, unit: str, goal: float | None
) -> Measurement:
    """A row of times or sizes, where less is better and `goal` is the least ratio peer / ours."""
    ratio = peer / ours
    if goal is None:
        return Measurement(name, ours, peer, peer_name, unit, ratio, "", None)
    return Measurement(name, ours, peer, peer_name, unit, ratio, f">= {goal:g} x", ratio >= goal)


def bounded(name: str, ours: float, unit: str, most: float) -> Measurement:
    """A row with no peer: ours must not be above `most`."""
    return Measurement(name, ours, None, None, unit, None, f"<= {most:g} {unit}", ours <= most)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes, in seconds of wall-clock time."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(calls: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """The median of each call's measurement, after a warm-up of each that does not count.

    One of each in turn, so that noise hits all alike.
    """
    for call in calls:
        call()
    measured: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, values in zip(calls, measured, strict=True):
            values.append(call())
    return [statistics.median(values) for values in measured]


def machine() -> dict[str, Any]:
    """What it ran on, without naming the machine."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def to_json(rows: Sequence[Measurement]) -> dict[str, Any]:
    """The machine and the rows as plain values."""
    return {"machine": machine(), "rows": [asdict(row) for row in rows]}


def to_table(rows: Sequence[Measurement]) -> Table:
    """The rows for a terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("what", "ours", "peer", "unit", "ratio", "goal", "met"):
        table.add_column(column, justify="right" if column in ("ours", "peer", "ratio") else "left")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.ours:.3g}",
            "" if row.peer is None else f"{row.peer:.3g} ({row.peer_name})",
            row.unit,
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.goal,
            "" if row.met is None else "yes" if row.met else "NO",
        )
    return table
