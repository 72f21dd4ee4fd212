"""The objectives against a dense float64 oracle, open_clip's losses, hand and properties."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.backends import cuda, mkldnn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.dense_loss import (
    OBJECTIVES,
    embeddings,
    exact,
    gradient,
    hints,
    leaves,
    loss_of,
    tiled,
    worst_error,
)
from trainer.config import Objective
from trainer.errors import ConfigError
from trainer.losses.objectives import LossOutput, Pairs, contrastive_loss

SCALES = (1 / 0.07, 100.0)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())


def clip(image: Tensor, text: Tensor, scale: Tensor, **options: Any) -> LossOutput:
    return contrastive_loss(image, text, scale, None, Objective(**options))


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(count, width, generator=generator), dim=-1)
    return rows.requires_grad_()


def assert_same(sides: list[tuple[Tensor, ...]]) -> None:
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_clip_is_open_clips(open_clip: Any, scale: float) -> None:
    peer = open_clip.loss.ClipLoss()
    sides: list[tuple[Tensor, ...]] = []
    for compute in (
        lambda i, t, s: clip(i, t, s).value,
        lambda i, t, s: peer(i, t, logit_scale=s),
    ):
        image, text = unit_rows(16, 8, 0), unit_rows(16, 8, 1)
        factor = torch.tensor(scale, requires_grad=True)
        value = compute(image, text, factor)
        torch.autograd.backward(value)
        sides.append((value.detach(), *map(gradient, (image, text, factor))))
    assert_same(sides)


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_siglip_is_open_clips(open_clip: Any, scale: float) -> None:
    peer = open_clip.loss.SigLipLoss()
    sides: list[tuple[Tensor, ...]] = []
    for compute in (
        lambda i, t, s, b: contrastive_loss(i, t, s, b, Objective("siglip")).value,
        lambda i, t, s, b: peer(i, t, logit_scale=s, logit_bias=b),
    ):
        image, text = unit_rows(16, 8, 0), unit_rows(16, 8, 1)
        factor, bias = (torch.tensor(x, requires_grad=True) for x in (scale, -10.0))
        value = compute(image, text, factor, bias)
        torch.autograd.backward(value)
        sides.append((value.detach(), *map(gradient, (image, text, factor, bias))))
    assert_same(sides)


@every_objective
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("tile", [7, 53, 512])
def test_tiled_is_dense(objective: Objective, scale: float, tile: int) -> None:
    inputs = embeddings(53, 64, scale)
    for pairs in (Pairs(), hints(53)):
        truth = exact(inputs, objective, pairs)
        assert worst_error(tiled(inputs, objective, pairs, tile=tile), truth) < 1e-6


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_tiled_is_dense_for_any_shape_ids_and_weights(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 9), "pairs")
    objective = data.draw(st.sampled_from(list(OBJECTIVES.values())))
    few = st.lists(st.integers(0, 4), min_size=count, max_size=count).map(torch.tensor)
    shares = st.lists(st.floats(0.125, 4, width=32), min_size=count, max_size=count)
    pairs = Pairs(*(data.draw(st.none() | ids) for ids in (few, few, shares.map(torch.tensor))))
    inputs = embeddings(count, data.draw(st.integers(2, 5)), data.draw(st.floats(1, 100)))
    inputs = [*(F.normalize(rows, dim=1) for rows in inputs[:2]), *inputs[2:]]
    tile = data.draw(st.integers(1, 10), "tile")
    ours = tiled(inputs, objective, pairs, dtype=torch.float64, tile=tile)
    for value, true in zip(ours, exact(inputs, objective, pairs), strict=True):
        torch.testing.assert_close(value, true, rtol=1e-7, atol=1e-9)


def test_cyclip_is_clip_and_two_mean_squares() -> None:
    image, text, scale, _ = embeddings(11, 4, 20.0)
    within = ((image @ image.T - text @ text.T) ** 2).mean()
    across = ((image @ text.T - text @ image.T) ** 2).mean()
    both = contrastive_loss(image, text, scale, None, Objective("cyclip", 0, 0.3, 0.5))
    extra = both.value - clip(image, text, scale).value
    torch.testing.assert_close(extra, 11 * (0.3 * within + 0.5 * across))


def test_two_orthogonal_pairs_by_hand() -> None:
    loss = clip(torch.eye(2), torch.eye(2), torch.tensor(1.0))
    assert loss.value.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert loss.positive_cosine.item() == 1 and loss.margin.item() == 1


def test_a_tiny_loss_keeps_its_digits() -> None:
    image = torch.eye(4).requires_grad_()
    loss = clip(image, torch.eye(4), torch.tensor(40.0))
    torch.autograd.backward(loss.value)
    others = math.exp(-40)
    assert loss.value.item() == pytest.approx(math.log1p(3 * others), rel=1e-5)
    by_logit = 40 * others / 4
    expected = by_logit * (torch.ones(4, 4) - 4 * torch.eye(4))
    torch.testing.assert_close(image.grad, expected, rtol=1e-5, atol=0)


def test_the_margin_is_to_the_best_text_that_is_not_hidden() -> None:
    text = F.normalize(torch.tensor([[4.0, 3.0], [3.0, 4.0], [0.0, 1.0]]), dim=1)
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    for objective in (Objective(), Objective("siglip")):
        scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
        seen = contrastive_loss(image, text, scale, bias, objective)
        assert seen.positive_cosine.item() == pytest.approx((0.8 + 0.8 + 1) / 3)
        assert seen.margin.item() == pytest.approx((0.2 - 0.2 + 0.2) / 3, abs=1e-6)
        twins = Pairs(text_ids_B=torch.tensor([5, 6, 6]))
        seen = contrastive_loss(image, text, scale, bias, objective, twins)
        assert seen.margin.item() == pytest.approx((0.2 + 0.2 + 0.4) / 3, abs=1e-6)


@every_objective
def test_a_pair_without_negatives_is_no_trouble(objective: Objective) -> None:
    inputs = leaves(embeddings(5, 4, 100.0))
    same = Pairs(image_ids_B=torch.zeros(5, dtype=torch.int64))
    loss = loss_of(inputs, objective, same)
    torch.autograd.backward(loss.value)
    assert loss.margin.item() == 0
    assert all(torch.isfinite(gradient(leaf)).all() for leaf in inputs)
    if objective == Objective():
        assert loss.value.item() == 0 and not gradient(inputs[0]).any()


@every_objective
def test_equal_weights_and_ids_of_their_own_change_nothing(objective: Objective) -> None:
    inputs, ids = embeddings(13, 8, 30.0), torch.arange(13) * 7
    plain = tiled(inputs, objective, Pairs(), tile=5)
    known = tiled(inputs, objective, Pairs(ids, ids + 3, torch.full((13,), 2.5)), tile=5)
    assert worst_error(known, plain) < 1e-6


def test_the_regularisers_gradient_is_the_other_row() -> None:
    image, text, scale, _ = embeddings(4, 3, 1.0)
    by: list[Tensor] = []
    for pos_reg in (1.0, 0.0):
        image = image.detach().requires_grad_()
        by += torch.autograd.grad(clip(image, text, scale, pos_reg=pos_reg).value, image)
    torch.testing.assert_close(by[0] - by[1], -text / 4)


@every_objective
def test_logits_are_float32_under_autocast(objective: Objective) -> None:
    inputs = embeddings(32, 16, 100.0)
    plain = tiled(inputs, objective, hints(32), tile=9)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, tiled(inputs, objective, hints(32), tile=9), plain))


def test_rows_of_bfloat16_get_a_float32_loss_and_gradients_of_their_own_type() -> None:
    image, text = (rows.bfloat16().requires_grad_() for rows in embeddings(8, 4, 1.0)[:2])
    loss = clip(image, text, torch.tensor(50.0))
    torch.autograd.backward(loss.value)
    assert loss.value.dtype == torch.float32 and gradient(image).dtype == torch.bfloat16
    wide = clip(image.detach().float(), text.detach().float(), torch.tensor(50.0))
    assert torch.equal(loss.value, wide.value)


def product_precisions() -> tuple[str, str]:
    """How products of float32 may be taken on a GPU and on a CPU."""
    libraries: Any = (cuda, mkldnn)  # their `matmul` is set when torch is imported
    on_gpu, on_cpu = (str(library.matmul.fp32_precision) for library in libraries)
    return on_gpu, on_cpu


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is untyped
    """Notes every result: its size, and for products the precision they may be taken in."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's is untyped
        self.largest, self.products = 0, 0
        self.precisions: set[tuple[str, str]] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.untyped_storage().nbytes())
        if "mm" in str(func):
            self.products += 1
            self.precisions.add(product_precisions())
        return out


