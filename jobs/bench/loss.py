"""The loss beside open_clip's: memory at large batches, its growth, and time, forward and backward.

Every measurement has a process of its own, whose peak is what Linux says it was (VmHWM), less what
it held before the loss.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.bench.table import Measurement, against, bounded, interleaved, seconds
from trainer.config import Objective
from trainer.losses.objectives import contrastive_loss

WIDTH = 512
BATCHES = (8192, 16384, 32768)
TIMED = 4096
PEER = "open_clip ClipLoss"
DENSE_COPIES = 5
"""Matrices of the whole batch that the dense loss holds at its peak, with some to spare."""


def measure(repeats: int) -> list[Measurement]:
    """Memory where the dense loss still fits this machine, growth of ours, and time."""
    ours = [_apart("ours", batch)["megabytes"] for batch in BATCHES]
    rows = []
    fitting = [batch for batch in BATCHES if _available_bytes() > DENSE_COPIES * 4 * batch**2]
    if fitting:
        batch = fitting[-1]
        dense, tiled = _apart("dense", batch)["megabytes"], ours[BATCHES.index(batch)]
        rows.append(against(f"{_name(batch)}: memory of the loss", tiled, dense, PEER, "MB", 20))
    growth = f"memory of the loss, {BATCHES[-1] // 1024} K over {BATCHES[0] // 1024} K"
    rows.append(bounded(growth, ours[-1] / ours[0], "x", 1.1 * BATCHES[-1] / BATCHES[0]))
    timed = [partial(_seconds_apart, side) for side in ("ours", "dense")]
    time, peer_time = interleaved(timed, repeats)
    rows.append(against(f"{_name(TIMED)}: time of the loss", time, peer_time, PEER, "s", None))
    return rows


def _name(batch: int) -> str:
    return f"{batch // 1024} K x {WIDTH}"


def _available_bytes() -> int:
    return 1024 * _kilobytes("/proc/meminfo", "MemAvailable")


def _kilobytes(file: str, name: str) -> int:
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _apart(side: str, batch: int) -> dict[str, float]:
    command = [sys.executable, "-m", "jobs.bench.loss", side, str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _seconds_apart(side: str) -> float:
    return _apart(side, TIMED)["seconds"]


def _measure_here(side: str, batch: int) -> dict[str, float]:
    compute = _ours if side == "ours" else _dense()
    _step(compute, *_rows(64))
    rows = _rows(batch)
    Path("/proc/self/clear_refs").write_text("5")  # Forgets the peak of what came before.
    before = _kilobytes("/proc/self/status", "VmHWM")
    took = seconds(lambda: _step(compute, *rows))
    peak = _kilobytes("/proc/self/status", "VmHWM")
    return {"megabytes": (peak - before) / 1024, "seconds": took}


def _rows(batch: int) -> tuple[Tensor, Tensor]:
    """Unit rows; made in place, so that making them leaves no peak of its own."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(batch, WIDTH, generator=generator) for _ in range(2)]
    image_BE, text_BE = (row.div_(row.norm(dim=1, keepdim=True)).requires_grad_() for row in rows)
    return image_BE, text_BE


def _step(compute: Callable[[Tensor, Tensor, Tensor], Any], image: Tensor, text: Tensor) -> None:
    scale = torch.tensor(1 / 0.07, requires_grad=True)
    compute(image, text, scale).backward()


def _ours(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    return contrastive_loss(image, text, scale, None, Objective()).value


def _dense() -> Callable[[Tensor, Tensor, Tensor], Any]:
    """open_clip's loss from its file alone: the package needs torchvision's operators."""
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("open_clip", name="open_clip")
    path = str(Path(package.origin).with_name("loss.py"))
    spec = spec_from_loader("open_clip_loss", SourceFileLoader("open_clip_loss", path))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    loss: Callable[[Tensor, Tensor, Tensor], Any] = module.ClipLoss()
    return loss


if __name__ == "__main__":
    print(json.dumps(_measure_here(sys.argv[1], int(sys.argv[2]))))
