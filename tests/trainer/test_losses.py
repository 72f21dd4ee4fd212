"""The objective against open_clip's ClipLoss, by hand, and by its gradient."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.losses import clip_loss


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(count, width, generator=generator), dim=-1)
    return rows.requires_grad_()


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_value_and_gradients_are_open_clips(open_clip: Any, scale: float) -> None:
    peer = open_clip.loss.ClipLoss()
    sides = []
    for compute in (
        lambda i, t, s: clip_loss(i, t, s).value,
        lambda i, t, s: peer(i, t, logit_scale=s),
    ):
        image, text = unit_rows(16, 8, 0), unit_rows(16, 8, 1)
        factor = torch.tensor(scale, requires_grad=True)
        value = compute(image, text, factor)
        value.backward()
        sides.append((value.detach(), image.grad, text.grad, factor.grad))
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_two_orthogonal_pairs_by_hand() -> None:
    image = torch.eye(2)
    loss = clip_loss(image, image, torch.tensor(1.0))
    assert loss.value.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert loss.positive_cosine.item() == 1 and loss.margin.item() == 1


def test_the_regulariser_adds_lambda_times_the_mean_distance_of_positives() -> None:
    image, text = unit_rows(8, 4, 0), unit_rows(8, 4, 1)
    scale = torch.tensor(50.0)
    plain, regular = clip_loss(image, text, scale), clip_loss(image, text, scale, pos_reg=0.3)
    expected = 0.3 * (1 - (image * text).sum(dim=1).mean())
    torch.testing.assert_close(regular.value - plain.value, expected, atol=1e-5, rtol=0)


def test_the_regularisers_gradient_is_finite_differences() -> None:
    image = unit_rows(4, 3, 0).detach().double().requires_grad_()
    text = unit_rows(4, 3, 1).detach()

    def distance(rows: Tensor) -> Tensor:
        with_term = clip_loss(rows, text, torch.tensor(1.0), pos_reg=1.0).value
        return with_term - clip_loss(rows, text, torch.tensor(1.0)).value

    (gradient,) = torch.autograd.grad(distance(image), image)
    torch.testing.assert_close(gradient.float(), -text / 4, atol=1e-6, rtol=0)


def test_logits_are_float32_under_autocast() -> None:
    image, text = unit_rows(32, 16, 0), unit_rows(32, 16, 1)
    exact = clip_loss(image, text, torch.tensor(100.0)).value
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(clip_loss(image, text, torch.tensor(100.0)).value, exact)
