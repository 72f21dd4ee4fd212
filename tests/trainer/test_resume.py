"""Runs that are stopped, killed or damaged go on and end with the bits of a run left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from micro import BASE, RUN_MICRO, config, result_bytes

from trainer.errors import CheckpointError, Interrupted
from trainer.train import EXIT_TRY_AGAIN, train

pytestmark = pytest.mark.usefixtures("micro")

Squares = Callable[..., Path]


@pytest.mark.parametrize("stop_after", [1, 7, 15, 29])
def test_a_run_stopped_by_grace_goes_on_bit_for_bit(
    squares: Squares, tmp_path: Path, stop_after: int
) -> None:
    dataset, asked = squares(25), iter(range(1, 31))
    with pytest.raises(Interrupted, match=f"after step {stop_after};"):
        train(
            config(),
            dataset,
            tmp_path / "stopped",
            num_threads=1,
            grace=lambda: next(asked) == stop_after,
        )
    again = train(config(), dataset, tmp_path / "stopped", num_threads=1)
    whole = train(config(), dataset, tmp_path / "whole", num_threads=1)
    assert result_bytes(tmp_path / "stopped") == result_bytes(tmp_path / "whole")
    assert again.metrics == whole.metrics
    assert np.array_equal(again.seen, whole.seen)


def start(dataset: Path, workdir: Path, folder: Path, **changes: Any) -> subprocess.Popen[str]:
    paths = {"dataset": str(dataset), "workdir": str(workdir), "num_threads": 1}
    run = folder / "run.json"
    run.write_text(json.dumps({**BASE, **changes, **paths}))
    return subprocess.Popen(
        [sys.executable, "-c", RUN_MICRO, str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def wait_for(workdir: Path, step: int) -> None:
    """Until the run in `workdir` has saved a checkpoint of at least `step` steps."""
    deadline = time.monotonic() + 60
    while not any(
        int(path.name.removeprefix("step-")) >= step for path in workdir.glob("checkpoints/step-*")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_killed_in_mid_epoch_goes_on_bit_for_bit(squares: Squares, tmp_path: Path) -> None:
    dataset, changes = squares(100), {"steps": 80, "checkpoint_every_steps": 7}
    killed = start(dataset, tmp_path / "killed", tmp_path, **changes)
    wait_for(tmp_path / "killed", 14)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    again = train(config(**changes), dataset, tmp_path / "killed", num_threads=1)
    whole = train(config(steps=80), dataset, tmp_path / "whole", num_threads=1)
    assert result_bytes(tmp_path / "killed") == result_bytes(tmp_path / "whole")
    assert again.metrics == whole.metrics and np.array_equal(again.seen, whole.seen)


def test_sigterm_saves_and_exits_75(squares: Squares, tmp_path: Path) -> None:
    dataset, changes = squares(30), {"steps": 100_000, "checkpoint_every_steps": 20}
    run = start(dataset, tmp_path / "run", tmp_path, **changes)
    wait_for(tmp_path / "run", 20)
    run.terminate()
    _, errors = run.communicate()
    assert run.returncode == EXIT_TRY_AGAIN
    assert "run the same command to go on" in errors
    step = int(errors.split("after step ")[1].split(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:08d}").exists()


def test_a_damaged_last_checkpoint_costs_steps_but_not_the_result(
    squares: Squares, tmp_path: Path
) -> None:
    dataset, made = squares(25), config(checkpoint_every_steps=10)
    train(made, dataset, tmp_path / "run", num_threads=1)
    before = result_bytes(tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "step-00000030" / "moments.safetensors"
    last.write_bytes(last.read_bytes()[:-5])
    (tmp_path / "run" / "model.safetensors").unlink()
    train(made, dataset, tmp_path / "run", num_threads=1)
    assert result_bytes(tmp_path / "run") == before


def test_another_configuration_or_dataset_is_not_taken_up(squares: Squares, tmp_path: Path) -> None:
    dataset, workdir = squares(25), tmp_path / "run"
    train(config(), dataset, workdir, num_threads=1)
    with pytest.raises(CheckpointError, match="another folder"):
        train(config(lr=1e-4), dataset, workdir)
    with pytest.raises(CheckpointError, match="another configuration or dataset"):
        train(config(), squares(26), workdir)
    train(config(checkpoint_every_steps=7), dataset, workdir, num_threads=1)
