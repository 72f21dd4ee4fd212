"""Training: datasets and a configuration in, a model out; stop and go on anywhere.

The same configuration on the same data gives the same bits on the same machine, threads and number
of processes, however often the run was killed. Run alone, or with one process per GPU:

    python -m trainer.train CONFIG.json
    torchrun --nproc-per-node 8 -m trainer.train CONFIG.json
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from pipeline.dataset.errors import UserError
from trainer.config import RunConfig, TrainConfig
from trainer.data.loader import Source
from trainer.errors import ConfigError, Stopped
from trainer.parallel.world import connected
from trainer.records import field_help
from trainer.run.heartbeat import EXIT_TRY_AGAIN, Heartbeat
from trainer.run.initial_weights import InitialWeights
from trainer.run.loop import Run, TrainResult
from trainer.run.metrics import Metrics
from trainer.run.settings import torch_settings

ProgressCallback = Callable[[Metrics], None]
"""Called with each row of metrics, in the first process."""
StopSignal = Callable[[], bool]
"""Whether this process has been asked to stop."""


def train(
    config: TrainConfig,
    sources: Sequence[Source],
    workdir: Path,
    run: RunConfig | None = None,
    *,
    initial_weights: InitialWeights | None = None,
    progress: ProgressCallback | None = None,
    stop_signal: StopSignal | None = None,
) -> TrainResult:
    """Train, or go on training, in `workdir`, alone or as one of a world's processes.

    `progress` is called with each row of metrics. `stop_signal` is called after every step; once it
    returns True in any process, all of them save and raise Stopped. Raises ConfigError on what
    cannot be run, CheckpointError if `workdir` holds another run, DatasetError if the data cannot
    be read, Diverged if losses stay bad.
    """
    run = run or RunConfig()
    with connected(run.device) as world, torch_settings(run, config.precision, world.device):
        state = Run(config, sources, workdir, run, world, initial_weights)
        try:
            return _to_the_end(state, progress, stop_signal or (lambda: False))
        finally:
            state.close()


def _to_the_end(
    state: Run, progress: ProgressCallback | None, stop_signal: StopSignal
) -> TrainResult:
    with Heartbeat(
        state.workdir, state.world.rank, state.world.size, state.run.hang_after_s
    ) as heart:
        state.pausing = heart.paused
        for batch in state.batches():
            row, stopped = state.advance(batch, stop_signal())
            heart.beat(state.step)
            if row is not None and progress is not None:
                progress(row)
            if stopped and state.step < state.config.steps:
                raise Stopped(state.step)
        with heart.paused():
            return state.finish()


@dataclass(frozen=True)
class Job:
    """What one JSON object asks for."""

    config: TrainConfig
    run: RunConfig
    sources: tuple[Source, ...]
    workdir: Path
    initial_weights: InitialWeights | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file; ConfigError names what is unknown, missing or wrong."""
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"not an object with dataset and workdir: {error}") from error
        if not isinstance(record, dict):
            raise ConfigError("not an object with dataset and workdir")
        return cls.from_json(record)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """From the object of a file; ConfigError names what is unknown, missing or wrong."""
        run_fields = {field.name for field in fields(RunConfig)}
        rest = {name: value for name, value in record.items() if name not in run_fields}
        try:
            sources = Source.from_json(rest.pop("dataset"))
            workdir = Path(rest.pop("workdir"))
            start = rest.pop("start", None)
            initial_weights = None if start is None else InitialWeights(Path(start))
        except (LookupError, TypeError) as error:
            raise ConfigError(f"not an object with dataset and workdir: {error}") from error
        known = {field.name for field in fields(TrainConfig)}
        if unknown := sorted(rest.keys() - known):
            every = sorted(known | run_fields | {"dataset", "workdir", "start"})
            raise ConfigError(f"unknown fields {unknown}; the fields are {every}")
        return cls(
            TrainConfig.from_dict(rest),
            RunConfig.from_dict({name: record[name] for name in record if name in run_fields}),
            sources,
            workdir,
            initial_weights,
        )


def main(arguments: list[str] | None = None) -> int:
    """The command: train as a JSON file says; exit code 75 says that it can be started again."""
    path: Path = _parser().parse_args(arguments).config
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: _stop(stop))
    try:
        job = Job.read(path)
        result = train(
            job.config,
            job.sources,
            job.workdir,
            job.run,
            initial_weights=job.initial_weights,
            stop_signal=stop.is_set,
        )
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return EXIT_TRY_AGAIN
    except KeyboardInterrupt:
        print("stopped; run the same command to go on from the last checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT
    except UserError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    print(f"{result.weights}: {result.steps} steps, {result.samples_seen} samples")
    return 0


def _stop(stop: threading.Event) -> None:
    """The first SIGTERM asks for a checkpoint, the second does not wait for it."""
    if stop.is_set():
        os._exit(128 + signal.SIGTERM)
    stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.train",
        description=__doc__,
        epilog="CONFIG.json is one object: dataset (a folder, or a list of {path, weight, subset}),"
        " workdir, optionally start (a model.safetensors), and these fields.\n\n"
        f"The result depends on:\n{field_help(TrainConfig)}\n\n"
        f"How the run is carried out:\n{field_help(RunConfig)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
