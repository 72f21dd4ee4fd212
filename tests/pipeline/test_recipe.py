"""Recipes: what is read, and what a person is told about what is wrong with one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe, load
from tests.support.toy import CATALOGUE, RECIPE, DivideParams, write_recipe


def _load(tmp_path: Path, text: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    return load(write_recipe(tmp_path, text), CATALOGUE, overrides)


def test_stages_follow_each_other_and_folds_do_not_pass_rows_on(tmp_path: Path) -> None:
    recipe = _load(tmp_path, RECIPE)
    assert [(node.name, node.upstream) for node in recipe.nodes] == [
        ("numbers", "seeds"),
        ("divide", "numbers"),
        ("distinct", "divide"),
        ("count", "distinct"),
        ("rarest", "distinct"),
    ]
    assert recipe.nodes[-1].sides == {"counts": "count"}


def test_use_runs_a_stage_again_and_of_and_from_redirect_its_inputs(tmp_path: Path) -> None:
    text = RECIPE.replace(
        "execution:",
        "  again: {use: divide, of: numbers, divisor: 5}\n"
        "  recount: {use: count}\n"
        "  rare: {use: rarest, from: {counts: recount}}\nexecution:",
    )
    again, recount, rare = _load(tmp_path, text).nodes[-3:]
    assert (again.stage.name, again.upstream) == ("divide", "numbers")
    assert again.params == DivideParams(divisor=5)
    assert (recount.upstream, rare.upstream, rare.sides) == (
        "again",
        "again",
        {"counts": "recount"},
    )


def test_execution_is_apart_from_parameters_and_can_be_overridden(tmp_path: Path) -> None:
    text = RECIPE + "  all: {retries: 7}\n"
    recipe = _load(tmp_path, text, {"divide.num_cpus": "2"})
    divide = recipe.nodes[1]
    assert (divide.execution.retries, divide.execution.num_cpus) == (7, 2)
    assert "retries" not in divide.params.model_dump()


MISTAKES = [
    ("divisor: 3", "divisor: three", "toy.yaml:6: stages.divide.divisor:", "'three'"),
    ("divisor: 3", "divisors: 3", "toy.yaml:6: stages.divide.divisors:", "did you mean 'divisor'?"),
    ("  distinct:", "  distinkt:", "toy.yaml:7: stages.distinkt:", "did you mean 'distinct'?"),
    ("  count:\n", "", "toy.yaml:8: stages.rarest.from.counts:", "needs 'count'"),
    ("  numbers: {rows: 300}\n", "", "toy.yaml:5: stages.divide:", "comes first"),
    ("  count:", "  count: {of: nowhere}", "toy.yaml:8: stages.count.of:", "'nowhere'"),
    ("  rarest:", "  rarest: {from: {count: x}}", "stages.rarest.from.count:", "'counts'"),
    ("  count:", "  divide:", "toy.yaml:8:", "divide stands here twice"),
    ("loss_budget: 1.0", "loss_budget: 2", "toy.yaml:11: execution.divide.loss_budget:", "2"),
    (
        "  divide: {loss",
        "  divid: {loss",
        "toy.yaml:11: execution.divid:",
        "did you mean 'divide'?",
    ),
    ("name: toy", "name: To y", "toy.yaml:1: name:", "'To y'"),
    ("name: toy", "nam: toy", "toy.yaml:", "nam"),
    ("inputs:", "inputs: [", "toy.yaml:", "not valid YAML"),
    ("  numbers: {rows: 300}", "  numbers: 300", "toy.yaml:5: stages.numbers:", "300"),
]


@pytest.mark.parametrize(("right", "wrong", "where", "what"), MISTAKES)
def test_a_mistake_is_answered_with_file_line_field_and_what_is_allowed(
    tmp_path: Path, right: str, wrong: str, where: str, what: str
) -> None:
    assert right in RECIPE
    with pytest.raises(RecipeError) as caught:
        _load(tmp_path, RECIPE.replace(right, wrong, 1))
    message = str(caught.value)
    assert where in message and what in message and "\n" not in message


def test_a_recipe_that_is_not_there_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no such recipe"):
        load(tmp_path / "absent.yaml", CATALOGUE)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(RecipeError, match="cannot be read"):
        load(binary, CATALOGUE)
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(RecipeError, match=r"empty\.yaml:1"):
        load(empty, CATALOGUE)
