"""The command: what each mistake is answered with, and what each command prints."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curation.text.repair import CaptionReason
from tests.support.disk import small_disk
from tests.support.small import QUICKSTART, RECIPE, ROOT, write_recipe

pytestmark = pytest.mark.slow

TEXT_RECIPE = f"""\
name: text
inputs:
  pages: pages.warc*
  queries: {QUICKSTART}/queries.txt
stages:
  extract:
  captions:
  language:
  rules: {{min_words: 1}}
  url-dedup:
  match:
  count:
  balance: {{t: 50}}
"""


def openwit(*arguments: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    program = "from jobs.commands.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={
            **_of_the_machine(),
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "RAY_ADDRESS": "",
        },
    )


def _of_the_machine() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.startswith(("RAY_", "OMP_"))}


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    [line] = [line for line in done.stderr.splitlines() if line.startswith("openwit:")]
    assert "Traceback" not in done.stderr
    return line


TextBuild = tuple[Path, Path, dict[str, Any]]
"""The recipe, the store and the summary."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> TextBuild:
    """A text-only build of a quarter of the mini-web."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "pages.warc.gz").write_bytes((QUICKSTART / "web/pages-03.warc.gz").read_bytes())
    recipe = folder / "text.yaml"
    recipe.write_text(TEXT_RECIPE)
    done = openwit("run", recipe, "--store", folder / "store", "--inline", "--json")
    assert done.returncode == 0, done.stderr
    return recipe, folder / "store", json.loads(done.stdout)


def page(html: bytes, head: str = "text/html; charset=utf-8") -> bytes:
    """A WARC of one page, as bytes."""
    http = f"HTTP/1.1 200 OK\r\nContent-Type: {head}\r\n\r\n".encode() + html
    lines = [
        "WARC/1.0",
        "WARC-Type: response",
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>",
        "WARC-Date: 2026-01-01T00:00:00Z",
        "WARC-Target-URI: http://site.example/page.html",
        "Content-Type: application/http; msgtype=response",
        f"Content-Length: {len(http)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + http + b"\r\n\r\n"


def run_on(tmp_path: Path, warc: bytes, *more: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "pages.warc").write_bytes(warc)
    recipe = tmp_path / "text.yaml"
    recipe.write_text(TEXT_RECIPE)
    return openwit("run", recipe, "--store", tmp_path / "store", "--inline", "--json", *more)


def rows(tmp_path: Path, *which: str) -> dict[str, dict[str, int]]:
    return {
        row["stage"]: row["reasons"]
        for row in json.loads(
            openwit("funnel", "text", "--store", tmp_path / "store", "--json").stdout
        )
        if row["stage"] in which
    }


def why(target: str, store: Path) -> list[dict[str, Any]]:
    done = openwit("why", target, "--ref", "text", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    lives: list[dict[str, Any]] = json.loads(done.stdout)
    return lives


GOOD = b'<img src="/cat.png" alt="A small cat icon">'


def test_a_malformed_recipe_is_one_line_with_file_line_and_field(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TEXT_RECIPE.replace("min_words: 1", "min_word: 1"))
    done = openwit("run", recipe)
    assert done.returncode == 1
    assert "r.yaml:9: stages.rules.min_word: no such field; did you mean 'min_words'?" in one_line(
        done
    )


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(TEXT_RECIPE)
    done = openwit("run", tmp_path / "r.yaml", "--store", tmp_path / "s")
    assert done.returncode == 1 and "inputs.pages: no file matches 'pages.warc*'" in one_line(done)


def test_what_is_no_warc_is_one_line(tmp_path: Path) -> None:
    done = run_on(tmp_path, b"<html>not a WARC</html>" * 100)
    assert done.returncode == 1 and "pages.warc is not a WARC file" in one_line(done)


def test_a_truncated_gzip_keeps_what_came_before_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "pages.warc.gz").write_bytes(
        gzip.compress(page(GOOD)) + gzip.compress(page(GOOD))[:150]
    )
    (tmp_path / "text.yaml").write_text(TEXT_RECIPE)
    done = openwit(
        "run", tmp_path / "text.yaml", "--store", tmp_path / "store", "--inline", "--json"
    )
    assert done.returncode == 2
    line = one_line(done)
    assert "extract: 1 of 2 rows lost to damage (warc_truncated 1), over the budget" in line
    assert json.loads(done.stdout)["stages"]["extract"]["rows_kept"] == 1
    [life] = why("pages.warc.gz", tmp_path / "store")
    assert life["events"][0]["reason"] == "warc_truncated"


def test_a_latin_1_page_that_claims_utf_8_loses_nothing(tmp_path: Path) -> None:
    html = (
        '<img src="/cafe.png" alt="A small caf\u00e9 and cr\u00e8me br\u00fbl\u00e9e icon">'.encode(
            "latin-1"
        )
    )
    done = run_on(tmp_path, page(html))
    assert done.returncode == 0, done.stderr
    [life] = why("http://site.example/cafe.png", tmp_path / "store")
    assert "caf\u00e9 and cr\u00e8me br\u00fbl\u00e9e" in life["events"][0]["changes"]["caption"]
    assert life["events"][0]["kept"]


def test_nul_bytes_in_a_caption_are_repaired_and_an_absurd_url_is_a_verdict(tmp_path: Path) -> None:
    nul = b'<img src="/nul.png" alt="A small\x00 red apple icon">'
    absurd = b'<img src="/' + b"a" * 100_000 + b'.png" alt="A far too long address">'
    done = run_on(tmp_path, page(GOOD + nul + absurd))
    assert done.returncode == 2, "one of three rows lost to damage is over the default budget"
    assert "url_too_long 1" in one_line(done)
    assert rows(tmp_path, "extract") == {"extract": {"url_too_long": 1}}
    address = "http://site.example/" + "a" * 100_000 + ".png"
    [life] = why(address, tmp_path / "store")
    assert life["events"][0]["reason"] == "url_too_long"
    [life] = why("http://site.example/nul.png", tmp_path / "store")
    captions = [
        event["changes"]["caption"] for event in life["events"] if "caption" in event["changes"]
    ]
    assert "\x00" not in captions[-1] and "red apple icon" in captions[-1]
    assert (
        run_on(tmp_path, page(GOOD + nul + absurd), "--exec", "extract.loss_budget=1").returncode
        == 0
    )


@pytest.mark.ray
@pytest.mark.root
@pytest.mark.parametrize("how", ["--inline", "--workers=2"])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path: Path, how: str) -> None:
    with small_disk(tmp_path / "small", "600k") as small:
        (tmp_path / "pages.warc.gz").write_bytes((QUICKSTART / "web/pages-03.warc.gz").read_bytes())
        (tmp_path / "text.yaml").write_text(TEXT_RECIPE)
        arguments = ("run", tmp_path / "text.yaml", "--store", small / "store", how)
        full = openwit(*arguments)
        assert full.returncode == 1
        assert "the disk is full; free some space and run the same command again" in one_line(full)
        assert [p for p in small.glob("store/*/*/done/*")], "what was committed stays"
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        again = openwit(*arguments)
        assert again.returncode == 0, again.stderr
        assert "extract" in again.stderr and "reused" in again.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: ViT-Ti-8-32px", "model: ViT-Z", "stages.train: model: there is no 'ViT-Z'"),
        ("steps: 12", "steps: 0", "stages.train: steps: 0 is less than 1"),
        ("batch_size: 32", "lr: .inf", "stages.train: lr: inf is no finite number"),
        ("num_threads: 1", "keep_last: 0", "execution.train: keep_last: 0 is less than 2"),
    ],
)
def test_what_the_trainer_would_refuse_is_refused_before_anything_is_built(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in RECIPE
    recipe = write_recipe(tmp_path, RECIPE.replace(old, new))
    done = openwit("plan", recipe, "--store", tmp_path / "store")
    assert done.returncode == 1
    assert message in one_line(done) and one_line(done).startswith(f"openwit: {recipe}:2")


def test_plan_show_funnel_and_why_agree(built: TextBuild) -> None:
    recipe, store, summary = built
    plan = json.loads(openwit("plan", recipe, "--store", store, "--json").stdout)
    assert {step["action"] for step in plan} == {"reused"}
    shown = json.loads(openwit("show", "text", "--store", store, "--json").stdout)
    funnel = json.loads(openwit("funnel", "text", "--store", store, "--json").stdout)
    assert funnel[0]["rows_in"] == sum(r["rows_dropped"] for r in funnel) + funnel[-1]["rows_kept"]
    for row in funnel:
        assert row["rows_kept"] == shown[row["stage"]]["rows_kept"]
        assert row["rows_kept"] == summary["stages"][row["stage"]]["rows_kept"]
    one = json.loads(openwit("show", "text/captions", "--store", store, "--json").stdout)
    assert one["content_digest"] == shown["captions"]["content_digest"]


def test_tables_are_for_people(built: TextBuild) -> None:
    _, store, _ = built
    assert "boilerplate" in openwit("funnel", "text", "--store", store).stdout
    assert "extract" in openwit("show", "text", "--store", store).stdout
    assert "url string" in openwit("show", "text/extract", "--store", store).stdout


def test_why_explains_a_url_and_an_unknown_one(built: TextBuild) -> None:
    _, store, _ = built
    unknown = openwit("why", "http://nowhere.example/x.png", "--store", store)
    assert unknown.returncode == 1 and "no candidate of text has the url" in one_line(unknown)
    nobody = openwit("why", "x", "--ref", "other", "--store", store)
    assert nobody.returncode == 1 and "no build is called 'other'" in one_line(nobody)


def test_a_stage_runs_alone_on_another_ones_folder(built: TextBuild, tmp_path: Path) -> None:
    _, store, summary = built
    folder = store / summary["stages"]["captions"]["folder"]
    done = openwit(
        "stage", "rules", "--in", folder, "--out", tmp_path, "--min-words", 3, "--inline"
    )
    assert done.returncode == 0, done.stderr
    where = Path(done.stdout.strip())
    assert json.loads((where / "manifest.json").read_text())["params"]["min_words"] == 3
    refused = openwit("stage", "rules", "--in", tmp_path / "nothing", "--out", tmp_path)
    assert refused.returncode == 1 and "nothing: there is neither a file" in one_line(refused)


def test_the_report_is_written_where_it_is_asked_for(built: TextBuild, tmp_path: Path) -> None:
    _, store, summary = built
    page = tmp_path / "page.html"
    words = QUICKSTART / "queries.txt"
    done = openwit("report", "text", "--store", store, "--out", page, "--queries", words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidates"] == summary["stages"]["extract"]["rows_in"]
    assert "<script" not in page.read_text()
    assert CaptionReason.BOILERPLATE.label in page.read_text()


def test_gc_lists_and_deletes(built: TextBuild, tmp_path: Path) -> None:
    _, store, _ = built
    garbage = json.loads(openwit("gc", "--store", store, "--json").stdout)
    assert garbage == {"folders": [], "objects": [], "deleted": 0}
