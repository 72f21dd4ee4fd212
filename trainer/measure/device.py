"""A device's clock and its memory, and what to call it in a table.

Times on a GPU come from events in its own queue, so that measuring holds nothing up.
"""

import gc
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Self

import torch

from pipeline.dataset.provenance import revision


@dataclass(frozen=True)
class Machine:
    """What figures were measured on."""

    device: str
    driver: str | None
    cores: int | None
    torch_version: str
    commit: str | None

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """The machine that `device` is in."""
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        else:
            name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
        driver = _driver() if device.type == "cuda" else None
        return cls(name, driver, os.cpu_count(), torch.__version__, revision())

    def __str__(self) -> str:
        driver = f"driver {self.driver}, " if self.driver else ""
        software = f"{driver}torch {self.torch_version}, commit {self.commit}"
        return f"{self.device}, {self.cores} cores, {software}"


def call_seconds(device: torch.device, call: Callable[[], object], count: int) -> float:
    """The median of `count` calls, in seconds, from the end of one to the end of the next."""
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(count):
            call()
            marks.append(time.perf_counter())
        return median(after - before for before, after in pairwise(marks))
    events: list[torch.cuda.Event] = [
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(count + 1)
    ]
    torch.cuda.synchronize(device)
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize(device)
    taken = [before.elapsed_time(after) for before, after in pairwise(events)]
    return float(median(taken)) / 1e3


def peak_bytes(device: torch.device, call: Callable[[], object]) -> int | None:
    """The most memory held during a call, beyond what was held before; None on a CPU."""
    if device.type != "cuda":
        call()
        return None
    free_memory(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def total_bytes(device: torch.device) -> int | None:
    """The device's memory; None on a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def free_memory(device: torch.device) -> None:
    """Let go of what Python and the allocator still hold."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = answer.stdout.splitlines()
    return lines[0] if lines else None
