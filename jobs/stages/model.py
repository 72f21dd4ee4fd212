"""The model stages: training on the shards, evaluation on held-out sets, and the report."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, create_model, model_validator

from jobs.report import compose
from pipeline.dataset.errors import UserError
from pipeline.dataset.params import Params
from pipeline.dataset.verdict import Judge, Reason
from pipeline.inputs import Files
from pipeline.ledger.lineage import wiring
from pipeline.stage import Execution, Map, Output, Stage, Task
from pipeline.store.result import Result
from trainer.config import RunConfig, TrainConfig
from trainer.records import field_docs

if TYPE_CHECKING:
    from trainer.run.metrics import Metrics


class TrainReason(Reason):
    """Why a pair of the dataset was not trained on."""

    NOT_REACHED = "not_reached", "the run ended before its turn", "train for more steps"
    UNDECODABLE = "undecodable", "its picture could not be decoded", "", True


class EvaluateExecution(Execution):
    """Where evaluation runs."""

    device: str = "cpu"
    """A torch device."""
    batch_size: int = Field(default=256, ge=1)
    """Pictures or texts embedded at once."""


Model = TypeVar("Model", bound=BaseModel)


def _mirrored(name: str, base: type[Model], record: Any) -> type[Model]:
    """A record of the trainer's as a model of the engine's: the trainer does without pydantic."""
    hints, docs = get_type_hints(record), field_docs(record)
    columns: dict[str, Any] = {}
    for field in fields(record):
        default = ... if field.default is MISSING else field.default
        columns[field.name] = (hints[field.name], Field(default, description=docs.get(field.name)))

    def check(made: Any) -> Any:
        """What the trainer would refuse, before anything upstream is built."""
        try:
            record.from_dict({field.name: getattr(made, field.name) for field in fields(record)})
        except UserError as error:
            raise ValueError(str(error)) from error
        return made

    checks: dict[str, Any] = {"as_the_trainer_does": model_validator(mode="after")(check)}
    return create_model(name, __base__=base, __validators__=checks, **columns)


TrainParams = _mirrored("TrainParams", Params, TrainConfig)
TrainExecution = _mirrored("TrainExecution", Execution, RunConfig)


def _train(task: Task) -> Output:
    # Before torch is loaded: threads that spin while they wait are several times slower than ones
    # that sleep as soon as anything else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from trainer.data.loader import Source
    from trainer.train import train  # takes seconds to import, and most commands need none

    assert isinstance(task.upstream, Result) and task.scratch is not None
    with _told("train"):
        config = TrainConfig.from_dict(task.params.model_dump())
        run = _run_config(task.execution)
        sources = (Source(task.upstream.local),)
        result = train(config, sources, task.scratch, run, progress=_Teller(task, config.steps))
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
    return Output(judge.table(), {"safetensors": result.weights, "json": _json(facts)})


def _run_config(execution: Any) -> RunConfig:
    """What of a stage's execution is the trainer's; a stage takes all cores unless told."""
    given = {field.name: getattr(execution, field.name) for field in fields(RunConfig)}
    return RunConfig(**{**given, "num_threads": given["num_threads"] or os.cpu_count()})


class _Teller:
    """Tells steps, loss and time left as training goes."""

    def __init__(self, task: Task, steps: int) -> None:
        self._task, self._steps = task, steps
        self._first: tuple[int, float] | None = None

    def __call__(self, row: "Metrics") -> None:
        now = time.monotonic()
        self._first = self._first or (row.step, now)
        done, since = row.step - self._first[0], now - self._first[1]
        left = f", {since / done * (self._steps - row.step):,.0f} s left" if done else ""
        self._task.tell(f"step {row.step:,}/{self._steps:,}, loss {row.loss:.3f}{left}")


@contextmanager
def _told(stage: str) -> Iterator[None]:
    """An error that the trainer has for people, as the engine's."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{stage}: {error}") from error


