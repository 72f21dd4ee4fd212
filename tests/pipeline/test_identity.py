"""Identity: what differs from the defaults, and the code that a stage is made of."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grimp
import pyarrow as pa
import pytest
from pydantic import ConfigDict, Field, create_model

from jobs.stages.catalogue import CATALOGUE
from pipeline import identity
from pipeline.dataset.column import Column
from pipeline.dataset.params import Params
from pipeline.identity import (
    COLUMNS,
    DECLARATIONS,
    canonical_json,
    recipe_key,
    stage_source,
)
from pipeline.plan import make
from pipeline.recipe.recipe import load
from pipeline.schedule.inline import Inline
from pipeline.stage import AnyStage
from pipeline.store.objects import Store
from tests.support import toy
from tests.support.toy import build_toy, write_recipe

ROOT = Path(__file__).parents[2]
PACKAGES = ("curation", "jobs", "pipeline", "trainer")


def _with_a_new_field(params: type[Params]) -> type[Params]:
    """The same parameters, and one more whose default changes nothing."""
    return create_model(params.__name__, __base__=params, new_and_neutral=(float, 0.0))


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_new_field_with_a_neutral_default_changes_no_key(name: str) -> None:
    stage = CATALOGUE[name]
    required = {"model": "ViT-Ti-8-32px", "steps": 1} if name == "train" else {}
    grown = _with_a_new_field(stage.params)
    inputs = {"upstream": "a" * 32}
    key = recipe_key(stage, stage.params(**required), inputs)
    assert recipe_key(stage, grown(**required), inputs) == key
    chosen = grown(**{**required, "new_and_neutral": 0.5})
    assert recipe_key(stage, chosen, inputs) != key


def test_a_value_that_is_the_default_is_the_same_as_none_given() -> None:
    stage = toy.DIVIDE
    default, spelled, other = stage.params(), stage.params(divisor=3), stage.params(divisor=4)
    assert recipe_key(stage, default, {}) == recipe_key(stage, spelled, {})
    assert recipe_key(stage, default, {}) != recipe_key(stage, other, {})


def test_a_finished_build_is_reused_when_a_stage_has_grown_a_neutral_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = write_recipe(tmp_path), Store(str(tmp_path / "store"))
    build_toy(path, store, Inline())
    divide = toy.CATALOGUE["divide"]
    grown = replace(divide, params=_with_a_new_field(divide.params))
    monkeypatch.setitem(toy.CATALOGUE, "divide", grown)
    assert {step.done for step in make(load(path, toy.CATALOGUE), store)} == {True}
    write_recipe(tmp_path, toy.RECIPE.replace("divisor: 3", "divisor: 3, new_and_neutral: 2"))
    step = make(load(path, toy.CATALOGUE), store)[1]
    assert (step.action, step.why) == ("params changed", "new_and_neutral 0.0\u21922.0")


def test_values_have_one_spelling_and_odd_ones_none() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "\u00e9"}) == '{"a":"\u00e9","b":[1,2.5,null]}'
    with pytest.raises(TypeError):
        canonical_json({"path": Path("x")})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom, as another tool sees it."""
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)


def _closure(graph: grimp.ImportGraph, stage: AnyStage) -> set[str]:
    """The modules that a stage's functions, parameters and reasons stand in or import.

    Less the engine, which cannot change what a stage makes, and with the packages they are in.
    """
    reasons = [stage.reasons] if stage.reasons else []
    modules = {owner.__module__ for owner in (*stage.functions(), stage.params, *reasons)}
    waiting, seen = [name for name in modules if name in graph.modules], set()
    while waiting:
        name = waiting.pop()
        engine = name.startswith("pipeline.") and not name.startswith("pipeline.dataset")
        if name in seen or engine or name == DECLARATIONS:
            continue
        seen.add(name)
        waiting += graph.find_modules_directly_imported_by(name)
    parents = {name.rsplit(".", depth)[0] for name in seen for depth in range(1, 6) if "." in name}
    return seen | {name for name in parents if name != "pipeline"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of our packages that stands for the installed code, to be edited."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda folder, names: _no_source(folder, names),
        )
    monkeypatch.setattr(identity, "_roots", lambda package: (tmp_path / package,))
    identity._path.cache_clear()
    yield tmp_path
    identity._path.cache_clear()


def _no_source(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py") and (Path(folder) / name).is_file()]


def _source_of(module: str, root: Path) -> Path:
    base = root.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def test_an_edit_anywhere_is_drift_of_just_the_stages_that_it_is_part_of(
    checkout: Path, graph: grimp.ImportGraph
) -> None:
    closures = {name: _closure(graph, stage) for name, stage in CATALOGUE.items()}
    before = {name: stage_source(stage) for name, stage in CATALOGUE.items()}
    assert {name: set(source) - {COLUMNS} for name, source in before.items()} == closures
    for module in sorted(set().union(*closures.values())):
        path = _source_of(module, checkout)
        text = path.read_text()
        path.write_text(text + "\n# edited\n")
        after = {name: stage_source(stage) for name, stage in CATALOGUE.items()}
        path.write_text(text)
        drifted = {name for name in CATALOGUE if after[name] != before[name]}
        assert drifted == {name for name, modules in closures.items() if module in modules}, module
        for name in drifted:
            assert {key for key in after[name] if after[name][key] != before[name][key]} == {module}


def test_an_edit_of_the_engine_is_no_drift(checkout: Path) -> None:
    before = {name: stage_source(stage) for name, stage in CATALOGUE.items()}
    for path in [
        *(checkout / "pipeline").glob("*.py"),
        *(checkout / "pipeline/store").glob("*.py"),
    ]:
        path.write_text(path.read_text() + "\n# edited\n")
    assert {name: stage_source(stage) for name, stage in CATALOGUE.items()} == before


def test_columns_that_a_stage_declares_are_part_of_it() -> None:
    stage = toy.RAREST
    other = replace(stage, adds=())
    assert stage_source(other)[COLUMNS] != stage_source(stage)[COLUMNS]


DEFAULTS = ROOT / "tests" / "jobs" / "data" / "defaults.json"


def test_a_changed_default_or_a_lost_field_needs_a_new_version() -> None:
    """The defaults of every version, as they were when it came out.

    A new field is added to the file with its neutral default; any other difference changes results
    that have this version already, so the stage's `version` goes up and gets an entry of its own.
    """
    recorded = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    for name, stage in CATALOGUE.items():
        fields = stage.params.model_fields.items()
        now = {
            field: "(required)"
            if info.is_required()
            else info.get_default(call_default_factory=True)
            for field, info in fields
        }
        entry = f"{name} v{stage.version}"
        plain = json.loads(json.dumps(now))
        assert recorded.get(entry) == plain, (
            f"{entry}: its defaults differ from {DEFAULTS.name}; bump the version, or, for a field "
            f"that is new and neutral, add it there: {json.dumps(plain, sort_keys=True)}"
        )


def test_unknown_parameters_and_mutable_ones_are_refused_when_a_stage_is_declared() -> None:
    class Loose(Params):
        model_config = ConfigDict(extra="allow")

        anything: int = Field(0)

    with pytest.raises(TypeError, match="Loose must be frozen and forbid extras"):
        replace(toy.DISTINCT, params=Loose)
    with pytest.raises(TypeError, match=r"columns called \['value'\] are the ledger's"):
        replace(toy.RAREST, adds=(Column("value", pa.int64(), "A value."),))
    with pytest.raises(TypeError, match="a Fold makes rows of its own"):
        replace(toy.COUNTED, conserves=True)
