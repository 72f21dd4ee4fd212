"""The linear probe against scikit-learn's logistic regression, which minimises the same sum."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jobs.bench.groups import GROUPS, grouped
from tests.support.folders import png
from tests.support.micro import MICRO
from trainer.evaluate.sets import read_set
from trainer.evaluate.tasks import probe
from trainer.models.init import new_clip

pytestmark = pytest.mark.slow

HELD_OUT = Path(__file__).parents[3] / "jobs" / "quickstart" / "heldout" / "wds_openmoji"


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits as unit rows (1797, 64), and what they show."""
    data: Any = pytest.importorskip("sklearn.datasets").load_digits()
    rows = torch.nn.functional.normalize(torch.tensor(data.data, dtype=torch.float32), dim=1)
    return rows, torch.tensor(data.target, dtype=torch.int64)


@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
def test_coefficients_are_those_of_scikit_learn(
    digits: tuple[Tensor, Tensor], strength: float
) -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = digits
    train, test = slice(0, 1200), slice(1200, None)
    oracle = LogisticRegression(C=1 / (strength * 1200), tol=1e-8, max_iter=10_000)
    oracle.fit(features[train].double().numpy(), labels[train].numpy())
    found = probe.fit(features[train], labels[train], strength)
    # Adding one number to all biases changes no probability: only differences are determined.
    bias, expected = found.bias_C.numpy(), oracle.intercept_
    scale = np.abs(oracle.coef_).max()
    np.testing.assert_allclose(found.weight_CE, oracle.coef_, rtol=0, atol=1e-3 * scale)
    np.testing.assert_allclose(bias - bias.mean(), expected - expected.mean(), atol=1e-3 * scale)
    predicted = oracle.predict(features[test].double().numpy())
    np.testing.assert_array_equal(found.predict(features[test]), predicted)


def test_a_fit_does_not_depend_on_where_it_starts(digits: tuple[Tensor, Tensor]) -> None:
    features, labels = digits
    elsewhere = probe.fit(features[:300], labels[:300], 1e-1)
    warm = probe.fit(features, labels, 1e-4, start=elsewhere)
    cold = probe.fit(features, labels, 1e-4)
    torch.testing.assert_close(warm.weight_CE, cold.weight_CE, rtol=0, atol=2e-3)


def test_the_gradient_is_nought_at_the_minimum(digits: tuple[Tensor, Tensor]) -> None:
    features, labels = digits[0].double() + 3, digits[1]
    found = probe.fit(features, labels, 1e-3)
    weight, bias = (part.clone().requires_grad_() for part in (found.weight_CE, found.bias_C))
    loss = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels)
    (loss + 1e-3 / 2 * weight.square().sum()).backward()  # type: ignore[no-untyped-call]
    for part in (weight, bias):
        assert part.grad is not None and part.grad.abs().max() < 1e-6


def test_cross_validation_is_right_where_scikit_learn_is(digits: tuple[Tensor, Tensor]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = digits[0][:500], digits[1][:500]
    score = probe.cross_validate(features, labels)
    folds = probe.stratified_folds(labels, seed=0)
    for fold, strength in enumerate(score.strengths):
        train, test = (folds != fold).numpy(), (folds == fold).numpy()
        regression = LogisticRegression(C=1 / (strength * train.sum()), tol=1e-8, max_iter=10_000)
        oracle = make_pipeline(StandardScaler(), regression)
        oracle.fit(features[train].double().numpy(), labels[train].numpy())
        right = oracle.predict(features[test].double().numpy()) == labels[test].numpy()
        np.testing.assert_array_equal(score.correct_N[test], right)
    low, high = score.interval
    assert 0.8 < low < score.accuracy < high


def test_features_without_information_score_as_chance(digits: tuple[Tensor, Tensor]) -> None:
    noise = torch.randn(600, 32, generator=torch.Generator().manual_seed(0))
    low, high = probe.cross_validate(noise, digits[1][:600]).interval
    assert low < 0.1 < high


@given(st.lists(st.integers(0, 6), min_size=20, max_size=200), st.integers(0, 2**31))
def test_every_class_is_spread_evenly_over_the_folds(classes: list[int], seed: int) -> None:
    labels = torch.tensor(classes)
    folds = probe.stratified_folds(labels, seed)
    sizes = torch.bincount(folds, minlength=probe.FOLDS)
    assert sizes.max() - sizes.min() <= 1
    for each in set(classes):
        inside = torch.bincount(folds[labels == each], minlength=probe.FOLDS)
        assert inside.max() - inside.min() <= 1


def test_images_are_probed_and_one_that_does_not_decode_is_wrong() -> None:
    rng = np.random.default_rng(0)
    labels = torch.arange(45) % 3
    levels = [rng.integers(80 * label, 80 * label + 60, (20, 20, 3)) for label in labels.tolist()]
    encoded = [png(pixels.astype(np.uint8)) for pixels in levels]
    encoded[7] = b"no picture"
    score = probe.probe(new_clip(MICRO, 0).eval(), encoded, labels)
    assert not score.correct_N[7]
    assert score.correct_N.sum() > 38


def test_held_out_drawings_fall_into_the_groups_of_the_charts() -> None:
    encoded, labels = grouped(HELD_OUT)
    names = read_set(HELD_OUT).classes
    group_of = {name: list(GROUPS)[label] for name, label in zip(names, labels, strict=True)}
    for name, group in {
        "thought balloon": "smileys and emotion",
        "waving hand": "people and body",
        "zebra": "animals and nature",
        "hot dog": "food and drink",
        "ambulance": "travel and places",
        "trophy": "activities",
        "violin": "objects",
        "Aries": "symbols",
        "flag of Wales": "flags",
    }.items():
        assert group_of[name] == group
    assert len(encoded) == len(labels) == 1699
    assert min(Counter(labels).values()) >= 80