def _evaluate(task: Task) -> Output:
    from trainer.evaluate.run import evaluate

    model, sets = task.upstream, task.sides["sets"]
    assert isinstance(model, Result) and isinstance(sets, Files)
    weights = model.local / model.manifest.parts[0].files["safetensors"].path
    execution: EvaluateExecution = task.execution
    results, outcomes = [], []
    for name, folder in _set_folders(sets).items():
        with _told("evaluate"):
            answers = evaluate(
                weights, folder, device=execution.device, batch_size=execution.batch_size
            )
        for answer in answers:
            results.append(answer.summary)
            labels = {"set": name, "task": answer.summary["task"]}
            outcomes.append(_labelled(answer.outcomes, labels))
    table = pa.concat_tables(outcomes, promote_options="default")
    return Output(table, {"json": _json({"results": results})})


def _labelled(rows: pa.Table, labels: Mapping[str, str]) -> pa.Table:
    for place, (name, value) in enumerate(labels.items()):
        rows = rows.add_column(place, name, pa.array([value] * rows.num_rows, pa.string()))
    return rows


def _set_folders(sets: Files) -> dict[str, Path]:
    """The evaluation sets of an input: every folder with a classnames.txt, by name."""
    paths = [file.path for file in sets.files]
    folders = {path.parent.name: path.parent for path in paths if path.name == "classnames.txt"}
    if not folders:
        raise UserError(
            "evaluate: none of its input's files is a classnames.txt; give folders in "
            "clip-benchmark's webdataset layout (classnames.txt, "
            "zeroshot_classification_templates.txt, test/*.tar)"
        )
    return dict(sorted(folders.items()))


def _report(task: Task) -> Output:
    datasets = {name: side for name, side in task.sides.items() if isinstance(side, Result)}
    made = compose.render(
        task.params.title, datasets, wiring(datasets), _queries(task), _catalogue()
    )
    figures = pa.table({"json": [json.dumps(made.summary, sort_keys=True)]})
    return Output(figures, {"html": made.html.encode(), "json": _json(made.summary)})


class ReportParams(Params):
    """What the report says of itself."""

    title: str = "openwit"
    """The heading."""


def _queries(task: Task) -> tuple[str, ...] | None:
    queries = task.sides.get("queries")
    return queries.lines() if isinstance(queries, Files) else None


def _catalogue() -> Mapping[str, Stage]:
    # Imported late: the catalogue is made of the stages below.
    from jobs.stages import CATALOGUE

    return CATALOGUE


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


STAGES = (
    Stage(
        name="train",
        version=3,
        summary="Train CLIP's two towers from scratch on the shards",
        params=TrainParams,
        shape=Map(_train, whole=True, columns=("uid", "url", "caption")),
        reasons=TrainReason,
        execution=TrainExecution,
        modules=(
            "trainer.run.loop",
            "trainer.run.step",
            "trainer.run.guard",
            "trainer.losses.objectives",
            "trainer.losses.tiled",
            "trainer.losses.softmax",
            "trainer.losses.pairwise",
            "trainer.data.loader",
            "trainer.data.chunks",
            "trainer.data.order",
            "trainer.data.sources",
            "pipeline.dataset.read.shards",
            "pipeline.dataset.read.folder",
            "pipeline.dataset.read.payloads",
            "trainer.data.images",
            "trainer.data.augment",
        ),
    ),
    Stage(
        name="evaluate",
        version=2,
        summary="Zero-shot classification and retrieval on held-out sets",
        params=Params,
        shape=Map(_evaluate, whole=True),
        reads="train",
        conserves=False,
        sides={"sets": "heldout"},
        execution=EvaluateExecution,
        modules=(
            "trainer.evaluate.run",
            "trainer.evaluate.tasks.zeroshot",
            "trainer.evaluate.tasks.retrieval",
        ),
    ),
    Stage(
        name="report",
        version=1,
        summary="One HTML page and one JSON summary of the whole build",
        params=ReportParams,
        shape=Map(_report, whole=True),
        conserves=False,
        sees_all=True,
        modules=("jobs.report.compose", "jobs.report.page"),
    ),
)
