"""The processes that train together: this one's rank, and the few values that they exchange.

Uses what a launcher set up (torchrun's environment, or a process group that Ray Train made) and
falls back to a world of one, which exchanges nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.errors import ConfigError

TIMEOUT = timedelta(minutes=10)
"""How long a collective waits for a process that does not join it."""


@dataclass(frozen=True)
class World:
    """This process among `size`; `group` is None in a world of one."""

    rank: int
    size: int
    device: torch.device
    group: dist.ProcessGroup | None = None

    def share(self, batch_size: int) -> int:
        """Rows of a batch per process; ConfigError where they do not come out even."""
        if batch_size % self.size:
            raise ConfigError(
                f"batch_size {batch_size} cannot be split evenly among {self.size} processes; "
                f"use a multiple of {self.size}, or another number of processes"
            )
        return batch_size // self.size

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes, as float64; one round trip."""
        if self.group is None:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total, group=self.group)
        summed: list[float] = total.tolist()
        return summed

    def agree(self, value: int) -> bool:
        """Whether every process has the same value."""
        if self.group is None:
            return True
        bounds = torch.tensor([value, -value], device=self.device)
        dist.all_reduce(bounds, dist.ReduceOp.MAX, group=self.group)
        high, low = bounds.tolist()
        return bool(high == -low)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, (sum of n, ...), in the order of ranks; n may differ."""
        if self.group is None:
            return rows
        counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        counts[self.rank] = len(rows)
        dist.all_reduce(counts, group=self.group)
        most = int(counts.max())
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype, device=self.device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        cut = [part[:count] for part, count in zip(parts, counts.tolist(), strict=True)]
        return torch.cat(cut).to(rows.device)


@contextmanager
def connected(device: str) -> Iterator[World]:
    """The world that this process was launched into, for as long as it trains.

    A process group that stands already (Ray Train's) is used and left alone; otherwise one is made
    from torchrun's environment where WORLD_SIZE is above 1, and taken down at the end.
    """
    if dist.is_initialized():
        yield _world(device)
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        where = _own(device)
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=TIMEOUT)
        try:
            yield _world(device)
        finally:
            dist.destroy_process_group()
    else:
        where = _usable(_named(device))
        if where.index is not None and where.type == "cuda":
            torch.cuda.set_device(where)
        yield World(0, 1, where)


def _world(device: str) -> World:
    size = dist.get_world_size()
    group = dist.group.WORLD if size > 1 else None
    return World(dist.get_rank(), size, _own(device), group)


def _own(device: str) -> torch.device:
    """The named device; for cuda without a number, the GPU of this process's local rank."""
    where = _named(device)
    if where.type == "cuda" and where.index is None:
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if _usable(where).type == "cuda":
        torch.cuda.set_device(where)
    return where


def _named(device: str) -> torch.device:
    try:
        where = torch.device(device)
    except RuntimeError:
        where = None
    if where is None or where.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: {device!r} is none of cpu, cuda, cuda:0, cuda:1, ...")
    return where


def _usable(device: torch.device) -> torch.device:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {device} is asked for, but torch finds no GPU here; use cpu")
    return device
