"""`train`: CLIP's two towers, from scratch, on the shards."""

import os
import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.stages.model.common import json_bytes, stage_named
from jobs.stages.model.mirror import mirrored
from pipeline.dataset import schema
from pipeline.dataset.params import Params
from pipeline.dataset.verdict import Judge, Reason
from pipeline.stage import Execution, Output, Stage, Whole, WholeTask
from trainer.config import TRAIN_VERSION, RunConfig, TrainConfig

if TYPE_CHECKING:
    from trainer.run.metrics import Metrics


class TrainReason(Reason):
    """Why a pair of the dataset was not trained on."""

    NOT_REACHED = "not_reached", "the run ended before its turn", "train for more steps"
    UNDECODABLE = "undecodable", "its picture could not be decoded", "", True


TrainParams = mirrored("TrainParams", Params, TrainConfig)
TrainExecution = mirrored("TrainExecution", Execution, RunConfig)


def _train(task: WholeTask[Any, Any]) -> Output:
    # Before torch is loaded: threads that spin while they wait are several times slower than ones
    # that sleep as soon as anything else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from trainer.data.loader import Source
    from trainer.train import train  # takes seconds to import, and most commands need none

    with stage_named("train"):
        config = TrainConfig.from_dict(task.params.model_dump())
        progress = _StepProgress(task, config.steps)
        sources, run = (Source(task.upstream.local),), _run_config(task.execution)
        result = train(config, sources, task.scratch, run, progress=progress)
    judge = Judge(task.table)
    bad = np.isin(np.array([uid.hex() for uid in task.table["uid"].to_pylist()]), result.bad)
    judge.drop(bad, TrainReason.UNDECODABLE)
    judge.drop(~result.seen[0], TrainReason.NOT_REACHED)
    facts = {
        "config": config.record(),
        "metrics": [asdict(row) for row in result.metrics],
        "parameters": result.num_parameters,
        "samples_seen": result.samples_seen,
        "refused_steps": result.refused_steps,
        "rewinds": result.rewinds,
    }
    return Output(judge.table(), {"safetensors": result.weights, "json": json_bytes(facts)})


def _run_config(execution: Any) -> RunConfig:
    """What of a stage's execution is the trainer's; without num_threads it takes all cores."""
    chosen = {field.name: getattr(execution, field.name) for field in fields(RunConfig)}
    return RunConfig(**{**chosen, "num_threads": chosen["num_threads"] or os.cpu_count()})


class _StepProgress:
    """Reports step, loss and time left as training goes."""

    def __init__(self, task: WholeTask[Any, Any], steps: int) -> None:
        self._task, self._steps = task, steps
        self._first: tuple[int, float] | None = None

    def __call__(self, row: "Metrics") -> None:
        now = time.monotonic()
        self._first = self._first or (row.step, now)
        done, since = row.step - self._first[0], now - self._first[1]
        left = f", {since / done * (self._steps - row.step):,.0f} s left" if done else ""
        self._task.report(f"step {row.step:,}/{self._steps:,}, loss {row.loss:.3f}{left}")


STAGE = Stage(
    name="train",
    version=TRAIN_VERSION,
    summary="Train CLIP's two towers from scratch on the shards",
    params=TrainParams,
    shape=Whole(_train, columns=("uid", "url", "caption")),
    needs=(schema.UID, schema.URL, schema.CAPTION, schema.TOKENS, *schema.IMAGE_PLACE),
    reasons=TrainReason,
    files=("safetensors", "json"),
    needs_files=("tar",),
    execution=TrainExecution,
)
