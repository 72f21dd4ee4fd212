"""What the distribution holds: the packages and their data, and nothing of tools or tests."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_packages_are_the_four_and_what_is_below_them() -> None:
    setuptools = pytest.importorskip("setuptools")
    packages = setuptools.find_packages(str(ROOT), **SETTINGS["packages"]["find"])
    assert {name.partition(".")[0] for name in packages} == {
        "curation",
        "jobs",
        "pipeline",
        "trainer",
    }
    assert {"jobs.report.panels", "jobs.quickstart", "jobs.commands", "jobs.ray"} <= set(packages)


@pytest.mark.parametrize(
    "path",
    [
        "jobs/report/templates/report.html",
        "jobs/recipes/quickstart.yaml",
        "jobs/quickstart/queries.txt",
        "jobs/quickstart/web/images.warc.gz",
        "jobs/quickstart/heldout/wds_openmoji/test/0.tar",
        "curation/text/assets/boilerplate.txt",
    ],
)
def test_data_is_shipped_beside_the_code(path: str) -> None:
    package, _, inside = path.partition("/")
    shipped = {
        file.relative_to(ROOT / package).as_posix()
        for pattern in SETTINGS["package-data"][package]
        for file in (ROOT / package).glob(pattern)
    }
    assert inside in shipped
