"""A stage from another package: installed, found by its entry point, treated like any other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.small import QUICKSTART, ROOT

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "own_stage"
RECIPE = f"""\
name: loud
inputs:
  pages: {QUICKSTART}/web/pages-00.warc.gz
stages:
  extract:
  captions:
  shouting: {{max_capitals: 0.3}}
"""


class Shell:
    """The `openwit` command in a process that has the example installed."""

    def __init__(self, packages: Path, folder: Path) -> None:
        paths = os.pathsep.join([str(packages), str(ROOT)])
        self._environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"}
        self.folder = folder

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "jobs.commands.app", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def openwit(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("own")
    source = shutil.copytree(EXAMPLE, folder / "source")
    packages = folder / "packages"
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target")
    command = [sys.executable, "-m", "pip", "install", *options, str(packages), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "loud.yaml").write_text(RECIPE)
    return Shell(packages, folder)


def test_the_example_is_short() -> None:
    assert len((EXAMPLE / "own_stage.py").read_text().splitlines()) <= 80


def test_its_parameters_are_its_help(openwit: Shell) -> None:
    shown = openwit("stage", "shouting", "--help")
    assert "Turn captions away that are written in capitals" in shown
    assert "--max-capitals" in shown
    assert "Largest share of a caption's letters that may be capitals" in shown


def test_it_is_planned_run_counted_explained_and_reported(openwit: Shell, tmp_path: Path) -> None:
    before = json.loads(openwit("plan", "loud.yaml", "--json"))
    assert [step["stage"] for step in before] == ["extract", "captions", "shouting"]
    made = json.loads(openwit("run", "loud.yaml", "--inline", "--json"))
    dropped = made["stages"]["shouting"]["reasons"]["shouting"]
    assert dropped > 0
    funnel = json.loads(openwit("funnel", "loud", "--json"))
    assert funnel[-1]["reasons"] == {"shouting": dropped}
    after = json.loads(openwit("plan", "loud.yaml", "--json"))
    assert {step["action"] for step in after} == {"reused"}
    openwit("report", "loud", "--out", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "written in capitals" in page and "raise max_capitals" in page
    shown = openwit("show", "loud/shouting")
    assert "capitals" in shown and "shouting v1" in shown


def test_the_ledger_keeps_what_it_turned_away(openwit: Shell) -> None:
    made = json.loads(openwit("run", "loud.yaml", "--inline", "--json"))
    folder = Path(made["stages"]["shouting"]["folder"])
    store = openwit.folder / "runs" / "loud" / "store"
    [ledger] = (store / folder / "dropped").glob("*.parquet")
    row = pq.read_table(ledger).to_pylist()[0]
    assert row["reason"] == "shouting" and row["value"] > row["threshold"] == pytest.approx(0.3)
    told = openwit("why", row["uid"].hex(), "--ref", "loud")
    assert "gone since shouting" in told and "written in capitals" in told
