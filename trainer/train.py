"""Training: a dataset folder and a configuration in, a model out; stop and go on anywhere.

The same configuration on the same dataset gives the same bits on the same machine and number of
threads, however often the run was killed. What the clock says goes to `metrics.jsonl`, never into
a result. Run alone: `python -m trainer.train CONFIG.json`.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer import checkpoint
from trainer.config import TrainConfig, field_help
from trainer.data import Dataset
from trainer.errors import CheckpointError, ConfigError, Diverged, Interrupted, TrainerError
from trainer.loader import Batch, Loader
from trainer.models.config import model_config
from trainer.models.init import new_clip
from trainer.step import Metrics, Stepper, moments, restore_moments
from trainer.weights import save_weights

EXIT_TRY_AGAIN = 75
"""EX_TEMPFAIL: stopped by SIGTERM with everything saved; the same command goes on."""
MAX_REFUSED_IN_A_ROW = 20


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished run; nothing in it depends on the clock or on how often the run was stopped."""

    weights: Path
    """`model.safetensors`, which says in its header what it is."""
    steps: int
    samples_seen: int
    refused_steps: int
    """Steps left out because the loss or gradient was not finite."""
    metrics: tuple[Metrics, ...]
    """One every `log_every` steps, and the last."""
    seen: npt.NDArray[np.bool_]
    """Per row of the dataset: was the pair used at least once."""
    bad: tuple[str, ...]
    """Uids, in hex, whose image did not decode."""
    num_parameters: int


