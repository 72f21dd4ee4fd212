"""Objectives that are plain sums over pairs of pairs: SigLIP's, and CyCLIP's two symmetries.

Each needs one walk over the tiles, which gives value and gradients together.
Shapes: b own pairs, B all pairs, E embedding, r x c a tile.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.losses.tiled import Gradients, LogitGradients, RowBlock
from trainer.parallel.collectives import gathered


def siglip_share(
    block: RowBlock, scale: Tensor, bias: Tensor, smoothing: float, graded: bool
) -> tuple[Tensor, Tensor, Gradients | None]:
    """This process's share of the loss, its best negative cosines (b,), and its gradients.

    Every entry is a binary cross-entropy (Zhai et al. 2023) of the logit x = scale * cosine + bias,
    with target 1 - e / 2 for positives and e / 2 for negatives, times the mean of the two pairs'
    weights. With y = -x for positives and y = x for negatives both are softplus(y) - e / 2 * y.
    An image without negatives has -inf for their best cosine.
    """
    positive_b, weights_b = block.positive_b, block.weights_B[block.own]
    entry_b, gradient_b = _binary(-(scale * positive_b + bias), smoothing)
    value = (weights_b * entry_b).sum(dtype=torch.float64)
    by_bias = -(weights_b * gradient_b).sum(dtype=torch.float64)
    best_b = torch.full_like(positive_b, -torch.inf)
    by_logits = LogitGradients(block) if graded else None
    for tile in block.tiles():
        cosine_rc = block.leave_out(tile, block.cosines(tile), -torch.inf)
        seen_r = best_b[tile.rows]
        torch.maximum(seen_r, cosine_rc.amax(1), out=seen_r)
        # A weight of 0 alone would not do: 0 times an infinite logit is NaN.
        logit_rc = block.leave_out(tile, cosine_rc.mul_(scale).add_(bias), 0)
        weight_rc = block.leave_out(tile, block.pair_weights(tile), 0)
        entry_rc, gradient_rc = _binary(logit_rc, smoothing)
        value += entry_rc.mul_(weight_rc).sum(dtype=torch.float64)
        if by_logits is not None:
            by_logits.add(tile, gradient_rc.mul_(weight_rc))
            by_bias += gradient_rc.sum(dtype=torch.float64)
    if by_logits is None:
        return value, best_b, None
    gradients = by_logits.gradients(weights_b * gradient_b, scale)
    gradients.bias += by_bias
    return value, best_b, gradients


def _binary(logit: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    entry = F.softplus(logit, threshold=40).sub_(logit, alpha=smoothing / 2)
    return entry, logit.sigmoid().sub_(smoothing / 2)


def cyclic_share(
    block: RowBlock, within: float, across: float, gradients: Gradients | None
) -> Tensor:
    """This process's share of within * sum a I^2 + across * sum a C^2 (Goel et al. 2022).

    I = UU' - VV' compares cosines within images U with those within texts V, C = UV' - VU' those
    across; a is 0 for pairs with an id in common, else the mean weight of the two, which without
    weights is 1 / B: CyCLIP's B * mean. From M = (U - V)(U + V)' = I + C and its transpose (I is
    symmetric, C antisymmetric) both come by two products. Gradients are 4 (across a C V + within
    a I U) for U and -4 (across a C U + within a I V) for V, complete for this process's rows.
    Adds them to `gradients` where given.
    """
    image_BE = gathered(block.image_bE, block.group)
    apart_BE, together_BE = image_BE - block.text_BE, image_BE + block.text_BE
    apart_bE, together_bE = apart_BE[block.own], together_BE[block.own]
    value = image_BE.new_zeros((), dtype=torch.float64)
    for tile in block.tiles():
        product_rc = apart_bE[tile.rows] @ together_BE[tile.columns].T
        transposed_rc = together_bE[tile.rows] @ apart_BE[tile.columns].T
        within_rc = (product_rc + transposed_rc).mul_(0.5)
        across_rc = product_rc.sub_(transposed_rc).mul_(0.5)
        weight_rc = block.leave_out(tile, block.pair_weights(tile), 0)
        for entry_rc, share in ((within_rc, within), (across_rc, across)):
            value += share * (entry_rc.square() * weight_rc).sum(dtype=torch.float64)
            entry_rc.mul_(weight_rc).mul_(share)
        if gradients is not None:
            sum_rE = (within_rc + across_rc) @ together_BE[tile.columns]
            difference_rE = within_rc.sub_(across_rc) @ apart_BE[tile.columns]
            gradients.image_bE[tile.rows].add_(sum_rE + difference_rE, alpha=2)
            gradients.text_bE[tile.rows].add_(difference_rE - sum_rE, alpha=2)
    return value
