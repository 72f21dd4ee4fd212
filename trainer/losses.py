"""The contrastive objective, and the positive-pair regulariser of Chen et al.

Logits are always float32: at a scale of 100 a bfloat16 step is 0.5. Shapes: B pairs, E embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Loss:
    """The objective, with its graph, and two readings of the batch, without."""

    value: Tensor
    positive_cosine: Tensor
    """Mean cosine of an image and its own text."""
    margin: Tensor
    """Mean over images of the own text's cosine less the best other text's."""


def clip_loss(image_BE: Tensor, text_BE: Tensor, scale: Tensor, pos_reg: float = 0.0) -> Loss:
    """Symmetric cross-entropy over the cosines of B pairs (CLIP figure 3).

    `image_BE` and `text_BE` have unit rows; `scale` multiplies cosines. `pos_reg` is the lambda of
    Chen et al. (ICLR 2024): it adds lambda * mean(1 - cosine of positives), outside the scale.
    """
    with torch.autocast(image_BE.device.type, enabled=False):
        cosine_BB = image_BE.float() @ text_BE.float().T
        logits_BB = scale.float() * cosine_BB
        labels_B = torch.arange(len(cosine_BB), device=cosine_BB.device)
        value = (F.cross_entropy(logits_BB, labels_B) + F.cross_entropy(logits_BB.T, labels_B)) / 2
        positive_B = cosine_BB.diagonal()
        if pos_reg:
            value = value + pos_reg * (1 - positive_B).mean()
    return Loss(value, positive_B.detach().mean(), _margin(cosine_BB.detach()))


def _margin(cosine_BB: Tensor) -> Tensor:
    others_BB = cosine_BB.clone().fill_diagonal_(-torch.inf)
    return (cosine_BB.diagonal() - others_BB.amax(dim=1)).mean()
