"""Time and memory of the loss alone, ours and a dense one, from rows to their gradients.

Shapes: B pairs, E embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import Objective
from trainer.losses.objectives import contrastive_loss
from trainer.measure.device import call_seconds, free_memory, peak_bytes, total_bytes
from trainer.measure.peers import dense_loss

WIDTH = 512
"""Of an embedding: that of ViT-B/32 and ViT-B/16."""
REPEATS = 5
SCALE = 1 / 0.07
DENSE_COPIES = 4
"""Matrices that a dense loss holds at its peak, at the least: logits, two softmaxes, a gradient."""


@dataclass(frozen=True)
class LossFigures:
    """A loss and its gradients for a batch of `pairs`."""

    pairs: int
    seconds: float
    memory: int | None
    """Bytes beyond the rows at the peak; None on a CPU."""
    dense_seconds: float | None
    dense_memory: int | None
    skipped: str | None
    """Why there is no dense loss beside it."""


def loss_figures(pairs: int, device: torch.device) -> LossFigures:
    """Both losses of one batch of random unit rows, in float32."""
    image_BE, text_BE = unit_rows(pairs, device, 0), unit_rows(pairs, device, 1)
    scale = torch.tensor(SCALE, device=device, requires_grad=True)

    def ours() -> None:
        loss = contrastive_loss(image_BE, text_BE, scale, None, Objective())
        torch.autograd.grad(loss.value, (image_BE, text_BE, scale))

    def dense() -> None:
        torch.autograd.grad(dense_loss(image_BE, text_BE, scale), (image_BE, text_BE, scale))

    seconds, memory = _measured(ours, device)
    skipped = _too_large(pairs, device)
    if skipped is None:
        try:
            dense_seconds, dense_memory = _measured(dense, device)
            return LossFigures(pairs, seconds, memory, dense_seconds, dense_memory, None)
        except torch.OutOfMemoryError:
            skipped = "does not fit"
    return LossFigures(pairs, seconds, memory, None, None, skipped)


def unit_rows(
    count: int, device: torch.device, seed: int, kind: torch.dtype = torch.float32
) -> Tensor:
    """(count, E) random rows of unit length (to float32) that a gradient can be asked for."""
    chance = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(count, WIDTH, generator=chance), dim=1)
    return rows.to(device, kind).requires_grad_()


def _measured(call: Callable[[], None], device: torch.device) -> tuple[float, int | None]:
    call()
    free_memory(device)
    memory = peak_bytes(device, call)
    return call_seconds(device, call, REPEATS), memory


def _too_large(pairs: int, device: torch.device) -> str | None:
    total, needed = total_bytes(device), DENSE_COPIES * 4 * pairs * pairs
    if total is None or needed < total:
        return None
    return f"does not fit: at least {needed / 1e9:,.0f} GB"
