"""The recipe that README shows: it runs, and what it writes opens in every reader of Parquet."""

import re
import shutil
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from jobs.stages.catalogue import CATALOGUE
from pipeline.recipe.recipe import load
from pipeline.run import Build, build
from pipeline.schedule.inline import Inline
from pipeline.store.objects import Store
from pipeline.watch.progress import Progress

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "jobs" / "quickstart"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """README's recipe over one file of the mini-web."""
    folder = tmp_path_factory.mktemp("readme")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    [recipe] = [block for block in blocks if "stages:" in block]
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "crawl").mkdir()
    shutil.copy(QUICKSTART / "web" / "pages-00.warc.gz", folder / "crawl")
    shutil.copy(QUICKSTART / "queries.txt", folder)
    loaded = load(folder / "recipe.yaml", CATALOGUE)
    return build(loaded, Store(str(folder / "store")), Inline(), Progress())


def test_it_counts_again_after_balancing_and_balances_again(built: Build) -> None:
    assert {"recount", "rebalance"} <= built.finished.keys()
    rows = [built.finished[name].manifest.rows_kept for name in ("balance", "rebalance")]
    assert 0 < rows[1] <= rows[0]


def _parquet_files(built: Build) -> list[Path]:
    return [
        result.local / ref.path
        for result in built.finished.values()
        for part in result.manifest.parts
        for suffix, ref in part.files.items()
        if suffix in ("parquet", "dropped")
    ]


def test_every_part_opens_in_polars_pandas_duckdb_and_pyarrow(built: Build) -> None:
    files = _parquet_files(built)
    assert len(files) > len(built.finished)
    for path in files:
        table = pq.read_table(path)
        names = table.column_names
        assert len(set(names)) == len(names), path
        assert pl.read_parquet(path).columns == names
        assert list(pd.read_parquet(path).columns) == names
        selected = duckdb.connect().execute(f"select * from read_parquet('{path}')").fetchdf()
        assert list(selected.columns) == names
        assert len(selected) == pl.read_parquet(path).height == table.num_rows


def test_the_manifest_names_the_columns_of_its_parts(built: Build) -> None:
    for name, result in built.finished.items():
        named = {column["name"]: column["type"] for column in result.manifest.columns}
        schema = result.rows(0).schema
        # Parquet calls the values of a list its elements, Arrow its items.
        types = {field.name: str(field.type).replace("element", "item") for field in schema}
        assert types == named, name
        assert all(column["about"] for column in result.manifest.columns)
