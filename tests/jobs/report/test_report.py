"""The whole report of a small build by the real engine."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.html import Document
from tests.support.reports import EVIL, RECIPE, ReportedBuild, build_in


def test_every_panel_of_a_whole_build_is_there(page: Document) -> None:
    names = ["funnel", "dropped", "kept", "duplicates", "queries", "columns", "training"]
    assert list(page.panels) == ["", *names, "evaluation", "manifests"]


def test_the_funnel_tells_the_manifests_counts_and_adds_up(
    built: ReportedBuild, page: Document
) -> None:
    line = [name for name in built.datasets if built.manifest(name).conserves]
    dropped = sum(built.manifest(name).rows_dropped for name in line)
    kept = built.manifest(line[-1]).rows_kept
    assert f"{kept:,} kept + {dropped:,} dropped = 420 candidates." in page.panels["funnel"]
    assert dropped > 100
    summary = built.report.summary
    assert [row["stage"] for row in summary["funnel"]] == line
    assert summary["candidates"] == kept + sum(row["rows_dropped"] for row in summary["funnel"])
    assert summary["kept"] == built.manifest("shard").rows_kept


def test_hostile_captions_are_shown_and_do_nothing(page: Document) -> None:
    assert EVIL in page.panels["kept"] + page.panels["dropped"]
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/jpeg;base64,", "#"))


def test_the_same_content_gives_the_same_bytes_wherever_it_is_stored(
    built: ReportedBuild, tmp_path: Path
) -> None:
    again = build_in(tmp_path / "elsewhere")
    assert again.report.html == built.report.html
    assert json.dumps(again.report.summary) == json.dumps(built.report.summary)
    assert again.store.url not in again.report.html


def test_seconds_are_shown_only_where_they_are_given(built: ReportedBuild, page: Document) -> None:
    assert "seconds" not in page.panels["funnel"]
    timed = Document(built.render(timings={"fetch": 98.76}).html)
    assert "98.8\n" in timed.panels["funnel"]
    assert "98.8\n" in timed.panels["manifests"]


def test_a_build_of_text_alone_has_a_report_without_pictures(tmp_path: Path) -> None:
    text = build_in(tmp_path / "text", RECIPE.split("  fetch:")[0])
    page = Document(text.report.html)
    assert list(page.panels) == ["", "funnel", "dropped", "kept", "queries", "columns", "manifests"]
    assert "img" not in page.tags
    assert "pairs kept" in page.panels[""]
    assert text.report.summary["training"] is None
    assert text.report.summary["trained"] is None


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)])
def test_a_browser_shows_it_light_and_dark(
    built: ReportedBuild, tmp_path: Path, scheme: str, dark: bool
) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed: the report is not looked at in a browser")
    (tmp_path / "report.html").write_text(built.report.html)
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *(
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", "--window-size=900,1200"),
        *(f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={tmp_path / 'p.png'}"),
        (tmp_path / "report.html").as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    pixels = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    ground = pixels[2, 2]
    assert (ground.mean() < 60) if dark else (ground.mean() > 240)
    kept = (88, 164, 211) if dark else (43, 108, 153)
    assert (np.abs(pixels - kept).max(axis=2) < 6).sum() > 2000, "the funnel's bars"
