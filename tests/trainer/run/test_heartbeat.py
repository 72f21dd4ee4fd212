"""The watchdog: a run whose steps do not end is ended, and the process to blame is named."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer.run import heartbeat
from trainer.run.heartbeat import EXIT_TRY_AGAIN, Heartbeat

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

RANK = """
import logging, sys, time
from pathlib import Path
from trainer.run.heartbeat import Heartbeat

folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(format="%(message)s")


def wait_for_everybody(step):
    (folder / f"done-{step}-{rank}").touch()
    while any(not (folder / f"done-{step}-{each}").exists() for each in range(size)):
        time.sleep(0.005)


wait_for_everybody(0)
with Heartbeat(folder, rank, size, hang_after_s=2.0) as heart:
    for step in range(1, 100_000):
        wait_for_everybody(step)
        heart.beat(step)
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Four processes that wait for each other at every step, as in a collective."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path), str(rank), "4"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(4)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def until(happens: Callable[[], bool], limit_s: float = 300) -> None:
    deadline = time.monotonic() + limit_s
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_that_were_stopped_or_killed_are_named_by_the_others(
    tmp_path: Path, ranks: list[subprocess.Popen[str]]
) -> None:
    until(lambda: (tmp_path / "done-20-0").exists())
    ranks[1].send_signal(signal.SIGSTOP)
    ranks[3].kill()
    for rank in (0, 2):
        _, told = ranks[rank].communicate(timeout=300)
        assert ranks[rank].returncode == EXIT_TRY_AGAIN
        assert told.count("\n") == 1 and told.startswith(f"rank {rank}: no step has ended for ")
        assert [part[:30] for part in told.split("; ")[1:-1]] == [
            "rank 1 does not beat any more ",
            "rank 3 does not beat any more ",
        ]
        stacks = (tmp_path / "heartbeat" / f"hang-rank-{rank:05d}.txt").read_text()
        assert "in wait_for_everybody" in stacks


class Hung:
    """An action that notes that it was called."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def __call__(self) -> None:
        self.told.set()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)
    monkeypatch.setattr(heartbeat, "LOOK_S", 2.0)


@pytest.mark.usefixtures("fast")
def test_a_rank_at_an_earlier_step_is_named_even_if_it_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hung = Hung()
    with Heartbeat(tmp_path, 1, 2, 600) as behind, Heartbeat(tmp_path, 0, 2, 0.1, hung) as ahead:
        behind.beat(4)
        ahead.beat(5)
        assert hung.told.wait(30)
    assert "since step 5; rank 1 is behind (step 4); " in caplog.text


@pytest.mark.usefixtures("fast")
def test_a_rank_that_never_began_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "heartbeat").mkdir()
    left_by_a_larger_run = {"rank": 7, "step": 1, "state": "running", "count": 5}
    (tmp_path / "heartbeat" / "rank-00007.json").write_text(json.dumps(left_by_a_larger_run))
    hung = Hung()
    with Heartbeat(tmp_path, 0, 2, 0.1, hung) as heart:
        heart.beat(5)
        assert hung.told.wait(30)
    assert "since step 5; rank 1 has not begun, or has ended; stacks are in" in caplog.text


@pytest.mark.usefixtures("fast")
def test_a_step_may_take_ten_times_the_median(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path, 0, 1, 5)
    assert heart.limit_s() == 50
    for step, seconds in enumerate([2.0, 3.0, 100.0]):
        heart._ended = time.monotonic() - seconds
        heart.beat(step)
    assert 30 <= heart.limit_s() < 60


@pytest.mark.usefixtures("fast")
def test_an_announced_pause_is_no_hang(tmp_path: Path) -> None:
    hung = Hung()
    with Heartbeat(tmp_path, 0, 1, 1, hung) as heart:
        heart.beat(1)
        with heart.paused():
            assert not hung.told.wait(2.5)
            beat = json.loads((tmp_path / "heartbeat" / "rank-00000.json").read_text())
            assert beat["state"] == "paused" and beat["count"] > 5
        assert hung.told.wait(30)


@pytest.mark.usefixtures("fast")
def test_a_pause_without_end_is_a_hang(tmp_path: Path) -> None:
    hung = Hung()
    with Heartbeat(tmp_path, 0, 1, 0.1, hung) as heart, heart.paused():
        assert hung.told.wait(30)


@pytest.mark.usefixtures("fast")
def test_who_waits_for_a_rank_that_is_paused_does_not_hang(tmp_path: Path) -> None:
    hung = Hung()
    with Heartbeat(tmp_path, 0, 2, 600) as writer, Heartbeat(tmp_path, 1, 2, 0.1, hung) as waiting:
        writer.beat(4)
        waiting.beat(5)
        with writer.paused():
            assert not hung.told.wait(5)
        assert hung.told.wait(30)


@pytest.mark.usefixtures("fast")
def test_a_rank_that_was_killed_while_it_was_paused_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "heartbeat").mkdir()
    left = {"rank": 0, "step": 4, "state": "paused", "count": 9}
    (tmp_path / "heartbeat" / "rank-00000.json").write_text(json.dumps(left))
    hung = Hung()
    with Heartbeat(tmp_path, 1, 2, 0.1, hung) as heart:
        heart.beat(5)
        assert hung.told.wait(30)


@pytest.mark.usefixtures("fast")
def test_a_step_counts_without_the_pause_inside_it(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path, 0, 1, 0.1)
    heart._ended = time.monotonic() - 102.0
    with heart.paused():
        heart._paused_at -= 100  # as if it had lasted that long
    heart.beat(1)
    assert 20 <= heart.limit_s() < 100


@pytest.mark.usefixtures("fast")
def test_a_hang_is_ended_though_its_stacks_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hung = Hung()
    with Heartbeat(tmp_path, 0, 1, 0.1, hung) as heart:
        (tmp_path / "heartbeat").rename(tmp_path / "gone")
        heart.beat(1)
        assert hung.told.wait(30)
    assert "no stacks written" in caplog.text


@pytest.mark.usefixtures("fast")
def test_a_step_that_ends_after_all_is_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "LOOK_S", 60)
    hung = Hung()
    with Heartbeat(tmp_path, 0, 1, 0.1, hung) as heart:
        heart.beat(1)
        until((tmp_path / "heartbeat" / "hang-rank-00000.txt").exists)
        heart.beat(2)
    assert not hung.told.is_set() and not caplog.text
    assert not list((tmp_path / "heartbeat").iterdir())


@pytest.mark.usefixtures("fast")
def test_a_full_disk_does_not_stop_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space")

    hung = Hung()
    with Heartbeat(tmp_path, 0, 1, 0.1, hung) as heart:
        monkeypatch.setattr(Path, "write_text", full)
        heart.beat(1)
        assert hung.told.wait(30)
    assert "no heartbeat written, no space" in caplog.text
