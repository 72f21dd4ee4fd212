"""How fast a run is, and what holds it up: pairs per second, waiting for data, MFU.

All of it comes from a monotonic clock and is for people; no result depends on it.
"""

import time
from collections.abc import Iterator
from typing import TypeVar

import torch

from trainer.config import TrainConfig
from trainer.data.batch import Batch
from trainer.models.flops import forward_flops
from trainer.parallel.world import World

T = TypeVar("T")

BACKWARD = 3
"""A training step does the arithmetic of three forward passes (without recomputation)."""
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
}
"""Dense bf16 peaks by the vendor's data sheets, by what a device's name contains; first match."""


def peak_flops(device: torch.device) -> float | None:
    """The device's peak in FLOP/s, None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for part, peak in PEAK_TFLOPS.items() if part in name), None)


class ThroughputMeter:
    """Counts pairs, FLOPs, seconds, and seconds spent waiting for batches since the last lap."""

    def __init__(self, config: TrainConfig, world: World) -> None:
        self._config, self._world = config, world
        self._peak = peak_flops(world.device)
        self._waited = 0.0
        self._begin()

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the time that each is waited for is counted."""
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def step(self, batch: Batch) -> None:
        """Count a step on this process's rows."""
        kept = None if batch.kept is None else batch.kept.shape[1]
        per_pair = forward_flops(self._config.shape(), batch.tokens.shape[1], kept)
        self._pairs += self._config.batch_size
        self._flops += BACKWARD * per_pair * len(batch.tokens)

    def lap(self) -> dict[str, float | None]:
        """What was counted since the last lap, as rates and shares; starts a new one."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        mfu = None if self._peak is None else self._flops / seconds / self._peak
        rates = {
            "seconds": seconds,
            "samples_per_s": self._pairs / seconds,
            "samples_per_s_per_device": self._pairs / seconds / self._world.size,
            "data_wait": self._waited / seconds,
            "mfu": mfu,
        }
        self._begin()
        return rates

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._pairs, self._flops, self._waited = 0, 0, 0.0
