"""The order of samples: a bijection an epoch, the same under any split, another for another key."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import order


@given(st.integers(1, 5000), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_epoch_visits_every_row_once(rows: int, seed: int, epoch: int) -> None:
    samples = np.arange(epoch * rows, (epoch + 1) * rows)
    visited = order.sample_rows("content", seed, samples, rows)
    assert np.array_equal(np.sort(visited), np.arange(rows))


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_order_does_not_depend_on_how_it_is_split(first: int, second: int) -> None:
    def whole_run(size: int) -> np.ndarray:
        steps = [np.arange(start, min(start + size, 300)) for start in range(0, 300, size)]
        return np.concatenate([order.sample_rows("content", 0, step, 70) for step in steps])

    assert np.array_equal(whole_run(first), whole_run(second))


@pytest.mark.parametrize("other", [("other", 0, 0), ("content", 1, 0), ("content", 0, 1)])
def test_content_seed_and_epoch_each_give_another_order(other: tuple[str, int, int]) -> None:
    content, seed, epoch = other
    base = order.sample_rows("content", 0, np.arange(1000), 1000)
    changed = order.sample_rows(content, seed, np.arange(1000) + epoch * 1000, 1000)
    assert np.mean(base == changed) < 0.02


def test_a_long_order_looks_random() -> None:
    rows = order.sample_rows("content", 0, np.arange(100_000), 100_000)
    quarters = np.histogram2d(np.arange(100_000), rows, bins=4)[0]
    assert np.abs(quarters / 6250 - 1).max() < 0.05
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.02


def test_draws_are_uniform_and_keyed_by_seed_epoch_and_uid() -> None:
    uids = np.random.default_rng(0).integers(0, 2**63, (20_000, 2)).astype(np.uint64)
    epoch = np.zeros(len(uids), np.int64)
    draws = order.uniform(order.keyed_draws(0, epoch, uids, 4))
    assert draws.min() >= 0 and draws.max() < 1
    assert np.abs(np.histogram(draws, bins=10, range=(0, 1))[0] / 8000 - 1).max() < 0.06
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.03
    for seed, epochs in ((1, epoch), (0, epoch + 1)):
        other = order.uniform(order.keyed_draws(seed, epochs, uids, 4))
        assert abs(np.corrcoef(draws[:, 0], other[:, 0])[0, 1]) < 0.03
    shuffled = order.uniform(order.keyed_draws(0, epoch, uids[::-1], 4))
    assert np.array_equal(shuffled[::-1], draws)