def train(
    config: TrainConfig,
    dataset: Path,
    workdir: Path,
    *,
    device: str = "cpu",
    num_threads: int | None = None,
    progress: Callable[[Metrics], None] | None = None,
    grace: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train, or go on training, in `workdir`.

    `progress` is called with each row of metrics. `grace` is asked after every step; once it says
    True the run saves and raises Interrupted. Raises CheckpointError if `workdir` holds another
    run, DatasetError if the dataset cannot be read, Diverged if losses stay not finite.
    """
    with _deterministic(device, num_threads):
        run = _Run(config, Dataset(dataset), workdir, torch.device(device))
        for batch in run.batches():
            row = run.advance(batch)
            if row is not None and progress is not None:
                progress(row)
            if run.step < config.steps and grace is not None and grace():
                run.save()
                raise Interrupted(run.step)
        return run.finish()


class _Run:
    """The state of a run between steps, and its folder."""

    def __init__(
        self, config: TrainConfig, dataset: Dataset, workdir: Path, device: torch.device
    ) -> None:
        self.config, self.dataset, self.workdir = config, dataset, workdir
        self.loader = Loader(dataset, config)
        self.stepper = Stepper(new_clip(model_config(config.model), config.seed), config, device)
        self.step = 0
        self.seen = np.zeros(len(dataset), bool)
        self.bad = np.zeros(0, np.int64)
        self.rows: list[Metrics] = []
        workdir.mkdir(parents=True, exist_ok=True)
        saved = checkpoint.newest(workdir / "checkpoints")
        if saved is not None:
            self._restore(saved)
        self._logged = (self.step, time.perf_counter())

    def batches(self) -> Iterator[Batch]:
        return self.loader.batches(self.step, self.config.steps)

    def advance(self, batch: Batch) -> Metrics | None:
        """One step; its metrics if they are due."""
        row = self.stepper(self.step, batch)
        self.step += 1
        self.seen[batch.rows] = True
        self.bad = np.union1d(self.bad, batch.bad)
        if self.stepper.refused_in_a_row >= MAX_REFUSED_IN_A_ROW:
            raise Diverged(
                f"loss or gradient not finite for {MAX_REFUSED_IN_A_ROW} steps up to {self.step}; "
                "lower lr or lengthen warmup_steps"
            )
        last = self.step == self.config.steps
        if due := last or self.step % self.config.log_every == 0:
            self.rows.append(row)
            self._log(row)
        if last or self.step % self.config.checkpoint_every_steps == 0:
            self.save()
        return row if due else None

    def save(self) -> None:
        model = {name: value.cpu() for name, value in self.stepper.model.state_dict().items()}
        facts = {
            "identity": self._identity(),
            "updates": self.stepper.updates,
            "refused": self.stepper.refused,
            "refused_in_a_row": self.stepper.refused_in_a_row,
            "samples_seen": self.step * self.config.batch_size,
            "metrics": [asdict(row) for row in self.rows],
        }
        state = checkpoint.Checkpoint(
            step=self.step,
            model=model,
            moments=moments(self.stepper.model, self.stepper.optimizer),
            seen=self.seen,
            bad=self.bad,
            facts=facts,
        )
        checkpoint.save(self.workdir / "checkpoints", state)

    def finish(self) -> TrainResult:
        """Write the model; the run is complete."""
        weights = self.workdir / "model.safetensors"
        samples = self.step * self.config.batch_size
        facts = {**self._identity(), "step": self.step, "samples_seen": samples}
        save_weights(weights, self.stepper.model, facts)
        return TrainResult(
            weights=weights,
            steps=self.step,
            samples_seen=samples,
            refused_steps=self.stepper.refused,
            metrics=tuple(self.rows),
            seen=self.seen,
            bad=tuple(self.dataset.uid_hex(row) for row in self.bad.tolist()),
            num_parameters=sum(each.numel() for each in self.stepper.model.parameters()),
        )

    def _identity(self) -> dict[str, Any]:
        return {"train": self.config.identity(), "dataset": self.dataset.content}

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        if saved.facts["identity"] != self._identity():
            raise CheckpointError(
                f"{self.workdir}: it holds a run of another configuration or dataset; "
                "use another folder, or remove its checkpoints to start again"
            )
        self.step, self.seen, self.bad = saved.step, saved.seen, saved.bad
        self.rows = [Metrics(**row) for row in saved.facts["metrics"]]
        stepper = self.stepper
        stepper.model.load_state_dict(saved.model)
        stepper.updates, stepper.refused = saved.facts["updates"], saved.facts["refused"]
        stepper.refused_in_a_row = saved.facts["refused_in_a_row"]
        restore_moments(stepper.model, stepper.optimizer, saved.moments, stepper.updates)

    def _log(self, row: Metrics) -> None:
        """Append the row, with what the clock says, to `metrics.jsonl`."""
        step, then = self._logged
        now = time.perf_counter()
        self._logged = (self.step, now)
        samples = (self.step - step) * self.config.batch_size
        record = asdict(row) | {"seconds": now - then, "samples_per_s": samples / (now - then)}
        with (self.workdir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


@contextmanager
def _deterministic(device: str, num_threads: int | None) -> Iterator[None]:
    """Deterministic kernels, and a fixed number of threads, for as long as the run lasts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    mode, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    # Some CUDA kernels have no deterministic form in every release of torch: only warn there.
    torch.set_deterministic_debug_mode("error" if device.startswith("cpu") else "warn")
    memory.fill_uninitialized_memory = False
    torch.set_num_threads(num_threads or threads)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill
        torch.set_num_threads(threads)


def main(arguments: list[str] | None = None) -> int:
    """The command: train as a JSON file says, printing rows of metrics."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.train",
        description=__doc__,
        epilog="CONFIG.json is one object: dataset and workdir (paths), optionally device and "
        f"num_threads, and the fields of the run:\n{field_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.json")
    path: Path = parser.parse_args(arguments).config
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        _train_from(path, stop)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return EXIT_TRY_AGAIN
    except TrainerError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    return 0


def _train_from(path: Path, stop: threading.Event) -> None:
    try:
        record = json.loads(path.read_bytes())
        dataset, workdir = Path(record.pop("dataset")), Path(record.pop("workdir"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"not an object with dataset and workdir: {error}") from error
    result = train(
        device=record.pop("device", "cpu"),
        num_threads=record.pop("num_threads", None),
        config=TrainConfig.from_dict(record),
        dataset=dataset,
        workdir=workdir,
        progress=lambda row: print(json.dumps(asdict(row)), flush=True),
        grace=stop.is_set,
    )
    print(f"{result.weights}: {result.steps} steps, {result.samples_seen} samples")


if __name__ == "__main__":
    sys.exit(main())
