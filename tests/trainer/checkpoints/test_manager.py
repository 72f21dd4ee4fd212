"""Checkpoints: what comes back is what was saved, and damage costs one checkpoint, not the run."""

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.disk import small_disk
from trainer.checkpoints import folder, manager
from trainer.checkpoints.manager import Checkpoint, CheckpointManager
from trainer.errors import CheckpointError

FILES = ["model.safetensors", "moments.safetensors", "state.json", "manifest.json"]


def at(step: int, side: int = 4, **facts: Any) -> Checkpoint:
    """A checkpoint whose every number depends on the step."""
    generator = torch.Generator().manual_seed(step)
    return Checkpoint(
        step=step,
        model={
            "weight": torch.randn(side, side, generator=generator),
            "half": torch.randn(3, generator=generator).bfloat16(),
            "scale": torch.tensor(1.5),
        },
        moments={"first.weight": torch.randn(side, side, generator=generator)},
        facts={"updates": step, "metrics": [{"loss": 0.1 * step}], "good": True} | facts,
    )


def same(one: Checkpoint | None, two: Checkpoint) -> bool:
    if one is None or (one.step, one.facts) != (two.step, two.facts):
        return False
    tensors = [(one.model, two.model), (one.moments, two.moments)]
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in tensors)


def save(root: Path, *steps: int | Checkpoint, **retention: Any) -> None:
    """As one process would, one after the other."""
    with CheckpointManager(root, **retention) as checkpoints:
        for step in steps:
            checkpoints.save(at(step) if isinstance(step, int) else step)


def steps(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in root.glob("step-*"))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    assert manager.newest(tmp_path) is None
    save(tmp_path, 3)
    assert same(manager.newest(tmp_path), at(3))


def test_training_may_go_on_at_once_with_the_tensors_it_handed_over(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as checkpoints:
        for step in (5, 10):
            taken = at(step, side=300)
            checkpoints.save(taken)
            for tensor in (*taken.model.values(), *taken.moments.values()):
                tensor.zero_()
            checkpoints.wait()
            assert same(manager.newest(tmp_path), at(step, side=300))


def test_what_was_read_stays_when_its_files_go(tmp_path: Path) -> None:
    save(tmp_path, 5)
    found = manager.newest(tmp_path)
    for name in FILES:
        os.truncate(tmp_path / "step-00000005" / name, 0)
    assert same(found, at(5))


def test_all_files_can_be_read_by_the_same_people(tmp_path: Path) -> None:
    save(tmp_path, 5)
    assert len({path.stat().st_mode for path in (tmp_path / "step-00000005").iterdir()}) == 1


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    save(tmp_path, 99_999_999, 100_000_000)
    assert same(manager.newest(tmp_path), at(100_000_000))


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 5)
    flip(tmp_path / "step-00000005" / "state.json")
    save(tmp_path, 5)
    assert same(manager.newest(tmp_path), at(5))
    save(tmp_path, at(5, loss=2))
    assert same(manager.newest(tmp_path), at(5, loss=2)) and steps(tmp_path) == [5]


def test_a_step_that_is_being_replaced_is_there_until_its_successor_is(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    (tmp_path / "step-00000010").rename(tmp_path / "step-00000010.old")
    assert same(manager.newest(tmp_path), at(10))
    save(tmp_path, at(10, loss=2))
    assert same(manager.newest(tmp_path), at(10, loss=2))
    save(tmp_path, 15)
    assert steps(tmp_path) == [10, 15]


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 5, 10, 15)
    assert steps(tmp_path) == [10, 15]


def test_milestones_and_the_best_are_kept_too(tmp_path: Path) -> None:
    scores = {5: 3.0, 10: 2.0, 15: float("nan"), 20: 2.5, 25: None, 30: 4.0, 35: 5.0}
    save(tmp_path, *(at(s, score=x) for s, x in scores.items()), keep_every=15, keep_best=True)
    assert steps(tmp_path) == [10, 15, 30, 35]
    save(tmp_path, at(40, score=1.0), at(45), at(50), keep_every=15, keep_best=True)
    assert steps(tmp_path) == [15, 30, 40, 45, 50]


