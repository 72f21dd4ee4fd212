"""Watches losses and gradients: which updates are refused, and when a run must be rewound.

A step whose loss or gradient is not finite changes no weight. After too many of them in a row, or
too many losses far above the recent ones (spikes), the last good checkpoint's weights are restored
while steps and samples go on, so that the data that caused it is left behind.
"""

import math
import statistics
from collections import deque
from typing import Any

from trainer.config import TrainConfig

WINDOW = 64
"""Recent healthy losses that a spike is judged against; nothing is judged before half are there."""
LEAST_SHARE = 0.02
"""Deviations count as at least this share of the median: a flat loss makes no spikes."""


class DivergenceGuard:
    """Counts refused steps, loss spikes and rewinds; its state is JSON."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.refused = 0
        self.rewinds = 0
        self.refused_in_a_row = 0
        self.spikes_in_a_row = 0
        self.bad_in_a_row = 0
        """Steps of either kind since the last healthy one."""
        self._recent: deque[float] = deque(maxlen=WINDOW)

    @property
    def healthy(self) -> bool:
        """Nothing wrong with the latest step: a checkpoint of it may be rewound to."""
        return not self.bad_in_a_row

    @property
    def lost(self) -> bool:
        """The run is to be rewound."""
        limits = self.config.refused_limit, self.config.spike_limit
        return self.refused_in_a_row >= limits[0] or self.spikes_in_a_row >= limits[1]

    def observe(self, loss: float, finite: bool) -> None:
        """Count a step: its loss, and whether loss and gradient were finite."""
        self.bad_in_a_row += 1
        if not finite:
            self.refused += 1
            self.refused_in_a_row += 1
            return
        self.refused_in_a_row = 0
        if self._is_spike(loss):
            self.spikes_in_a_row += 1
            return
        self.spikes_in_a_row = self.bad_in_a_row = 0
        self._recent.append(loss)

    def rewound(self, state: dict[str, Any]) -> None:
        """Go on after a rewind to the checkpoint with this state; the totals stay."""
        refused, rewinds = self.refused, self.rewinds
        self.restore(state)
        self.refused, self.rewinds = refused, rewinds + 1

    def state(self) -> dict[str, Any]:
        """Everything that later decisions depend on, as JSON values."""
        return {
            "refused": self.refused,
            "rewinds": self.rewinds,
            "refused_in_a_row": self.refused_in_a_row,
            "spikes_in_a_row": self.spikes_in_a_row,
            "bad_in_a_row": self.bad_in_a_row,
            "recent": list(self._recent),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.refused, self.rewinds = state["refused"], state["rewinds"]
        self.refused_in_a_row = state["refused_in_a_row"]
        self.spikes_in_a_row = state["spikes_in_a_row"]
        self.bad_in_a_row = state.get("bad_in_a_row", 0)
        self._recent = deque(state["recent"], maxlen=WINDOW)

    def _is_spike(self, loss: float) -> bool:
        """Whether a loss lies above the recent median by many robust deviations (1.4826 MAD)."""
        if not self.config.spike_deviations or len(self._recent) < WINDOW // 2:
            return False
        median = statistics.median(self._recent)
        mad = statistics.median(abs(loss - median) for loss in self._recent)
        deviation = max(1.4826 * mad, LEAST_SHARE * abs(median), math.ulp(1.0))
        return loss > median + self.config.spike_deviations * deviation
