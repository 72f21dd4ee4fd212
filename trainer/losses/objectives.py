"""The contrastive objectives, exact over any number of processes, without the matrix of pairs.

A loss and its gradients are computed together, tile by tile, from the rows of the towers; autograd
sees one node. Logits are float32 (at a scale of 100 a bfloat16 step is 0.5), or float64 where the
rows are. Shapes: b own pairs of a process, B all pairs, E embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from trainer.arithmetic import exact_products
from trainer.config import Objective
from trainer.errors import ConfigError
from trainer.losses.pairwise import cyclic_share, siglip_share
from trainer.losses.softmax import clip_share
from trainer.losses.tiled import Gradients, RowBlock
from trainer.parallel.collectives import Group, gathered, own_rank, summed


@dataclass(frozen=True, slots=True)
class Pairs:
    """Ids and weights of a process's b pairs, on the device of their embeddings."""

    image_ids_B: Tensor | None = None
    """int64: equal for the same picture. Such pairs are not negatives of each other."""
    text_ids_B: Tensor | None = None
    """int64: equal for the same caption."""
    weights_B: Tensor | None = None
    """float32, not negative, not all 0: how much a pair counts beside the others."""


@dataclass(frozen=True, slots=True)
class LossOutput:
    """The objective, with its graph, and two metrics of the batch, without."""

    value: Tensor
    positive_cosine: Tensor
    """Mean cosine of an image and its own text."""
    margin: Tensor
    """Mean over images of the own text's cosine less the best other's that is not hidden."""


_UNKNOWN = Pairs()
LARGEST_TILE = 1 << 15
"""A kernel counts the entries of a tile in 32 bits."""


def contrastive_loss(
    image_BE: Tensor,
    text_BE: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    objective: Objective,
    pairs: Pairs = _UNKNOWN,
    *,
    group: Group = None,
    tile: int | None = None,
) -> LossOutput:
    """The loss of all processes' pairs, the same on each of them.

    `image_BE` and `text_BE` are this process's unit rows (b, E), as many as every other's of
    `group`; `scale` multiplies cosines, `bias` is added (siglip alone, which raises ConfigError
    without it). The gradients by the rows are those of the whole loss; those by `scale` and `bias`
    are this process's share, of which the sum over processes is the whole. Memory beyond the rows
    is O(B E + tile^2), where `tile` is the side of a tile in pairs (by default one that suits the
    device). Gradients are there once `value` is: there is no second derivative.
    """
    if objective.loss == "siglip" and bias is None:
        raise ConfigError("loss: siglip needs a model with a logit bias (logit_bias=True)")
    dtype = torch.promote_types(image_BE.dtype, torch.float32)
    image_BE, text_BE = image_BE.to(dtype), text_BE.to(dtype)
    scale = scale.to(dtype).reshape(())
    bias = torch.zeros_like(scale) if bias is None else bias.to(dtype).reshape(())
    inputs = (image_BE, text_BE, scale, bias)
    graded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    with torch.no_grad(), torch.autocast(image_BE.device.type, enabled=False), exact_products():
        block = _row_block(image_BE, text_BE, pairs, group, tile)
        share, best_b, gradients = _share(block, scale, bias, objective, graded)
        value, positive, margin = _over_all(block, share, best_b).to(dtype)
    if gradients is not None:
        by_inputs = (gradients.image_bE, gradients.text_bE, gradients.scale, gradients.bias)
        known: Callable[..., Tensor] = _Known.apply
        value = known(value, *inputs, *(gradient.to(dtype) for gradient in by_inputs))
    return LossOutput(value, positive, margin)


class _Known(Function):
    """A value whose gradients by four inputs have been computed with it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *inputs_and_gradients: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs_and_gradients[4:])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_value: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(by_value * gradient for gradient in ctx.saved_tensors), *(4 * [None]))


def _row_block(
    image_bE: Tensor, text_bE: Tensor, pairs: Pairs, group: Group, tile: int | None
) -> RowBlock:
    text_BE = gathered(text_bE, group)
    side = min(tile or (4096 if text_bE.is_cuda else 1024), LARGEST_TILE)
    if pairs.weights_B is None:
        weights_B = text_BE.new_full((len(text_BE),), 1 / len(text_BE))
    else:
        weights_B = gathered(pairs.weights_B.to(text_bE.dtype), group)
        weights_B = weights_B / weights_B.sum()
    known = (pairs.image_ids_B, pairs.text_ids_B)
    ids = tuple(gathered(ids_b.contiguous(), group) for ids_b in known if ids_b is not None)
    return RowBlock(image_bE, text_BE, weights_B, ids, own_rank(group) * len(image_bE), side, group)


def _share(
    block: RowBlock, scale: Tensor, bias: Tensor, objective: Objective, graded: bool
) -> tuple[Tensor, Tensor, Gradients | None]:
    if objective.loss == "siglip":
        parts = siglip_share(block, scale, bias, objective.label_smoothing, graded)
    else:
        parts = clip_share(block, scale, objective.label_smoothing, graded)
    share, best_b, gradients = parts
    if objective.loss == "cyclip":
        within, across = objective.cyclip_in, objective.cyclip_cross
        share = share + cyclic_share(block, within, across, gradients)
    if objective.pos_reg:
        pull_b = objective.pos_reg * block.weights_B[block.own]
        share = share + (pull_b * (1 - block.positive_b)).sum(dtype=torch.float64)
        if gradients is not None:
            gradients.pull(block, pull_b)
    return share, best_b, gradients


def _over_all(block: RowBlock, share: Tensor, best_b: Tensor) -> Tensor:
    """Loss, mean positive cosine and margin of all processes' pairs, (3,)."""
    positive_b = block.positive_b
    # Where every other text is left out there is no margin; any cosine is above -2.
    contrasted_b = ~(best_b < -2)
    gap_b = torch.where(contrasted_b, positive_b - best_b, 0)
    columns = (positive_b, torch.ones_like(positive_b), gap_b, contrasted_b)
    sums = torch.stack([share, *(column_b.sum(dtype=torch.float64) for column_b in columns)])
    value, positive, count, gap, contrasted = summed(sums, block.group)
    return torch.stack([value, positive / count, gap / contrasted.clamp(min=1)])
