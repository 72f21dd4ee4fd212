"""A training run between its first step and its last: the state that a checkpoint holds.

Where data stand is one number, the steps done: which pairs come next is a pure function of it. What
the clock says goes to the trackers, never into a result. Every process of a world holds a `Run`;
the first one writes.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.dataset.errors import DatasetError
from trainer.checkpoints import manager
from trainer.checkpoints.weights import save_weights
from trainer.config import TRAIN_VERSION, RunConfig, TrainConfig
from trainer.data.batch import Batch
from trainer.data.loader import Loader, Source
from trainer.errors import CheckpointError, ConfigError, Diverged
from trainer.models.clip import CLIP
from trainer.models.init import new_clip
from trainer.parallel.world import World
from trainer.run.guard import DivergenceGuard
from trainer.run.identity import differences, made_by
from trainer.run.initial_weights import InitialWeights
from trainer.run.metrics import Metrics
from trainer.run.step import Stepper
from trainer.run.throughput import ThroughputMeter
from trainer.run.trackers import Trackers

LEAST_DRAWN = 1000
"""The budget for undecodable pictures is a share of at least this many pairs."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class TrainResult:
    """A finished run; nothing in it depends on the clock or on how often the run was stopped."""

    weights: Path
    """`model.safetensors`, which says in its header what it is."""
    steps: int
    samples_seen: int
    refused_steps: int
    """Steps left out because the loss or gradient was not finite."""
    rewinds: int
    """How often the last good checkpoint's weights were restored."""
    metrics: tuple[Metrics, ...]
    """One row per `log_every` steps, and the last step's."""
    seen: tuple[npt.NDArray[np.bool_], ...]
    """Per source, per row: was the pair drawn at least once."""
    bad: tuple[str, ...]
    """Uids, in hex, whose image did not decode."""
    num_parameters: int

    def __repr__(self) -> str:
        loss = f", loss {self.metrics[-1].loss:.4f}" if self.metrics else ""
        return (
            f"TrainResult({str(self.weights)!r}, {self.steps:,} steps on {self.samples_seen:,} "
            f"samples{loss}, {self.refused_steps} refused, {self.rewinds} rewinds)"
        )


