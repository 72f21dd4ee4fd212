"""`evaluate`: zero-shot classification and retrieval on held-out sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from jobs.stages.model.common import json_bytes, stage_named
from pipeline.dataset import schema
from pipeline.dataset.column import Column, schema_of
from pipeline.dataset.errors import UserError
from pipeline.dataset.params import Params
from pipeline.inputs import Files, InputFile
from pipeline.stage import Execution, FilesSide, Output, Stage, Whole, WholeTask

if TYPE_CHECKING:
    from trainer.evaluate.run import Evaluation


class EvaluateExecution(Execution):
    """Where evaluation runs."""

    device: str = "cpu"
    """A torch device."""
    batch_size: int = Field(default=256, ge=1)
    """Pictures or texts embedded at once."""


def _evaluate(task: WholeTask[Params, EvaluateExecution]) -> Output:
    # Takes seconds to import, and most commands need none of it.
    from trainer.evaluate.run import evaluate

    model, execution = task.upstream, task.execution
    weights = model.local / model.manifest.parts[0].files["safetensors"].path
    results, tables = [], []
    for name, folder in _set_folders(task.files("sets")).items():
        with stage_named("evaluate"):
            evaluations = evaluate(
                weights, folder, device=execution.device, batch_size=execution.batch_size
            )
        results += [evaluation.summary for evaluation in evaluations]
        tables += [_answers(name, evaluation) for evaluation in evaluations]
    return Output(pa.concat_tables(tables), {"json": json_bytes({"results": results})})


def _answers(set_name: str, evaluation: "Evaluation") -> pa.Table:
    """The outcomes of one task with every column of `ANSWER`, null where it was not asked."""
    outcomes = evaluation.outcomes
    names = {"set": set_name, "task": str(evaluation.summary["task"])}
    columns = [_column(column, outcomes, names) for column in schema.ANSWER]
    return pa.table(columns, schema=schema_of(schema.ANSWER))


def _column(
    column: Column, outcomes: pa.Table, names: dict[str, str]
) -> pa.Array | pa.ChunkedArray:
    if column.name in names:
        return pa.repeat(pa.scalar(names[column.name], column.type), outcomes.num_rows)
    if column.name in outcomes.column_names:
        return outcomes[column.name].cast(column.type)
    return pa.nulls(outcomes.num_rows, column.type)


def _set_folders(sets: Files) -> dict[str, Path]:
    """The evaluation sets of an input: every folder with a classnames.txt, by name."""
    names = [file for file in sets.files if Path(file.path).name == "classnames.txt"]
    folders = {path.parent.name: path.parent for path in _local(names)}
    if not folders:
        raise UserError(
            "evaluate: none of its input's files is a classnames.txt; give folders in "
            "clip-benchmark's webdataset layout (classnames.txt, "
            "zeroshot_classification_templates.txt, test/*.tar)"
        )
    return dict(sorted(folders.items()))


def _local(files: Sequence[InputFile]) -> list[Path]:
    paths = [file.local for file in files]
    if None in paths:
        raise UserError(
            "evaluate: its sets are read from a local disk; copy them there and name that folder"
        )
    return [path for path in paths if path is not None]


STAGE = Stage(
    name="evaluate",
    version=3,
    summary="Zero-shot classification and retrieval on held-out sets",
    params=Params,
    shape=Whole(_evaluate),
    adds=schema.ANSWER,
    reads="train",
    conserves=False,
    files=("json",),
    needs_files=("safetensors",),
    sides={"sets": FilesSide("heldout", "folders in clip-benchmark's layout")},
    execution=EvaluateExecution,
)