def test_the_two_newest_good_ones_are_kept_for_a_run_that_must_go_back(tmp_path: Path) -> None:
    save(tmp_path, 5, 10, at(15, good=False), at(20, good=False), at(25, good=False))
    assert steps(tmp_path) == [5, 10, 20, 25]
    assert same(manager.newest(tmp_path, good=True), at(10))
    assert same(manager.newest(tmp_path), at(25, good=False))


def test_damage_is_not_counted_among_those_that_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    flip(tmp_path / "step-00000010" / "model.safetensors")
    save(tmp_path, 15)
    assert steps(tmp_path) == [5, 10, 15]
    save(tmp_path, 20)
    assert steps(tmp_path) == [15, 20]


def test_damage_that_comes_while_a_run_lives_is_seen(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as checkpoints:
        for step in (5, 10):
            checkpoints.save(at(step))
        checkpoints.wait()
        flip(tmp_path / "step-00000010" / "moments.safetensors")
        checkpoints.save(at(15))
    assert steps(tmp_path) == [5, 10, 15]


def test_what_a_rewind_discredits_is_removed_and_does_not_count(tmp_path: Path) -> None:
    """Were 20 pruned around before it is gone, 10 would go, and the new one would be alone."""
    with CheckpointManager(tmp_path) as checkpoints:
        for step in (10, 20):
            checkpoints.save(at(step))
        checkpoints.save(at(23, good=False))
        checkpoints.save(at(24), discredited=20)
    assert steps(tmp_path) == [10, 24]
    assert same(manager.newest(tmp_path, before=24), at(10))


def test_a_folder_that_cannot_be_removed_costs_no_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def held(path: Path, ignore_errors: bool = False) -> None:
        if "00000005" in path.name and not ignore_errors:
            raise OSError(16, "somebody reads it")
        if "00000005" not in path.name:
            rmtree(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", held)
    save(tmp_path, 5, 10, 15, 20)
    assert steps(tmp_path) == [15, 20]


def test_the_best_is_not_a_damaged_one(tmp_path: Path) -> None:
    save(tmp_path, at(5, score=1.0), at(10, score=2.0), keep_best=True)
    flip(tmp_path / "step-00000005" / "model.safetensors")
    save(tmp_path, at(15, score=3.0), at(20, score=3.0), at(25, score=3.0), keep_best=True)
    assert steps(tmp_path) == [10, 20, 25]


def test_pruning_reads_no_checkpoint_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 5, 10, 15, 20, keep_every=5)
    read: list[str] = []

    def noting(path: Path) -> str | None:
        read.append(path.name)
        return folder.damage(path)

    monkeypatch.setattr(manager, "damage", noting)
    save(tmp_path, 25, 30, 35, keep_every=5)
    assert read == ["step-00000020"]


def flip(path: Path, at_bit: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    bit = 4 * len(data) if at_bit is None else at_bit
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def damage_at_random(newest: Path, before: Path, rng: random.Random) -> str:
    """One thing that disks, tools and people do to a checkpoint; says what it was."""
    name = rng.choice(FILES)
    path = newest / name
    size = path.stat().st_size
    kind = rng.choice(["bit", "truncation", "deletion", "swap", "empty manifest", "zeros", "name"])
    if kind == "bit":
        flip(path, rng.randrange(8 * size))
    elif kind == "truncation":
        os.truncate(path, rng.randrange(size))
    elif kind == "deletion":
        path.unlink()
    elif kind == "swap":
        shutil.copy(before / name, path)
    elif kind == "empty manifest":
        (newest / "manifest.json").write_text("{}\n")
    elif kind == "zeros":
        path.write_bytes(bytes(size))
    else:
        shutil.rmtree(newest)
        shutil.copytree(before, newest)
    return f"{kind} of {name}"


def damaged_newest(root: Path, times: int, caplog: pytest.LogCaptureFixture) -> None:
    """Damage the newest of two, and see the one before it taken, `times` times."""
    save(root / "sound", at(5, side=128), at(10, side=128))
    for trial in range(times):
        shutil.copytree(root / "sound", root / "damaged")
        newest, before = (root / "damaged" / f"step-{step:08d}" for step in (10, 5))
        what = damage_at_random(newest, before, random.Random(trial))
        caplog.clear()
        found = manager.newest(root / "damaged")
        assert same(found, at(5, side=128)), f"trial {trial}: {what}"
        assert "step-00000010: passed over, " in caplog.text, f"trial {trial}: {what}"
        shutil.rmtree(root / "damaged")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged_newest(tmp_path, 60, caplog)


@pytest.mark.chaos
def test_two_hundred_damaged_checkpoints_give_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged_newest(tmp_path, 200, caplog)


def test_what_is_passed_over_is_told_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 5, 10)
    os.truncate(tmp_path / "step-00000010" / "moments.safetensors", 7)
    with caplog.at_level(logging.INFO):
        manager.newest(tmp_path)
    assert "step-00000010: passed over, moments.safetensors is not of its size" in caplog.text
    assert "step-00000005: verified" in caplog.text


SAVES = """
import os, sys
from pathlib import Path
import torch
sys.path.insert(0, {root!r})
from tests.trainer.checkpoints.test_manager import save_until_killed
torch.set_num_threads(1)
for line in sys.stdin:
    folder = Path(line.strip())
    child = os.fork()
    if child == 0:
        save_until_killed(folder)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def save_until_killed(root: Path) -> None:
    """Save one step after the other, noting each that was reported complete.

    Every third step is saved twice, so that kills also meet a step that is being replaced.
    """
    last = manager.newest(root)
    step = 0 if last is None else last.step
    with CheckpointManager(root) as checkpoints, (root / "reported").open("a") as reported:
        print(os.getpid(), flush=True)
        while True:
            step += 1
            for _ in range(2 if step % 3 == 0 else 1):
                checkpoints.save(at(step, side=400))
            checkpoints.wait()
            reported.write(f"{step}\n")
            reported.flush()


@pytest.fixture
def nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported torch and forks a saver for every folder it is told."""
    source = SAVES.format(root=str(Path(__file__).resolve().parents[3]))
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def kill_savers(root: Path, times: int, nursery: subprocess.Popen[str]) -> None:
    """Kill a saver in `root` at a random moment, `times` times, and look at what it left."""
    assert nursery.stdin and nursery.stdout
    began = time.monotonic()
    save(root.with_name("timed"), *(at(step, side=400) for step in (1, 2, 3)))
    three_saves_s = time.monotonic() - began
    root.mkdir()
    promised = midway = trial = 0
    # More than asked for where the disk is slower than when it was timed.
    while trial < times or (trial < 10 * times and not (promised and midway > trial / 10)):
        nursery.stdin.write(f"{root}\n")
        nursery.stdin.flush()
        child = int(nursery.stdout.readline())
        patience_s = three_saves_s * (1 + trial // times)
        time.sleep(random.Random(trial).uniform(0, patience_s))
        os.kill(child, signal.SIGKILL)
        assert nursery.stdout.readline() == "gone\n"
        reported = (root / "reported").read_text() if (root / "reported").exists() else ""
        promised = int(reported.splitlines()[-1]) if reported else 0
        midway += any(root.glob(".step-*")) or any(root.glob("*.old"))
        found = manager.newest(root)
        if found is None:
            assert promised == 0, f"trial {trial}: nothing is left of step {promised}"
        else:
            assert found.step >= promised and same(found, at(found.step, side=400))
        trial += 1
    assert promised and midway > trial / 10, "too few kills met a save"


@pytest.mark.slow
def test_a_saver_killed_at_any_moment_leaves_a_sound_checkpoint(
    tmp_path: Path, nursery: subprocess.Popen[str]
) -> None:
    kill_savers(tmp_path / "run", 60, nursery)
    save(tmp_path / "run", 1_000_000)
    assert not list((tmp_path / "run").glob(".step-*"))


@pytest.mark.chaos
def test_three_hundred_savers_killed_leave_a_sound_checkpoint(
    tmp_path: Path, nursery: subprocess.Popen[str]
) -> None:
    kill_savers(tmp_path / "run", 300, nursery)


def test_a_killed_save_leaves_nothing_that_counts(tmp_path: Path) -> None:
    save(tmp_path, 5)
    aside = tmp_path / ".step-00000010.tmp"
    aside.mkdir()
    (aside / "model.safetensors").write_bytes(b"half")
    assert same(manager.newest(tmp_path), at(5))
    save(tmp_path, 10)
    assert same(manager.newest(tmp_path), at(10)) and not aside.exists()


def test_bytes_are_on_the_disk_before_a_name_points_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(handle: int) -> None:
        told.append(Path(f"/proc/self/fd/{handle}").resolve().name)
        fsync(handle)

    def note_rename(path: Path, target: Path) -> Path:
        told.append(f"-> {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    save(tmp_path, 5)
    assert sorted(told[:3]) == sorted(FILES[:3])
    aside = told[4]
    assert aside.startswith(".step-00000005.") and aside.endswith(".tmp")
    assert told[3:] == ["manifest.json", aside, "-> step-00000005", tmp_path.name]


def test_a_second_manager_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with (
        CheckpointManager(tmp_path),
        pytest.raises(CheckpointError, match=f"process {os.getpid()} on "),
    ):
        CheckpointManager(tmp_path)
    save(tmp_path, 5)


@pytest.mark.slow
def test_the_lock_of_a_killed_run_does_not_outlive_it_in_its_workers(tmp_path: Path) -> None:
    source = (
        "import os, sys, time; from pathlib import Path\n"
        "from trainer.checkpoints.manager import CheckpointManager\n"
        f"manager = CheckpointManager(Path({str(tmp_path)!r}))\n"
        "worker = os.fork()\n"
        "if not worker:\n"
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout
    worker = int(parent.stdout.readline())
    try:
        with pytest.raises(CheckpointError, match=f"process {parent.pid} on "):
            CheckpointManager(tmp_path)
        parent.kill()
        parent.wait()
        save(tmp_path, 5)
    finally:
        os.kill(worker, signal.SIGKILL)
        parent.stdout.close()


def test_a_save_that_fails_is_told_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Callable[[CheckpointManager], None]] = [
        lambda k: k.save(at(9)),
        CheckpointManager.wait,
        CheckpointManager.close,
    ]
    save(tmp_path, 5)
    for call in calls:
        checkpoints = CheckpointManager(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(folder, "save_file", fail)
            checkpoints.save(at(10))
            with pytest.raises(CheckpointError, match=r"step-00000010: not saved, .*worn out"):
                call(checkpoints)
        checkpoints.close()
        assert same(manager.newest(tmp_path), at(5))


def fail(*_: object) -> None:
    raise OSError(errno.EIO, "the disk is worn out")


@pytest.mark.root
def test_a_full_disk_costs_the_save_and_nothing_else(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "1m") as disk,
        CheckpointManager(disk / "run") as checkpoints,
    ):
        checkpoints.save(at(5))
        checkpoints.save(at(10, side=500))
        with pytest.raises(CheckpointError, match=r"step-00000010: not saved, the disk is full"):
            checkpoints.wait()
        assert same(manager.newest(disk / "run"), at(5))
        assert sorted(path.name for path in (disk / "run").iterdir()) == [".lock", "step-00000005"]
        checkpoints.save(at(10))


def test_saving_is_done_beside_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    write = folder.write

    def slow(*arguments: Any) -> None:
        assert held.wait(30)
        write(*arguments)

    monkeypatch.setattr(manager, "write", slow)
    with CheckpointManager(tmp_path) as checkpoints:
        checkpoints.save(at(5))
        assert manager.newest(tmp_path) is None
        held.set()
    assert same(manager.newest(tmp_path), at(5))