@every_objective
def test_nothing_is_as_large_as_the_matrix(objective: Objective) -> None:
    inputs = leaves(embeddings(256, 8, 50.0))
    with _Watch() as watch:
        torch.autograd.backward(loss_of(inputs, objective, hints(256), tile=32).value)
    rows, tile, matrix = 256 * 8 * 4, 32 * 32 * 4, 256 * 256 * 4
    assert watch.largest == max(rows, tile) < matrix / 10


@every_objective
def test_products_are_exact_whatever_the_towers_use(objective: Objective) -> None:
    inputs = embeddings(8, 4, 50.0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with _Watch() as watch:
            tiled(inputs, objective, Pairs())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert watch.precisions == {("ieee", "ieee")}


@every_objective
def test_without_gradients_the_value_is_the_same_and_cheaper(objective: Objective) -> None:
    inputs = leaves(embeddings(20, 8, 50.0))
    with _Watch() as graded:
        value = loss_of(inputs, objective, hints(20)).value
    with torch.no_grad(), _Watch() as plain:
        assert torch.equal(loss_of(inputs, objective, hints(20)).value, value)
    assert plain.products < graded.products


@every_objective
def test_gradients_of_cached_rows_are_those_of_one_pass(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures, captions = torch.randn(2, 12, 6, generator=generator).double()
    weight = torch.randn(6, 8, generator=generator).double().requires_grad_()
    scale, bias = leaves(embeddings(1, 1, 30.0)[2:], torch.float64)

    def tower(rows: Tensor) -> Tensor:
        return F.normalize(rows @ weight, dim=1)

    whole = contrastive_loss(tower(pictures), tower(captions), scale, bias, objective, hints(12))
    (expected,) = torch.autograd.grad(whole.value, weight)
    rows = leaves([tower(pictures), tower(captions)], torch.float64)
    loss = loss_of([*rows, scale, bias], objective, hints(12))
    by_rows = torch.autograd.grad(loss.value, rows)
    for some in (slice(0, 5), slice(5, 10), slice(10, 12)):
        outputs = [tower(pictures[some]), tower(captions[some])]
        torch.autograd.backward(outputs, [by[some] for by in by_rows])
    torch.testing.assert_close(weight.grad, expected)


@every_objective
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_row_breaks_the_loss_and_not_silently(objective: Objective, broken: float) -> None:
    image, text, scale, bias = leaves(embeddings(9, 4, 30.0))
    with torch.no_grad():
        image[7, 2] = broken
    assert not torch.isfinite(contrastive_loss(image, text, scale, bias, objective, tile=4).value)


def test_siglip_without_a_bias_is_refused() -> None:
    with pytest.raises(ConfigError, match="logit bias"):
        contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(1.0), None, Objective("siglip"))


def test_there_is_no_second_derivative() -> None:
    image = torch.eye(2).requires_grad_()
    value = clip(image, torch.eye(2), torch.tensor(1.0)).value
    (by,) = torch.autograd.grad(value, image, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.backward(by.sum())