class Run:
    """The state of a run between steps, and its folder."""

    def __init__(
        self,
        config: TrainConfig,
        sources: Sequence[Source],
        workdir: Path,
        run: RunConfig,
        world: World,
        initial_weights: InitialWeights | None = None,
    ) -> None:
        world.share(config.batch_size)
        self._start_sha256 = None if initial_weights is None else initial_weights.sha256
        self.config, self.run, self.world, self.workdir = config, run, world, workdir
        _make(workdir)
        self.loader = Loader(
            sources,
            config,
            rank=world.rank,
            world_size=world.size,
            num_workers=run.num_workers,
            pin_memory=world.device.type == "cuda",
            index_folder=workdir / "index",
        )
        self.step = 0
        self.bad: set[str] = set()
        self.bad_draws = 0
        self.rows: list[Metrics] = []
        self.guard = DivergenceGuard(config)
        saved = self._newest()
        model = new_clip(config.shape(), config.seed)
        if saved is None and initial_weights is not None:
            model.load_state_dict(initial_weights.state_dict(config.shape()))
        self.stepper = Stepper(model, config, run, world)
        if saved is not None:
            self._restore(saved)
        self._first = world.rank == 0
        self._checkpoints: manager.CheckpointManager | None = None
        self._trackers: Trackers | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        self._watch = ThroughputMeter(config, world)
        self._saved_at = time.monotonic()
        self.pausing: Callable[[], AbstractContextManager[None]] = nullcontext

    def _open(self) -> None:
        """Lock the folder and open trackers in the first process, then verify files if asked to."""
        run = self.run
        if self._first:
            root = self.workdir / "checkpoints"
            self._checkpoints = manager.CheckpointManager(
                root, run.keep_last, run.keep_every, run.keep_best
            )
            self._trackers = Trackers(self.workdir, run, self.config, self.step)
        if run.verify:
            self.loader.verify()

    def batches(self) -> Iterator[Batch]:
        """Batches from the step after the last one done, timed while they are waited for."""
        return self._watch.waiting(self.loader.batches(self.step, self.config.steps))

    def advance(self, batch: Batch, stop: bool) -> tuple[Metrics | None, bool]:
        """One step; its metrics if they are due, and whether any process was asked to stop."""
        outcome = self.stepper(self.step, batch)
        self.step += 1
        self.guard.observe(outcome.loss, outcome.finite)
        self._watch.step(batch)
        bad, stops, late = self.world.sum([len(batch.bad), stop, self._overdue()])
        if bad:
            self._count_bad(batch.bad, int(bad))
        discredited = None
        if self.guard.lost:
            with self.pausing():
                discredited = self._rewind()
        last = self.step == self.config.steps
        due = outcome.finite and (last or self.step % self.config.log_every == 0)
        row = outcome.metrics() if due else None
        if row is not None:
            self._log(row)
        rewound = discredited is not None
        regular = rewound or last or self.step % self.run.checkpoint_every_steps == 0
        if regular or stops or late:
            self.save(regular, discredited)
        return row, stops > 0

    def save(self, regular: bool, discredited: int | None = None) -> None:
        """Hand a checkpoint of this moment to the writer; all processes must call it.

        Only a `regular` one may be rewound to: when a run is stopped must not decide its weights.
        After a rewind those from the step `discredited` on are removed.
        """
        model, moments, counters = self.stepper.state()
        self._saved_at = time.monotonic()
        if self._checkpoints is None:
            return
        facts = {
            "identity": self._identity(),
            "counters": counters,
            "guard": self.guard.state(),
            "good": self.guard.healthy and regular,
            "score": self.rows[-1].loss if self.rows else None,
            "samples_seen": self.step * self.config.batch_size,
            "bad": sorted(self.bad),
            "bad_draws": self.bad_draws,
            "metrics": tuple(self.rows),
            "made_by": made_by(self.world),
        }
        with self.pausing():  # a slow disk is no hang
            saved = manager.Checkpoint(self.step, model, moments, facts)
            self._checkpoints.save(saved, discredited)

    def finish(self) -> TrainResult:
        """Write the model; the run is complete. Raises Diverged if its weights are not finite."""
        path = self.workdir / "model.safetensors"
        samples = self.step * self.config.batch_size
        weights, _, _ = self.stepper.state()
        if not all(bool(each.isfinite().all()) for each in weights.values()):
            raise Diverged(
                f"step {self.step}: the weights are not finite; lower lr or lengthen warmup_steps"
            )
        if self._first:
            model = CLIP(self.config.shape())
            model.load_state_dict(weights)
            facts = {**self._identity(), "train": self.config.record()}
            facts |= {"step": self.step, "samples_seen": samples}
            try:
                save_weights(path, model, facts)
            except OSError as error:
                raise CheckpointError(f"{path}: not written, {error.strerror}") from error
        return TrainResult(
            weights=path,
            steps=self.step,
            samples_seen=samples,
            refused_steps=self.guard.refused,
            rewinds=self.guard.rewinds,
            metrics=tuple(self.rows),
            seen=tuple(self.loader.drawn(self.step)),
            bad=tuple(sorted(self.bad)),
            num_parameters=sum(each.numel() for each in self.stepper.model.parameters()),
        )

    def close(self) -> None:
        """Wait until the last checkpoint is on the disk, and release the folder."""
        try:
            if self._checkpoints is not None:
                self._checkpoints.close()
        finally:
            if self._trackers is not None:
                self._trackers.close()

    def _overdue(self) -> bool:
        limit = self.run.checkpoint_every_s
        return limit is not None and time.monotonic() - self._saved_at >= limit

    def _count_bad(self, uids: Sequence[str], drawn: int) -> None:
        words = np.array([[int(uid[:16], 16), int(uid[16:], 16)] for uid in uids], np.uint64)
        rows = torch.from_numpy(words.reshape(-1, 2).view(np.int64))
        everyone = self.world.gather(rows.to(self.world.device)).cpu().numpy().view(np.uint64)
        self.bad |= {f"{int(high):016x}{int(low):016x}" for high, low in everyone}
        self.bad_draws += drawn
        allowed = self.config.bad_budget * max(self.step * self.config.batch_size, LEAST_DRAWN)
        if self.bad_draws > allowed:
            raise DatasetError(
                f"{self.bad_draws} pictures drawn up to step {self.step} could not be decoded, "
                f"over the budget of {self.config.bad_budget:.2%}; verify the dataset, or raise "
                f"bad_budget; the pairs: {_some(sorted(self.bad))}"
            )

    def _rewind(self) -> int:
        """Restore the last good weights; steps and samples go on.

        Good weights are those that a healthy loss has confirmed: not the ones with which the bad
        steps began. Returns the first step whose checkpoint is discredited.
        """
        guard = self.guard
        what = f"step {self.step}: {guard.refused_in_a_row or guard.spikes_in_a_row} steps in a row"
        what += " were not finite" if guard.refused_in_a_row else " were loss spikes"
        if guard.rewinds >= self.config.rewind_limit:
            raise Diverged(
                f"{what}, after {guard.rewinds} rewinds; lower lr or lengthen warmup_steps"
            )
        if self._checkpoints is not None:
            self._checkpoints.wait()
        self.world.sum([0])  # no process reads before the first one has written
        root, first = self.workdir / "checkpoints", self.step - guard.bad_in_a_row
        saved = manager.newest(root, good=True, before=first)
        if saved is None:
            saved = manager.newest(root, good=True)
        self.world.sum([0])  # nor does it write before all have read
        if saved is None:
            raise Diverged(
                f"{what}, before any checkpoint that can be gone back to; lower lr, lengthen "
                "warmup_steps, or lower checkpoint_every_steps"
            )
        log.warning("%s; going on with the weights of step %d", what, saved.step)
        self.stepper.restore(saved.model, saved.moments, saved.facts["counters"])
        guard.rewound(saved.facts["guard"])
        return max(first, saved.step + 1)

    def _newest(self) -> manager.Checkpoint | None:
        """The checkpoint to resume; CheckpointError if it is of another run, or ranks disagree."""
        saved = manager.newest(self.workdir / "checkpoints")
        if not self.world.agree(-1 if saved is None else saved.step):
            raise CheckpointError(
                f"{self.workdir}: the processes find different checkpoints in it; it must be a "
                "folder that all of them share"
            )
        if saved is not None and (other := self._differences(saved)):
            raise CheckpointError(
                f"{self.workdir}: it holds a run of another configuration or dataset ({other}); "
                "use another folder, or remove its checkpoints to start again"
            )
        return saved

    def _restore(self, saved: manager.Checkpoint) -> None:
        facts = saved.facts
        self.step = saved.step
        self.stepper.restore(saved.model, saved.moments, facts["counters"])
        self.guard.restore(facts["guard"])
        self.bad, self.bad_draws = set(facts["bad"]), facts["bad_draws"]
        self.rows = [Metrics(**row) for row in facts["metrics"]]
        log.info("%s: going on after step %d", self.workdir, saved.step)

    def _identity(self) -> dict[str, Any]:
        train, dataset = self.config.identity(), self.loader.content
        start = self._start_sha256
        return {"version": TRAIN_VERSION, "train": train, "dataset": dataset, "start": start}

    def _differences(self, saved: manager.Checkpoint) -> str:
        recorded = saved.facts["identity"]
        return differences(recorded, self._identity(), self.config.defaults())

    def _log(self, row: Metrics) -> None:
        self.rows.append(row)
        if self._trackers is not None:
            troubles = {
                "refused_steps": self.guard.refused,
                "rewinds": self.guard.rewinds,
                "undecodable": self.bad_draws,
            }
            self._trackers.log(asdict(row) | troubles | self._watch.lap())


def _make(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"workdir: {workdir}: {error.strerror}") from error


def _some(uids: Sequence[str], most: int = 10) -> str:
    more = f" and {len(uids) - most} more" if len(uids) > most else ""
    return ", ".join(uids[:most]) + more
