"""Trackers: each step once in the file, whatever was killed, and nothing told that is not asked."""

import json
import logging
import math
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from trainer.config import RunConfig, TrainConfig
from trainer.errors import ConfigError
from trainer.run.trackers import Trackers, summary

CONFIG = TrainConfig(model="ViT-B-32", steps=100, batch_size=64)
ROOT = Path(__file__).parents[3]


def tell(workdir: Path, *steps: int, resumed: int = 0, run: RunConfig | None = None) -> None:
    """As a run would that logs `steps` after it went on from `resumed`."""
    told = Trackers(workdir, run or RunConfig(), CONFIG, resumed)
    for step in steps:
        told.log({"step": step, "loss": 1 / step, "samples_per_s": 640.0, "mfu": None})
    told.close()


def rows(workdir: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    tell(tmp_path, 10, 20, 30)
    tell(tmp_path, 30, 40, resumed=25)
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30, 40]


def test_a_line_that_a_kill_cut_short_is_removed(tmp_path: Path) -> None:
    tell(tmp_path, 10, 20)
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:size])
        done = whole[:size].count(b"\n") * 10
        tell(tmp_path, 30, resumed=20)
        assert [row["step"] for row in rows(tmp_path)] == [*range(10, done + 1, 10), 30]


def test_a_run_that_starts_again_forgets_the_rows_of_the_one_before(tmp_path: Path) -> None:
    tell(tmp_path, 10, 20)
    tell(tmp_path, 5)
    assert [row["step"] for row in rows(tmp_path)] == [5]


def test_a_row_is_in_the_file_as_soon_as_it_is_told(tmp_path: Path) -> None:
    told = Trackers(tmp_path, RunConfig(), CONFIG, 0)
    told.log({"step": 1, "loss": 2.0})
    assert rows(tmp_path) == [{"step": 1, "loss": 2.0}]
    told.close()


def test_what_is_not_a_number_is_left_out(tmp_path: Path) -> None:
    told = Trackers(tmp_path, RunConfig(), CONFIG, 0)
    told.log({"step": 1, "loss": math.nan, "grad_norm": math.inf, "mfu": None, "margin": 0.5})
    told.close()
    assert rows(tmp_path) == [{"step": 1, "margin": 0.5}]


def test_a_full_disk_costs_rows_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Trackers(tmp_path, RunConfig(), CONFIG, 0)
    with Path("/dev/full").open("a", buffering=1) as full:
        told._all[0]._file = full  # type: ignore[attr-defined]
        told.log({"step": 3, "loss": 2.0})
        assert "JsonLines: step 3 is lost, [Errno 28]" in caplog.text
        told.close()
        assert "JsonLines: not closed, [Errno 28]" in caplog.text


def test_a_tracker_that_breaks_costs_rows_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def log(self, row: Mapping[str, Any]) -> None:
            raise RuntimeError("broken pipe")

        def close(self) -> None:
            raise RuntimeError("nobody there")

    told = Trackers(tmp_path, RunConfig(), CONFIG, 0)
    told._all.insert(0, Broken())
    told.log({"step": 3, "loss": 2.0})
    told.close()
    assert "Broken: step 3 is lost, broken pipe" in caplog.text
    assert "Broken: not closed, nobody there" in caplog.text
    assert rows(tmp_path) == [{"step": 3, "loss": 2.0}]


def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    run = RunConfig(tensorboard=True)
    killed = Trackers(tmp_path, run, CONFIG, 0)  # it never gets to close
    for step in (10, 20, 30):
        killed.log({"step": step, "loss": 1 / step, "samples_per_s": 640.0})
    tell(tmp_path, 30, 40, resumed=25, run=run)
    shown = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    losses = [(event.step, event.value) for event in shown.Scalars("loss")]
    assert losses == [(step, pytest.approx(1 / step)) for step in (10, 20, 30, 40)]
    assert set(shown.Tags()["scalars"]) == {"loss", "samples_per_s"}


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    asked: dict[str, Any] = {"tensorboard": True} if package == "tensorboard" else {"wandb": "p"}
    with pytest.raises(ConfigError, match=f"^{package}: .*; pip install {package}$"):
        Trackers(tmp_path, RunConfig(**asked), CONFIG, 0)


@pytest.mark.slow
def test_weights_and_biases_is_told_rows_and_configuration_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("SOME_API_KEY", "do-not-tell-me")
    monkeypatch.setattr(sys, "argv", ["train", "--password=do-not-tell-me"])
    tell(tmp_path, 10, 20, run=RunConfig(wandb="a-project"))
    first = (tmp_path / "wandb-id").read_text()
    time.sleep(1.1)  # folders are named by the second
    tell(tmp_path, 30, resumed=20, run=RunConfig(wandb="a-project"))
    assert (tmp_path / "wandb-id").read_text() == first
    files = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    sent = [path.read_bytes() for path in files if path.suffix == ".wandb"]
    # Several names: the file is in blocks, and one name may lie across two.
    told = (b"weight_decay", b"grad_clip_norm", b"shuffle_shards")
    assert len(sent) == 2 and all(any(name in data for name in told) for data in sent)
    assert b"samples_per_s" in sent[0] and first.encode() in sent[0]
    assert not any(b"do-not-tell-me" in path.read_bytes() for path in files)
    assert not any(path.name == "requirements.txt" for path in files)


def test_lines_are_logged_where_no_person_looks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell(tmp_path, 10)
    assert not caplog.text
    with caplog.at_level(logging.INFO):
        tell(tmp_path, 50)
    assert caplog.messages == ["step 50/100  loss 0.0200  640 samples/s  0:00:05 left"]


def test_the_summary_says_what_the_row_has(tmp_path: Path) -> None:
    row = {"step": 0, "loss": 2.5, "samples_per_s": 6400.0, "mfu": 0.4567}
    assert summary(row, CONFIG) == "loss 2.5000  6,400 samples/s  45.7% MFU  0:00:01 left"
    assert summary({"step": 0, "loss": 2.5}, CONFIG) == "loss 2.5000"
    assert summary({"step": 0}, CONFIG) == ""


IN_A_TERMINAL = """
import logging, sys
from pathlib import Path
from trainer.config import RunConfig, TrainConfig
from trainer.run.trackers import Trackers
logging.basicConfig(level=logging.INFO, format="%(message)s")
told = Trackers(Path(sys.argv[1]), RunConfig(), TrainConfig(model="ViT-B-32", steps=100), 20)
told.log({"step": 50, "loss": 0.25, "samples_per_s": 256.0})
logging.getLogger("other").warning("something happened")
told.close()
logging.getLogger("other").warning("something else")
"""


def test_a_person_at_a_terminal_sees_a_bar_and_every_other_line_whole(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
    command = [sys.executable, "-c", IN_A_TERMINAL, str(tmp_path)]
    with subprocess.Popen(command, stderr=theirs, cwd=ROOT, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # what Linux says at the end of a terminal
            os.close(ours)
    assert process.returncode == 0
    lines = [
        re.split(r"\x1b\[\??\d+[a-zA-Z]", line)[-1].strip() for line in shown.decode().split("\n")
    ]
    assert "something happened" in lines and "something else" in lines
    assert any("50/100" in line and "loss 0.2500  256 samples/s" in line for line in lines)


def test_without_rich_a_terminal_gets_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name in ("rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.INFO):
        tell(tmp_path, 50)
    assert len(caplog.messages) == 1
