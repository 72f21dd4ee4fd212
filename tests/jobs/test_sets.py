"""Evaluation sets of other packages: named in a recipe, found by their entry points."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from jobs.commands.recipes import load_recipe
from jobs.stages import sets
from jobs.stages.sets import expanded
from pipeline.dataset.errors import UserError


def own_set() -> Path:
    """What an entry point of a package would name."""
    return Path(__file__).parent


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("own", f"{__name__}:own_set", sets.GROUP),
        EntryPoint("gone", f"{__name__}:GONE", sets.GROUP),
    ]
    monkeypatch.setattr(sets, "entry_points", lambda group: points)


GONE = Path("/nowhere/at/all")


def test_a_set_stands_for_the_files_of_its_folder() -> None:
    inputs = {"heldout": ("set:own", "more/**"), "pages": ("pages/*",)}
    assert expanded(inputs) == {
        "heldout": (f"{own_set()}/**", "more/**"),
        "pages": ("pages/*",),
    }


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("other", "no installed package brings this set; there are: gone, own"),
        ("gone", "no folder"),
    ],
)
def test_a_set_that_is_not_there_is_one_line(name: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        expanded({"heldout": (f"set:{name}",)})
    assert "\n" not in str(caught.value)


def test_a_recipe_names_it_as_an_input(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\ninputs: {heldout: 'set:own', pages: p/*}\nstages: {}\n")
    assert load_recipe(path).inputs["heldout"] == (f"{own_set()}/**",)
