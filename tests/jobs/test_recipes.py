"""Recipes over the real catalogue: what cannot work is refused before anything runs."""

from pathlib import Path

import pytest

from jobs.stages.catalogue import CATALOGUE
from pipeline.dataset.errors import UserError
from pipeline.errors import RecipeError
from pipeline.plan import check_place, make
from pipeline.recipe.recipe import load
from pipeline.run import build
from pipeline.schedule.inline import Inline
from pipeline.store.objects import Store
from pipeline.watch.progress import Progress
from tests.support.small import ROOT

HEAD = """\
name: r
inputs:
  pages: pages/*
  queries: queries.txt
  heldout: heldout/**
stages:
"""
STAGES = {
    "extract": "",
    "captions": "",
    "language": "",
    "rules": "",
    "url-dedup": "",
    "match": "",
    "count": "",
    "balance": "",
    "fetch": "",
    "image-rules": "",
    "image-dedup": "",
    "image-neighbours": "",
    "near-dedup": "",
    "shard": "",
    "train": "{model: ViT-Ti-8-32px, steps: 1}",
    "evaluate": "",
    "report": "",
}


def _recipe(folder: Path, stages: dict[str, str]) -> Path:
    path = folder / "r.yaml"
    path.write_text(HEAD + "".join(f"  {name}: {entry}\n" for name, entry in stages.items()))
    return path


def _without(*names: str) -> dict[str, str]:
    return {name: entry for name, entry in STAGES.items() if name not in names}


def _with(**entries: str) -> dict[str, str]:
    return {**STAGES, **{name.replace("_", "-"): entry for name, entry in entries.items()}}


def _moved(name: str, behind: str) -> dict[str, str]:
    order = [stage for stage in STAGES if stage != name]
    order.insert(order.index(behind) + 1, name)
    return {stage: STAGES[stage] for stage in order}


WRONG: list[tuple[str, dict[str, str], str]] = [
    ("no match", _without("match"), "stages.count: needs the column 'query_ids'"),
    ("count first", _moved("match", "count"), "'query_ids', which the rows of 'url-dedup' lack"),
    (
        "balance before count",
        _moved("count", "balance"),
        "stages.balance.from.counts: needs 'count'",
    ),
    ("no fetch", _without("fetch"), "stages.image-rules.from.pool: needs 'fetch'"),
    ("dedup before fetch", _moved("image-dedup", "balance"), "needs the column 'sha256'"),
    ("hint", _moved("image-dedup", "balance"), "fetch or shard adds it, so put that before"),
    ("no language", _without("language"), "stages.shard: needs the column 'language'"),
    (
        "no image-rules",
        _without("image-rules"),
        "stages.image-neighbours: needs the column 'phash'",
    ),
    ("shard before fetch", _moved("shard", "balance"), "stages.shard.from.pool: needs 'fetch'"),
    ("no shard", _without("shard"), "stages.train.of: needs the .tar files of fetch or shard"),
    ("train on pool", _with(train="{model: ViT-Ti-8-32px, steps: 1, of: fetch}"), "'tokens'"),
    (
        "captions of pages",
        _with(captions="{of: pages}"),
        "stages.captions.of: reads rows, and 'pages'",
    ),
    (
        "extract of captions",
        _with(extract="{of: queries, max_url_chars: 1}"),
        "stages.extract.max_url",
    ),
    (
        "queries are rows",
        _with(match="{from: {queries: extract}}"),
        "reads files, and 'extract' is a",
    ),
    (
        "pool is no pool",
        _with(image_rules="{from: {pool: extract}}"),
        "needs the .tar files of fetch",
    ),
    ("counts are rows", _with(balance="{from: {counts: match}}"), "needs the column 'query_id'"),
    (
        "counts are files",
        _with(balance="{from: {counts: queries}}"),
        "reads rows, and 'queries' is",
    ),
    ("edges are counts", _with(near_dedup="{from: {edges: count}}"), "needs the column 'uid_a'"),
    ("rules of counts", _with(balance="{of: count}"), "stages.balance: needs the column 'uid'"),
    ("evaluate a list", _with(evaluate="{of: shard}"), "needs the .safetensors files of train"),
    (
        "sets are a stage",
        _with(evaluate="{from: {sets: shard}}"),
        "reads files, and 'shard' is a stage",
    ),
    ("no such side", _with(match="{from: {querys: queries}}"), "did you mean 'queries'?"),
    ("from is a name", _with(match="{from: queries}"), "maps inputs of match (queries) to names"),
    ("of is a list", _with(rules="{of: [captions]}"), "names one stage or input, not ['captions']"),
    (
        "of is later",
        _with(rules="{of: match}"),
        "'match', which is neither an input nor an earlier",
    ),
    ("unknown stage", {**STAGES, "dedupe": ""}, "did you mean"),
    ("unknown field", _with(rules="{min_word: 2}"), "did you mean 'min_words'?"),
    ("wrong type", _with(balance="{t: many}"), "stages.balance.t"),
    ("out of range", _with(shard="{quality: 101}"), "stages.shard.quality"),
    ("no model", _with(train="{steps: 1}"), "stages.train.model"),
    ("unknown model", _with(train="{model: ViT-X, steps: 1}"), "stages.train: "),
    ("list for a stage", _with(rules="[1, 2]"), "stages.rules"),
    ("no first stage", _without("extract"), "stages.captions: comes first"),
    ("an input's name", {**STAGES, "queries": "{use: match}"}, "an input has the same name"),
]


