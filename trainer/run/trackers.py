"""Where rows of metrics go: a file of JSON lines, TensorBoard, Weights & Biases and the terminal.

A row is a flat mapping of numbers, with `step`; None and what is not finite counts as missing. A
run that was killed and resumed has each step once. Nothing but rows and the run's configuration is
sent anywhere.
"""

import json
import logging
import math
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from trainer.checkpoints.files import replace_durably
from trainer.config import RunConfig, TrainConfig
from trainer.errors import ConfigError

log = logging.getLogger(__name__)

Row = Mapping[str, float | int | None]


class Tracker(Protocol):
    """One place for rows."""

    def log(self, row: Row) -> None:
        """Take a row, whose numbers are all finite."""

    def close(self) -> None:
        """Return once everything that was logged is where it belongs."""


class Trackers:
    """All trackers of a run's first process; rows after `resumed_step` are logged again.

    Raises ConfigError where the package of a requested tracker is missing.
    """

    def __init__(
        self, workdir: Path, run: RunConfig, config: TrainConfig, resumed_step: int
    ) -> None:
        self._all: list[Tracker] = [JsonLines(workdir / "metrics.jsonl", resumed_step)]
        if run.tensorboard:
            self._all.append(TensorBoard(workdir / "tensorboard", resumed_step))
        if run.wandb is not None:
            self._all.append(WeightsAndBiases(workdir, run.wandb, config))
        if log.isEnabledFor(logging.INFO):
            self._all.append(_terminal(config, resumed_step))

    def log(self, row: Row) -> None:
        """Hand a row to every tracker; one that fails costs a warning, not the run."""
        numbers = {name: value for name, value in row.items() if _is_number(value)}
        for tracker in self._all:
            try:
                tracker.log(numbers)
            except Exception as error:  # a third party's may raise anything
                log.warning("%s: step %s is lost, %s", type(tracker).__name__, row["step"], error)

    def close(self) -> None:
        """Finish every tracker; what fails in it costs a warning."""
        for tracker in self._all:
            try:
                tracker.close()
            except Exception as error:
                log.warning("%s: not closed, %s", type(tracker).__name__, error)


class JsonLines:
    """One line of JSON per row; lines after `resumed_step`, or cut short by a kill, are removed."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        if path.exists():
            lines = path.read_text(errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if 0 <= _step_of(line) <= resumed_step]
            replace_durably(path, "".join(kept).encode())
        self._file = path.open("a", buffering=1)

    def log(self, row: Row) -> None:
        """Append a line."""
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Scalars in TensorBoard's own files; steps after `resumed_step` are hidden from its page."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        _need("tensorboard")
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder), purge_step=resumed_step + 1)

    def log(self, row: Row) -> None:
        """Write one scalar per number."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()  # a resumed run logs only the rows after its checkpoint again

    def close(self) -> None:
        """Write what is in memory."""
        self._writer.close()


class WeightsAndBiases:
    """A run of `project`, which a resumed run goes on with; WANDB_MODE=offline needs no network.

    Only rows and the configuration are sent: no code, arguments, environment or output.
    """

    def __init__(self, workdir: Path, project: str, config: TrainConfig) -> None:
        wandb = _need("wandb")
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        try:
            self._run = wandb.init(
                project=project,
                dir=str(workdir),
                id=_run_id(workdir / "wandb-id"),
                resume="allow",
                config=asdict(config),
                settings=settings,
            )
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"wandb: {reason}; WANDB_MODE=offline needs no account") from error

    def log(self, row: Row) -> None:
        """Steps that the service has already are ignored by it."""
        self._run.log(dict(row), step=row["step"])

    def close(self) -> None:
        """Wait until everything is sent, or on the disk."""
        self._run.finish()


class LogTracker:
    """One line of text per row, for logs."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def log(self, row: Row) -> None:
        """Log the row."""
        log.info("step %s/%d  %s", row["step"], self._config.steps, summary(row, self._config))

    def close(self) -> None:
        """Nothing is held."""


class BarTracker:
    """A bar that stays in place, for people; other lines are printed above it."""

    def __init__(self, config: TrainConfig, resumed_step: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress

        self._config, before = config, sys.stderr
        self._bar = Progress(
            "step {task.completed}/{task.total}",
            BarColumn(),
            "{task.fields[summary]}",
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=config.steps, summary="", completed=resumed_step)
        self._bar.start()
        self._moved = _move_handlers(before, sys.stderr)

    def log(self, row: Row) -> None:
        """Move the bar."""
        text = summary(row, self._config)
        self._bar.update(self._task, completed=row["step"], summary=text)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()
        for handler in self._moved:
            handler.setStream(sys.stderr)


def summary(row: Row, config: TrainConfig) -> str:
    """Loss, samples/s, MFU and the time left, as far as the row has them."""
    parts = []
    if (loss := row.get("loss")) is not None:
        parts.append(f"loss {loss:.4f}")
    if rate := row.get("samples_per_s"):
        left = (config.steps - (row["step"] or 0)) * config.batch_size / rate
        parts.append(f"{rate:,.0f} samples/s")
        if mfu := row.get("mfu"):
            parts.append(f"{mfu:.1%} MFU")
        parts.append(f"{timedelta(seconds=round(left))} left")
    return "  ".join(parts)


def _terminal(config: TrainConfig, resumed_step: int) -> Tracker:
    if sys.stderr.isatty():
        with suppress(ImportError):
            return BarTracker(config, resumed_step)
    return LogTracker(config)


def _move_handlers(before: Any, after: Any) -> list[logging.StreamHandler[Any]]:
    """Let the root logger's handlers write to `after`, which prints above the bar."""
    handlers = logging.getLogger().handlers
    moved = [handler for handler in handlers if getattr(handler, "stream", None) is before]
    streams = [handler for handler in moved if isinstance(handler, logging.StreamHandler)]
    for handler in streams:
        handler.setStream(after)
    return streams


def _need(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"{package}: {error}; pip install {package}") from error


def _run_id(path: Path) -> str:
    """A name for the run that its resumed parts share."""
    if not path.exists():
        replace_durably(path, secrets.token_hex(8).encode())
    return path.read_text()


def _step_of(line: str) -> int:
    """The step of a line of `metrics.jsonl`; -1 if the line is not whole."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else -1
    except (ValueError, LookupError, TypeError):
        return -1


def _is_number(value: float | int | None) -> bool:
    return value is not None and math.isfinite(value)
