"""What counts as trouble, and when a run is lost."""

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.run.guard import WINDOW, DivergenceGuard


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(model="ViT-Ti-8-32px", steps=1000, **changes)


def steady(guard: DivergenceGuard, steps: int = WINDOW) -> None:
    for step in range(steps):
        guard.observe(2.0 + 0.01 * (step % 5), True)


def test_a_loss_far_above_the_recent_ones_is_a_spike_and_one_below_never_is() -> None:
    guard = DivergenceGuard(config())
    steady(guard)
    guard.observe(0.1, True)
    assert guard.healthy
    guard.observe(2.5, True)
    assert not guard.healthy and not guard.lost


def test_spikes_do_not_move_what_they_are_judged_by() -> None:
    guard = DivergenceGuard(config(spike_limit=1000))
    steady(guard)
    for _ in range(500):
        guard.observe(9.0, True)
    assert guard.spikes_in_a_row == 500


def test_only_as_many_in_a_row_as_the_limit_says_make_a_run_lost() -> None:
    guard = DivergenceGuard(config(spike_limit=3, refused_limit=2))
    steady(guard)
    for loss, finite in ((9.0, True), (9.0, True), (2.0, True), (9.0, True), (9.0, True)):
        guard.observe(loss, finite)
        assert not guard.lost
    guard.observe(9.0, True)
    assert guard.lost
    other = DivergenceGuard(config(refused_limit=2))
    for finite in (False, True, False):
        other.observe(math.nan if not finite else 2.0, finite)
        assert not other.lost
    other.observe(math.nan, False)
    assert other.lost and other.refused == 3


def test_nothing_is_a_spike_before_there_is_something_to_compare_with() -> None:
    guard = DivergenceGuard(config())
    steady(guard, WINDOW // 2 - 1)
    guard.observe(50.0, True)
    assert guard.healthy


def test_the_watch_for_spikes_can_be_turned_off() -> None:
    guard = DivergenceGuard(config(spike_deviations=0))
    steady(guard)
    guard.observe(50.0, True)
    assert guard.healthy


@given(st.lists(st.tuples(st.floats(0.1, 100), st.booleans()), max_size=150), st.integers(0, 150))
def test_a_guard_restored_from_json_goes_on_as_one_that_never_stopped(
    steps: list[tuple[float, bool]], cut: int
) -> None:
    whole, first = DivergenceGuard(config()), DivergenceGuard(config())
    for loss, finite in steps[:cut]:
        first.observe(loss, finite)
    second = DivergenceGuard(config())
    second.restore(json.loads(json.dumps(first.state())))
    for loss, finite in steps[cut:]:
        second.observe(loss, finite)
    for loss, finite in steps:
        whole.observe(loss, finite)
    assert second.state() == whole.state()


def test_a_rewind_counts_and_keeps_what_was_refused() -> None:
    guard = DivergenceGuard(config(refused_limit=2))
    steady(guard)
    before = guard.state()
    for _ in range(2):
        guard.observe(math.nan, False)
    guard.rewound(before)
    assert (guard.refused, guard.rewinds, guard.healthy) == (2, 1, True)


def test_steps_of_either_kind_count_until_a_healthy_one() -> None:
    guard = DivergenceGuard(config(refused_limit=99, spike_limit=99))
    for _ in range(40):
        guard.observe(1.0, finite=True)
    assert guard.bad_in_a_row == 0 and guard.healthy
    for loss, finite in ((50.0, True), (float("nan"), False), (float("nan"), False), (50.0, True)):
        guard.observe(loss, finite)
    assert (guard.bad_in_a_row, guard.spikes_in_a_row, guard.refused_in_a_row) == (4, 2, 0)
    again = DivergenceGuard(guard.config)
    again.restore(guard.state())
    assert again.bad_in_a_row == 4 and not again.healthy
    guard.observe(1.0, finite=True)
    assert guard.bad_in_a_row == 0 and guard.healthy
