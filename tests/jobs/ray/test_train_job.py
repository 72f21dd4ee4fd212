"""Training on Ray: refusals before Ray starts, and runs that lose a worker or are asked to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jobs.ray.workers import Workers
from jobs.train import train
from pipeline.dataset.errors import Exit, UserError
from pipeline.errors import Interrupted
from tests.support.folders import coloured_pairs, write_dataset
from tests.support.small import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray]

STEPS = 40
TINY = {
    "model": "ViT-Ti-8-32px",
    "steps": STEPS,
    "batch_size": 16,
    "warmup_steps": 2,
    "log_every": 4,
    "checkpoint_every_steps": 3,
    "num_threads": 1,
}


def _write_config(folder: Path, dataset: Path, /, **changes: object) -> Path:
    path = folder / "config.json"
    record = {**TINY, "dataset": str(dataset), "workdir": str(folder / "run"), **changes}
    path.write_text(json.dumps(record))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "squares", coloured_pairs(64))


@pytest.fixture(scope="module")
def unbroken(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of the same run under torchrun: two processes, no Ray."""
    folder = tmp_path_factory.mktemp("unbroken")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*launcher, "-m", "trainer.train", str(_write_config(folder, dataset))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def _weights(workdir: Path) -> bytes:
    return (workdir / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of two cores in this process, for all runs here."""
    ray = pytest.importorskip("ray")
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, **options)
    yield
    ray.shutdown()


class _AfterCheckpoint(threading.Thread):
    """Calls `act` once the run has a checkpoint; `step` is the newest one's at that time."""

    def __init__(self, workdir: Path, act: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._workdir, self._act = workdir, act
        self.step: int | None = None
        self.over = threading.Event()
        """Set once the run has ended: it is too late then."""

    def run(self) -> None:
        ends = time.monotonic() + 1800
        while self.step is None:
            if time.monotonic() > ends or self.over.is_set():
                return
            self.step = _newest_step(self._workdir)
            time.sleep(0.05)
        self._act()


def _newest_step(workdir: Path) -> int | None:
    done = [int(path.parent.name[5:]) for path in workdir.glob("checkpoints/step-*/manifest.json")]
    return max(done, default=None)


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):  # it may have ended meanwhile
        return " ".join(process.cmdline())
    return ""


def _kill_a_worker() -> None:
    workers = [
        process
        for process in psutil.Process().children(recursive=True)
        if _title(process).startswith("ray::RayTrainWorker")
    ]
    assert len(workers) == 2
    workers[-1].kill()


def test_a_run_that_loses_a_worker_ends_in_the_bits_of_an_unbroken_one(
    dataset: Path,
    unbroken: Path,
    local_ray: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killer = _AfterCheckpoint(tmp_path / "run", _kill_a_worker)
    killer.start()
    path = _write_config(tmp_path, dataset)
    try:
        assert train(path, workers=Workers(num_workers=2)) == Exit.OK
    finally:
        killer.over.set()
    out, err = capsys.readouterr()
    assert killer.step is not None and killer.step < STEPS
    assert "failed" in err and f"step {STEPS}/{STEPS}" in err
    assert out.strip() == str(tmp_path / "run" / "model.safetensors")
    assert _weights(tmp_path / "run") == _weights(unbroken)


def test_a_run_asked_to_stop_saves_and_the_same_command_goes_on(
    dataset: Path,
    unbroken: Path,
    local_ray: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopper = _AfterCheckpoint(tmp_path / "run", lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopper.start()
    path = _write_config(tmp_path, dataset)
    try:
        with pytest.raises(Interrupted, match="stopped and saved after step") as stopped:
            train(path, workers=Workers(num_workers=2))
    finally:
        stopper.over.set()
    assert f"after step {_newest_step(tmp_path / 'run')};" in str(stopped.value)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    capsys.readouterr()
    assert train(path, workers=Workers(num_workers=2), json_=True) == Exit.OK
    assert json.loads(capsys.readouterr().out)["steps"] == STEPS
    assert _weights(tmp_path / "run") == _weights(unbroken)


def test_what_another_start_would_not_mend_ends_the_run_in_one_line(
    dataset: Path,
    unbroken: Path,
    local_ray: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _write_config(tmp_path, dataset, workdir=str(unbroken), lr=0.5)
    with pytest.raises(UserError, match=r"another configuration .*lr: 0.001 there, 0.5 here") as no:
        train(path, workers=Workers(num_workers=2))
    assert "\n" not in str(no.value)
    assert "failed" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (Workers(num_workers=3), "among 3 workers; among 1, 2 or 4 it can, .* a multiple of 3 "),
        (
            Workers(min_workers=2, max_workers=6),
            "among 3, 5 or 6 workers; among 1, 2, 4 or 8 it can, .* a multiple of 60 ",
        ),
        (Workers(min_workers=2), "both --min-workers and --max-workers"),
        (Workers(num_workers=2, min_workers=1, max_workers=2), "either --num-workers or both"),
        (Workers(num_workers=0), "give 1 or more"),
        (Workers(min_workers=4, max_workers=2), "the fewest first"),
        (Workers(gpus_per_worker=1), "--gpus-per-worker 1: the file's device is cpu"),
    ],
)
def test_workers_that_cannot_share_the_run_are_refused(
    workers: Workers, message: str, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        train(_write_config(tmp_path, dataset), workers=workers)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "/nowhere"}, "/nowhere: "),
        ({"model": "ViT-Z"}, "ViT-Z"),
        ({"stepz": 3}, "unknown fields"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused_by_its_name(
    changes: dict[str, object], message: str, dataset: Path, tmp_path: Path
) -> None:
    path = _write_config(tmp_path, dataset, **changes)
    with pytest.raises(UserError, match=message) as refused:
        train(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert str(refused.value).count(str(path)) == 1


def test_on_a_cluster_a_path_that_means_something_else_elsewhere_is_refused(
    dataset: Path, tmp_path: Path
) -> None:
    path = _write_config(tmp_path, dataset, workdir="run")
    with pytest.raises(UserError, match="must be absolute"):
        train(path, address="127.0.0.1:1")


def test_more_workers_than_this_machine_has_cores_for_are_refused(
    local_ray: None, dataset: Path, tmp_path: Path
) -> None:
    path = _write_config(tmp_path, dataset)
    with pytest.raises(UserError, match="2 workers of 2 CPU each are more than this machine's 2"):
        train(path, workers=Workers(num_workers=2, cpus_per_worker=2))


def test_a_machine_that_goes_is_saved_for_once_and_the_run_goes_on(
    local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.train import PreemptionInfo

    from jobs.ray import mailbox, train_loop

    drained: dict[str, list[int]] = {}
    info = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks=drained)
    monkeypatch.setattr(train_loop, "get_preemption_info", lambda: info if drained else None)
    box = mailbox.open_mailbox()
    must_save = train_loop.SaveWatch(box)
    rounds = []
    for node in (None, "a", None, "b", None):
        drained.update({node: [0]} if node else {})
        rounds.append(sum(must_save() for _ in range(train_loop.PREEMPTION_EVERY)))
    assert rounds == [0, 1, 0, 1, 0]
    ray.get(box.request_stop.remote())
    assert _true_before_long(must_save)


def _true_before_long(ask: Callable[[], bool], seconds: float = 300) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if ask():
            return True
        time.sleep(0.01)
    return False
