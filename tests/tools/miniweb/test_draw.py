"""Keyed draws: a choice depends on its key alone, and is spread as it should be."""

from collections import Counter

from tools.miniweb import draw


def test_a_draw_is_a_function_of_its_key() -> None:
    assert draw.uniform("a", 1) == draw.uniform("a", 1) != draw.uniform("a", 2)
    # The parts of a key are kept apart, so neighbouring keys do not meet.
    assert draw.digest("a", "bc") != draw.digest("ab", "c")


def test_draws_are_spread_evenly() -> None:
    counts = Counter(draw.below(4, "even", number) for number in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert all(abs(count - 1000) < 110 for count in counts.values()), "four standard deviations"


def test_weights_are_shares() -> None:
    shares = {"rare": 1.0, "often": 9.0, "never": 0.0}
    counts = Counter(draw.pick_weighted(shares, "weighted", number) for number in range(4000))
    assert set(counts) == {"rare", "often"}
    assert abs(counts["rare"] - 400) < 80, "four standard deviations"


def test_a_sample_has_distinct_places_and_a_shuffle_keeps_all() -> None:
    items = list(range(50))
    assert len(set(draw.sample(items, 20, "sample"))) == 20
    assert draw.sample(items, 80, "sample") == draw.shuffled(items, "sample")
    assert sorted(draw.shuffled(items, "sample")) == items != draw.shuffled(items, "sample")
