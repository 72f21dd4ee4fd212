"""Runs: the same result whatever happens on the way, nothing lost, nothing done twice."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset.errors import DamagedFile, Exit
from pipeline.dataset.manifest import load
from pipeline.errors import StageFailed
from pipeline.identity import stage_source
from pipeline.plan import make
from pipeline.recipe.recipe import load as load_recipe
from pipeline.run import summary
from pipeline.schedule.inline import Inline
from pipeline.stage import Map, Output, RowsTask
from pipeline.store.objects import Store
from tests.support import toy
from tests.support.schedulers import Chaotic, Killed
from tests.support.toy import CATALOGUE, RECIPE, brute_force, build_toy, contents, write_recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What an unbroken run comes to."""
    folder = tmp_path_factory.mktemp("expected")
    return contents(build_toy(write_recipe(folder), Store(str(folder / "store")), Inline()))


def test_the_result_is_what_brute_force_says(tmp_path: Path, store: Store) -> None:
    made = build_toy(write_recipe(tmp_path), store, Inline())
    left = brute_force(seeds=5, rows=300, divisor=3)
    assert toy.numbers_left(made.finished["distinct"]) == left
    assert made.finished["count"].table()["number"].to_pylist() == left
    assert made.finished["rarest"].table()["total"][0].as_py() == len(left)


def test_rows_are_conserved_at_every_stage(tmp_path: Path, store: Store) -> None:
    made = build_toy(write_recipe(tmp_path), store, Inline())
    given = None
    for name in ("numbers", "divide", "distinct", "rarest"):
        manifest = made.finished[name].manifest
        assert manifest.rows_in == manifest.rows_kept + manifest.rows_dropped
        assert sum(manifest.reasons.values()) == manifest.rows_dropped
        assert given in (None, manifest.rows_in)
        given = manifest.rows_kept
        parts = [made.finished[name].rows(part.index).num_rows for part in manifest.parts]
        assert sum(parts) == manifest.rows_kept
        assert sum(t.num_rows for t in made.finished[name].dropped()) == manifest.rows_dropped


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), kills=st.lists(st.integers(0, 12), max_size=6))
def test_any_order_any_kills_any_double_work_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    expected: dict[str, tuple[str, str]],
    seed: int,
    kills: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("chaos")
    path, store = write_recipe(folder), Store(str(folder / "store"))
    done: list[tuple[str, str, int]] = []
    for number, lives in enumerate(kills):
        scheduler = Chaotic(seed + number, lives)
        with suppress(Killed):
            build_toy(path, store, scheduler)
        done += scheduler.done
    last = Chaotic(seed - 1)
    assert contents(build_toy(path, store, last)) == expected
    done += last.done
    assert len(done) == len(set(done)), "work was done again after its commit"


def test_a_second_run_does_nothing(tmp_path: Path, store: Store) -> None:
    path = write_recipe(tmp_path)
    build_toy(path, store, Inline())
    again = Chaotic(0)
    made = build_toy(path, store, again)
    assert again.done == []
    assert {step.action for step in made.steps} == {"reused"}


def _reasons(path: Path, store: Store) -> dict[str, tuple[str, str]]:
    return {
        step.node.name: (step.action.value, step.why)
        for step in make(load_recipe(path, CATALOGUE), store)
    }


def test_a_plan_says_why(tmp_path: Path, store: Store) -> None:
    path = write_recipe(tmp_path)
    assert _reasons(path, store)["numbers"] == ("new", "never made for this build")
    assert _reasons(path, store)["divide"] == ("waits", "for numbers")
    build_toy(path, store, Inline())
    assert set(_reasons(path, store).values()) == {("reused", "")}
    write_recipe(tmp_path, RECIPE.replace("divisor: 3", "divisor: 5"))
    reasons = _reasons(path, store)
    assert reasons["numbers"] == ("reused", "")
    assert reasons["divide"] == ("params changed", "divisor 3\N{RIGHTWARDS ARROW}5")
    assert reasons["distinct"][0] == "waits"
    write_recipe(tmp_path)
    (tmp_path / "seeds" / "000").write_text("77")
    assert _reasons(path, store)["numbers"] == ("input changed", "seeds")


def test_a_plan_remembers_what_a_changed_run_was_killed_before(
    tmp_path: Path, store: Store
) -> None:
    path = write_recipe(tmp_path)
    build_toy(path, store, Inline())
    write_recipe(tmp_path, RECIPE.replace("rows: 300", "rows: 200"))
    with pytest.raises(Killed):
        build_toy(path, store, Chaotic(3, lives=7))
    write_recipe(tmp_path, RECIPE.replace("divisor: 3", "divisor: 5"))
    reasons = _reasons(path, store)
    assert reasons["numbers"] == ("reused", "")
    assert reasons["divide"] == ("params changed", "divisor 3\N{RIGHTWARDS ARROW}5")


