"""The order of samples: every row once an epoch, few shards at once, the same under any split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.uid import keyed_draws, uniform
from trainer.data.order import BLOCK, Mixture, Order
from trainer.errors import ConfigError

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def rows_of(which: Order, turns: np.ndarray) -> np.ndarray:
    """Numbers of rows over all shards."""
    _, shards, rows = which.locate(turns)
    return (np.cumsum(which.sizes) - which.sizes)[shards] + rows


@given(SIZES, st.integers(1, 14), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_epoch_visits_every_row_once(
    sizes: list[int], window: int, seed: int, epoch: int
) -> None:
    which = Order("content", seed, sizes, window)
    turns = np.arange(epoch * which.num_rows, (epoch + 1) * which.num_rows)
    assert np.array_equal(np.sort(rows_of(which, turns)), np.arange(which.num_rows))
    assert (which.locate(turns)[0] == epoch).all()


@given(st.lists(st.integers(1, 40), min_size=2, max_size=30), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_shards_are_used_one_window_at_a_time(sizes: list[int], window: int) -> None:
    which = Order("content", 0, sizes, window)
    _, shards, _ = which.locate(np.arange(2 * which.num_rows))
    at = 0
    while at < len(shards):
        left_in_epoch = which.num_rows - at % which.num_rows
        first = dict.fromkeys(shards[at : at + left_in_epoch].tolist())
        rows = sum(sizes[shard] for shard in list(first)[:window])
        assert len(set(shards[at : at + rows].tolist())) <= window
        assert rows > 0
        at += rows


@given(st.integers(1, 40), st.integers(20, 60))
@settings(max_examples=8, deadline=None)
def test_the_order_does_not_depend_on_how_it_is_split(first: int, second: int) -> None:
    mixture = Mixture([Order("a", 0, [9, 30, 4], 2), Order("b", 0, [50], 2)], [0.7, 0.2], 0)

    def whole_run(size: int) -> np.ndarray:
        spans = [np.arange(start, min(start + size, 150)) for start in range(0, 150, size)]
        places = [mixture.locate(span) for span in spans]
        return np.concatenate([[p.source, p.epoch, p.shard, p.row] for p in places], axis=1)

    assert np.array_equal(whole_run(first), whole_run(second))


@pytest.mark.parametrize("other", [("other", 0, 0), ("content", 1, 0), ("content", 0, 1)])
def test_content_seed_and_epoch_each_give_another_order(other: tuple[str, int, int]) -> None:
    content, seed, epoch = other
    base = rows_of(Order("content", 0, [100] * 10, 10), np.arange(1000))
    changed = rows_of(Order(content, seed, [100] * 10, 10), np.arange(1000) + epoch * 1000)
    assert np.mean(base == changed) < 0.02


def test_a_long_order_looks_random() -> None:
    rows = rows_of(Order("content", 0, [10_000] * 10, 64), np.arange(100_000))
    quarters = np.histogram2d(np.arange(100_000), rows, bins=4)[0]
    assert np.abs(quarters / 6250 - 1).max() < 0.05
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.02


@given(st.lists(st.floats(0.01, 100).map(lambda w: round(w, 2)), min_size=2, max_size=5))
@settings(max_examples=15, deadline=None)
def test_sources_have_their_exact_shares_and_go_through_their_own_epochs(
    weights: list[float],
) -> None:
    orders = [Order(str(index), 0, [300, 500 + index], 1) for index in range(len(weights))]
    places = Mixture(orders, weights, 0).locate(np.arange(4 * BLOCK))
    for index, weight in enumerate(weights):
        mine = places.source == index
        # Each source is rounded down, and takes from what the ones before it have left.
        assert abs(mine.sum() - 4 * BLOCK * weight / sum(weights)) < index + 1
        turns = int(mine.sum())
        epoch, shard, row = orders[index].locate(np.arange(turns))
        dealt = zip(places.epoch[mine], places.shard[mine], places.row[mine], strict=True)
        assert sorted(dealt) == sorted(zip(epoch, shard, row, strict=True))


def test_shares_hold_nearly_at_any_moment() -> None:
    orders = [Order("a", 0, [1000], 1), Order("b", 0, [1000], 1)]
    source = Mixture(orders, [3, 1], 0).locate(np.arange(20_000)).source
    had = np.cumsum(source == 0) - 0.75 * np.arange(1, 20_001)
    assert np.abs(had).max() < BLOCK / 10
    assert np.abs(had[BLOCK - 1 :: BLOCK]).max() < 1e-9


@given(SIZES, st.integers(1, 4), st.integers(0, 3000))
@settings(max_examples=25, deadline=None)
def test_what_was_seen_is_what_was_asked_for(sizes: list[int], window: int, samples: int) -> None:
    orders = [Order("a", 0, [30 * size for size in sizes], window), Order("b", 0, [700, 0, 900], 2)]
    for mixture in (Mixture(orders, [0.1, 0.9], 0), Mixture(orders[1:], [1.0], 0)):
        places = mixture.locate(np.arange(samples))
        for index, (which, seen) in enumerate(
            zip(mixture.orders, mixture.seen(samples), strict=True)
        ):
            expected = np.zeros(which.num_rows, bool)
            mine = places.source == index
            firsts = np.cumsum(which.sizes) - which.sizes
            expected[firsts[places.shard[mine]] + places.row[mine]] = True
            assert np.array_equal(seen, expected)


def test_draws_are_uniform_and_keyed_by_purpose_seed_epoch_and_uid() -> None:
    uids = np.random.default_rng(0).integers(0, 2**63, (20_000, 2)).astype(np.uint64)
    epoch = np.zeros(len(uids), np.int64)
    draws = uniform(keyed_draws("augment", 0, epoch, uids, 4))
    assert draws.min() >= 0 and draws.max() < 1
    assert np.abs(np.histogram(draws, bins=10, range=(0, 1))[0] / 8000 - 1).max() < 0.06
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.03
    for purpose, seed, epochs in (("augment", 1, 0), ("augment", 0, 1), ("patches", 0, 0)):
        other = uniform(keyed_draws(purpose, seed, epoch + epochs, uids, 4))
        assert abs(np.corrcoef(draws[:, 0], other[:, 0])[0, 1]) < 0.03
    shuffled = uniform(keyed_draws("augment", 0, epoch, uids[::-1], 4))
    assert np.array_equal(shuffled[::-1], draws)


@pytest.mark.parametrize("weights", [[1e-7, 1.0], [1.0, 1e-7, 1e-7], [0.0, 1.0]])
def test_a_source_that_would_never_come_is_refused(weights: list[float]) -> None:
    orders = [Order(str(number), 0, [9], 2) for number in range(len(weights))]
    with pytest.raises(ConfigError, match="weights"):
        Mixture(orders, weights, 0)


def test_turns_are_dealt_as_the_example_in_the_documentation_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Mixture, "_within_blocks", lambda _, samples: samples)
    orders = [Order(name, 0, [4], 1) for name in "abc"]
    source, turns = Mixture(orders, [2, 1, 1], 0)._deal(np.arange(8))
    assert source.tolist() == [2, 0, 1, 0, 2, 0, 1, 0]
    assert turns.tolist() == [0, 0, 0, 1, 1, 2, 1, 3]
