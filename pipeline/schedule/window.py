"""The tasks in flight: which index each is for, when it started, and which of them straggle."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HEDGE_FLOOR_S = 20.0
"""No partition counts as a straggler sooner than this."""


@dataclass
class Window:
    """Tasks in flight, by Ray reference: which index each is for and when it was started."""

    hedge_after: float
    clock: Callable[[], float] = time.monotonic
    flying: dict[Any, tuple[int, float]] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)
    landed: set[int] = field(default_factory=set)
    hedged: set[int] = field(default_factory=set)

    def add(self, reference: Any, index: int) -> None:
        """Note that a task has started."""
        self.flying[reference] = (index, self.clock())

    def land(self, reference: Any) -> tuple[int, bool]:
        """The index of a finished task, and whether it is the first attempt to finish."""
        index, started = self.flying.pop(reference)
        self.durations.append(self.clock() - started)
        first = index not in self.landed
        self.landed.add(index)
        return index, first

    def stragglers(self) -> list[int]:
        """Indices in flight for much longer than the others took, each named once."""
        if not self.durations:
            return []
        patience = max(HEDGE_FLOOR_S, self.hedge_after * statistics.median(self.durations))
        now = self.clock()
        late = [
            index
            for index, started in self.flying.values()
            if now - started > patience and index not in self.hedged
        ]
        self.hedged.update(late)
        return late
