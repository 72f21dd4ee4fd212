"""The oracle of the losses: the whole matrix in plain PyTorch, and pairs to try it on."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import Objective
from trainer.losses.objectives import LossOutput, Pairs, contrastive_loss

OBJECTIVES = {
    "clip": Objective(),
    "clip, regularised": Objective(pos_reg=0.3),
    "clip, smoothed": Objective(pos_reg=0.1, label_smoothing=0.2),
    "siglip": Objective("siglip"),
    "siglip, smoothed": Objective("siglip", pos_reg=0.3, label_smoothing=0.2),
    "cyclip": Objective("cyclip"),
    "cyclip, uneven": Objective("cyclip", 0.1, 0.7, 0.2, 0.1),
}


def dense_loss(
    image_BE: Tensor,
    text_BE: Tensor,
    scale: Tensor,
    bias: Tensor,
    objective: Objective,
    pairs: Pairs,
) -> Tensor:
    """Every objective from its formula, in the inputs' own precision."""
    count, smoothing = len(image_BE), objective.label_smoothing
    cosine_BB = image_BE @ text_BE.T
    own_BB = torch.eye(count, dtype=torch.bool)
    hidden_BB = torch.zeros_like(own_BB)
    for ids in (pairs.image_ids_B, pairs.text_ids_B):
        if ids is not None:
            hidden_BB |= (ids[:, None] == ids[None, :]) & ~own_BB
    weights_B = torch.ones(count) if pairs.weights_B is None else pairs.weights_B
    weights_B = weights_B.to(image_BE.dtype) / weights_B.to(image_BE.dtype).sum()
    weights_BB = (weights_B[:, None] + weights_B[None, :]) / 2 * ~hidden_BB
    if objective.loss == "siglip":
        targets_BB = own_BB.to(image_BE.dtype) * (1 - smoothing) + smoothing / 2
        entries_BB = F.binary_cross_entropy_with_logits(
            scale * cosine_BB + bias, targets_BB, reduction="none"
        )
        value = (weights_BB * entries_BB).sum()
    else:
        value = torch.zeros((), dtype=image_BE.dtype)
        for logits_BB in (scale * cosine_BB, scale * cosine_BB.T):
            log_BB = logits_BB.masked_fill(hidden_BB, -torch.inf).log_softmax(dim=1)
            mean_B = log_BB.masked_fill(hidden_BB, 0).sum(1) / (~hidden_BB).sum(1)
            row_B = -(1 - smoothing) * log_BB.diagonal() - smoothing * mean_B
            value = value + (weights_B * row_B).sum() / 2
    if objective.loss == "cyclip":
        within_BB = (image_BE @ image_BE.T - text_BE @ text_BE.T) ** 2
        across_BB = (cosine_BB - cosine_BB.T) ** 2
        value = value + objective.cyclip_in * (weights_BB * within_BB).sum()
        value = value + objective.cyclip_cross * (weights_BB * across_BB).sum()
    return value + objective.pos_reg * (weights_B * (1 - cosine_BB.diagonal())).sum()


def embeddings(count: int, width: int, scale: float, seed: int = 0) -> list[Tensor]:
    """Image and text rows with positive cosines of about 0.3, the scale and a bias; float64."""
    generator = torch.Generator().manual_seed(seed)
    both, image, text = (
        torch.randn(count, width, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    rows = [F.normalize(0.65 * both + noise, dim=1).float().double() for noise in (image, text)]
    return [*rows, torch.tensor(scale).double(), torch.tensor(-10.0).double()]


def hints(count: int, seed: int = 0) -> Pairs:
    """Some pictures and captions that occur twice or more, and uneven weights."""
    generator = torch.Generator().manual_seed(seed)
    image_ids_B, text_ids_B = (
        torch.randint(0, 2 * count, (count,), generator=generator) for _ in range(2)
    )
    image_ids_B[-1], text_ids_B[1] = image_ids_B[0], text_ids_B[0]
    return Pairs(image_ids_B, text_ids_B, torch.rand(count, generator=generator) + 0.1)


def part(pairs: Pairs, rows: slice) -> Pairs:
    """The hints of some pairs."""
    fields = {name: getattr(pairs, name) for name in ("image_ids_B", "text_ids_B", "weights_B")}
    return replace(pairs, **{n: None if f is None else f[rows] for n, f in fields.items()})


def leaves(tensors: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Copies that collect gradients."""
    return [tensor.detach().to(dtype).clone().requires_grad_() for tensor in tensors]


def gradient(leaf: Tensor) -> Tensor:
    """What a backward pass has left in a leaf."""
    assert leaf.grad is not None
    return leaf.grad


def loss_of(
    inputs: Sequence[Tensor], objective: Objective, pairs: Pairs, tile: int | None = None
) -> LossOutput:
    """The trainer's loss of image rows, text rows, scale and bias."""
    image_BE, text_BE, scale, bias = inputs
    return contrastive_loss(image_BE, text_BE, scale, bias, objective, pairs, tile=tile)


def exact(inputs: Sequence[Tensor], objective: Objective, pairs: Pairs) -> list[Tensor]:
    """Value, then gradients by the four inputs, of the dense loss in float64."""
    image_BE, text_BE, scale, bias = leaves(inputs, torch.float64)
    value = dense_loss(image_BE, text_BE, scale, bias, objective, pairs)
    by = torch.autograd.grad(
        value, (image_BE, text_BE, scale, bias), allow_unused=True, materialize_grads=True
    )
    return [value.detach(), *by]


def tiled(
    inputs: Sequence[Tensor],
    objective: Objective,
    pairs: Pairs,
    *,
    dtype: torch.dtype = torch.float32,
    tile: int | None = None,
) -> list[Tensor]:
    """The same of the trainer's loss."""
    own = leaves(inputs, dtype)
    loss = loss_of(own, objective, pairs, tile)
    by = torch.autograd.grad(loss.value, own)
    return [loss.value.detach(), *by]


def worst_error(ours: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest norm of a tensor's error, as a share of the norm of the true one (if not 0)."""
    errors = []
    for value, true in zip(ours, exact, strict=True):
        norm = float(true.double().norm())
        errors.append(float((value.double() - true.double()).norm()) / (norm or 1.0))
    return max(errors)