@pytest.mark.parametrize(("name", "stages", "what"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_recipe_that_cannot_work_is_refused_with_file_and_line(
    tmp_path: Path, name: str, stages: dict[str, str], what: str
) -> None:
    path = _recipe(tmp_path, stages)
    with pytest.raises(RecipeError) as caught:
        load(path, CATALOGUE)
    message = str(caught.value)
    assert message.startswith(f"{path}:") and "\n" not in message
    line = int(message.removeprefix(f"{path}:").split(":")[0])
    stage = message.split("stages.")[1].split(":")[0].split(".")[0]
    assert path.read_text().split("\n")[line - 1].strip().startswith(f"{stage}:")
    assert what in message


@pytest.mark.parametrize(
    "left_out",
    [
        (),
        ("rules",),
        ("captions",),
        ("match", "count", "balance"),
        ("url-dedup", "image-dedup"),
        ("image-neighbours", "near-dedup"),
        ("train", "evaluate"),
    ],
)
def test_stages_that_nothing_needs_can_be_left_out(
    tmp_path: Path, left_out: tuple[str, ...]
) -> None:
    recipe = load(_recipe(tmp_path, _without(*left_out)), CATALOGUE)
    assert [node.name for node in recipe.nodes] == list(_without(*left_out))


@pytest.mark.parametrize(
    ("again", "entry"),
    [
        ("recaptions", "{use: captions}"),
        ("relanguage", "{use: language}"),
        ("rededup", "{use: url-dedup}"),
        ("rematch", "{use: match}"),
        ("rebalance", "{use: balance}"),
    ],
)
def test_a_stage_may_run_again_and_replaces_its_own_columns(
    tmp_path: Path, again: str, entry: str
) -> None:
    stages = {name: STAGES[name] for name in list(STAGES)[:8]}
    recipe = load(_recipe(tmp_path, {**stages, again: entry}), CATALOGUE)
    assert recipe.nodes[-1].name == again


def test_what_needs_a_disk_is_refused_when_planned_on_another_store() -> None:
    recipe = load(ROOT / "jobs" / "recipes" / "quickstart.yaml", CATALOGUE)
    store = Store("memory://no-disk")
    with pytest.raises(UserError, match=r"stages\.train: train works on a local disk") as caught:
        make(recipe, store)
    assert "memory://no-disk" in str(caught.value) and "--until" in str(caught.value)
    with pytest.raises(UserError, match=r"stages\.train"):
        build(recipe, store, Inline(), Progress())
    assert store.paths("extract") == [], "nothing is built before it is refused"
    check_place(recipe, store, until="shard")