def test_a_changed_execution_changes_nothing(tmp_path: Path, store: Store) -> None:
    path = write_recipe(tmp_path)
    build_toy(path, store, Inline())
    write_recipe(tmp_path, RECIPE + "  all: {retries: 1, num_cpus: 2}\n")
    assert set(_reasons(path, store).values()) == {("reused", "")}


def test_the_same_bytes_again_cut_the_work_off_early(tmp_path: Path, store: Store) -> None:
    path = write_recipe(tmp_path)
    build_toy(path, store, Inline())
    # No number below 997 is divisible by 1009 or 2003, so both parameters drop the same rows.
    write_recipe(tmp_path, RECIPE.replace("divisor: 3", "divisor: 1009"))
    build_toy(path, store, Inline())
    write_recipe(tmp_path, RECIPE.replace("divisor: 3", "divisor: 2003"))
    made = build_toy(path, store, Inline())
    actions = {step.node.name: step.action.value for step in made.steps}
    assert actions["divide"] == "params changed" and actions["distinct"] == "reused"


def test_other_code_under_the_same_version_is_drift(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path)
    build_toy(path, store, Inline())
    source = {**stage_source(CATALOGUE["divide"]), "tests.support.toy": "other"}
    monkeypatch.setattr("pipeline.plan.stage_source", lambda stage: source)
    action, why = _reasons(path, store)["divide"]
    assert action == "drift" and "made by other code of divide v1 (tests.support.toy)" in why


Function = Callable[[RowsTask[Any, Any]], Output]


def _with_divide(monkeypatch: pytest.MonkeyPatch, function: Function) -> None:
    monkeypatch.setitem(CATALOGUE, "divide", replace(CATALOGUE["divide"], shape=Map(function)))


BREACHES: list[tuple[Function, str]] = [
    (lambda task: Output(task.table.slice(1)), "was given 300 rows and returned 299"),
    (lambda task: Output(task.table.take(list(range(300))[::-1])), "in another order"),
    (lambda task: Output(task.table.slice(0, 1 // 0)), "partition 0: ZeroDivisionError"),
    (
        lambda task: Output(task.table.append_column("guess", task.table["number"])),
        "added columns that it does not declare: guess",
    ),
    (lambda task: Output(task.table.drop_columns(["number"])), "left out the columns number"),
    (
        lambda task: Output(task.table.append_column("number", task.table["number"])),
        "returned several columns called number",
    ),
    (
        lambda task: Output(task.table.set_column(2, "number", task.table["number"].cast("int32"))),
        "returned column number as int32, declared is int64",
    ),
]


@pytest.mark.parametrize(("function", "what"), BREACHES)
def test_a_stage_that_breaks_its_contract_fails_and_commits_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, function: Function, what: str
) -> None:
    _with_divide(monkeypatch, function)
    with pytest.raises(StageFailed, match=what):
        build_toy(write_recipe(tmp_path), store, Inline())
    assert store.paths("divide") == [
        path for path in store.paths("divide") if path.endswith("plan.json")
    ]


def test_a_reason_off_the_list_fails(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "divide", replace(CATALOGUE["divide"], reasons=None))
    with pytest.raises(StageFailed, match="reasons not on its list: broken, divisible"):
        build_toy(write_recipe(tmp_path), store, Inline())


def test_a_damaged_part_is_noticed_before_it_is_parsed(tmp_path: Path, store: Store) -> None:
    path = write_recipe(tmp_path)
    made = build_toy(path, store, Inline(), until="numbers")
    folder = made.finished["numbers"].local
    part = folder / load(folder).parts[2].files["parquet"].path
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(DamagedFile, match="divide, partition 2 cannot trust its input") as caught:
        build_toy(path, store, Inline())
    assert str(part) in str(caught.value) and f"delete {folder}" in str(caught.value)
    assert caught.value.exit_code == Exit.USER_ERROR


def test_losses_to_damage_are_held_against_their_budget(tmp_path: Path, store: Store) -> None:
    path = write_recipe(tmp_path, RECIPE.replace("loss_budget: 1.0", "loss_budget: 0.01"))
    made = build_toy(path, store, Inline())
    [loss] = made.losses
    broken = made.finished["divide"].manifest.reasons["broken"]
    assert (loss.node, loss.lost, loss.budget) == ("divide", broken, 0.01)
    assert "over the budget of 1.00%" in str(loss) and "broken" in str(loss)
    assert summary(made)["losses"][0]["lost"] == broken


def test_everything_runs_in_memory(tmp_path: Path, expected: dict[str, tuple[str, str]]) -> None:
    assert contents(build_toy(write_recipe(tmp_path), Store("memory://run"), Inline())) == expected
