"""A rank's share of one training step, as tensors of one device.

Workers make it, devices resize its crops, and steps train on it.
Shapes: b samples, C side of the canvas, K patches kept, L tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

TOKEN_MULTIPLE = 8
"""Texts are padded to a multiple of this many tokens: few shapes, and little padding."""


def canvas_side(side: int) -> int:
    """Side of the canvas that holds crops for a tower of this side: 256 for 224."""
    return -(-side * 8 // 7)


@dataclass(frozen=True)
class Batch:
    """b samples of one step."""

    pixels: Tensor
    """uint8 (b, C, C, 3): the crop in the top left corner of a canvas, zeros around it."""
    sides: Tensor
    """int64 (b,): side of the crop in its canvas."""
    mirror: Tensor
    """bool (b,)."""
    jitter: Tensor
    """float32 (b, 3): uniform draws for brightness, contrast and saturation."""
    kept: Tensor | None
    """int64 (b, K): ascending patches that stay in training; None keeps all."""
    tokens: Tensor
    """int64 (b, L): framed ids, zeros behind the end marker."""
    uids: Tensor
    """int64 (b, 2): the words of the uid, as bits."""
    image_ids: Tensor | None
    """int64 (b,): equal for the same picture; only where duplicates are masked."""
    text_ids: Tensor | None
    """int64 (b,): equal for the same token ids; only where duplicates are masked."""
    weights: Tensor | None
    """float32 (b,): only where pairs are weighted."""
    bad: tuple[str, ...]
    """Uids, as hex, of pairs whose picture does not decode; a neighbour stands in for each."""

    def to(self, device: torch.device | str) -> "Batch":
        """On a device; from pinned memory the copies do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def part(self, start: int, stop: int) -> "Batch":
        """The samples `start` to `stop` - 1."""
        return self._each(lambda tensor: tensor[start:stop])

    def pinned(self) -> "Batch":
        """In page-locked memory."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: change(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)
