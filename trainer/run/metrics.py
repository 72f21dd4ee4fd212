"""What one step saw, as numbers: the loss, the temperature, and the geometry of the embeddings.

Shapes: B pairs, E embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_ROWS = 1024
"""Rows that the geometry is estimated on: uniformity takes all pairs of them."""


@dataclass(frozen=True)
class Metrics:
    """What one step saw, before its update; nothing here depends on the clock."""

    step: int
    """Steps done, this one included."""
    loss: float
    logit_scale: float
    """The factor on cosines, at most 100."""
    logit_bias: float | None
    """What is added to logits (SigLIP)."""
    positive_cosine: float
    """Mean cosine of an image and its own text."""
    margin: float
    """Mean cosine of the own text less that of the best other text in the batch."""
    grad_norm: float
    """Norm of the whole gradient, before it is clipped."""
    learning_rate: float
    alignment: float
    """Mean squared distance of a pair (Wang and Isola 2020)."""
    uniformity: float
    """Log of the mean of exp(-2 squared distance), images and texts averaged; lower is wider."""
    modality_gap: float
    """Distance of the images' mean embedding from the texts' (Liang et al. 2022)."""


@torch.no_grad()
def geometry(image_BE: Tensor, text_BE: Tensor) -> Tensor:
    """Alignment, uniformity and modality gap of the first 1,024 unit rows, shape (3,)."""
    image_BE, text_BE = image_BE[:MOST_ROWS].detach(), text_BE[:MOST_ROWS].detach()
    alignment = (image_BE - text_BE).square().sum(dim=1).mean()
    uniformity = (_uniformity(image_BE) + _uniformity(text_BE)) / 2
    gap = torch.linalg.vector_norm(image_BE.mean(dim=0) - text_BE.mean(dim=0))
    return torch.stack([alignment, uniformity, gap])


def _uniformity(rows_BE: Tensor) -> Tensor:
    """Over all pairs of different rows; of a single row, 0."""
    count = len(rows_BE)
    if count < 2:
        return rows_BE.new_zeros(())
    squares_BB = 2 - 2 * rows_BE @ rows_BE.T
    kernel_BB = (-2 * squares_BB).exp().fill_diagonal_(0)
    return (kernel_BB.sum() / (count * (count - 1))).log()
