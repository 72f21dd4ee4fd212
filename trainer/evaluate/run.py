"""One model on one set: a summary that clip-benchmark's tools can read, and every sample's outcome.

The summary says what it depends on: digests of weights, set and templates, and the precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from trainer.arithmetic import exact_products
from trainer.checkpoints.files import sha256, to_json
from trainer.checkpoints.weights import load_weights
from trainer.evaluate.embed import embed_images, embed_texts
from trainer.evaluate.intervals import wilson
from trainer.evaluate.sets import EvalSet, Sample, Task, read_set
from trainer.evaluate.tasks import retrieval, zeroshot
from trainer.models.clip import CLIP


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The result of one task: JSON values, and a table with one row per query."""

    summary: dict[str, Any]
    outcomes: pa.Table

    def __repr__(self) -> str:
        metrics = ", ".join(
            f"{name} {value:.4f}" for name, value in self.summary["metrics"].items()
        )
        return f"Evaluation({self.summary['dataset']}, {self.summary['task']}: {metrics})"


def evaluate(
    weights: Path, set_folder: Path, *, device: str = "cpu", batch_size: int = 256
) -> list[Evaluation]:
    """Zero-shot classification, retrieval, or both, as the set allows; images are embedded once.

    `weights` is a file of `trainer.checkpoints.weights`. Raises CheckpointError or DatasetError.
    """
    where = torch.device(device)
    model, record = load_weights(weights, where)
    eval_set = read_set(set_folder)
    samples = list(eval_set.samples())
    images = (sample.image for sample in samples)
    with exact_products():
        image_NE, decoded_N = embed_images(model, images, batch_size, where)
    evaluations = []
    for task in eval_set.tasks:
        run_task = _retrieve if task == "zeroshot_retrieval" else _classify
        with exact_products():
            table, counts = run_task(
                model, eval_set, samples, image_NE, decoded_N, batch_size, where
            )
        summary = _summary(eval_set, task, record, counts)
        summary |= {"n": len(samples), "undecodable": int((~decoded_N).sum())}
        if task == "zeroshot_classification":
            summary["metrics"]["mean_per_class_recall"] = zeroshot.mean_per_class_recall(table)
            summary["chance"] = 1 / len(eval_set.classes)
            summary["classes"] = list(eval_set.classes)
        evaluations.append(Evaluation(summary, table))
    return evaluations


Counts = Mapping[str, tuple[int, int]]


def _classify(
    model: CLIP,
    eval_set: EvalSet,
    samples: list[Sample],
    image_NE: torch.Tensor,
    decoded_N: torch.Tensor,
    batch_size: int,
    device: torch.device,
) -> tuple[pa.Table, Counts]:
    weights_CE = zeroshot.classifier(
        model, eval_set.classes, eval_set.templates, batch_size=batch_size, device=device
    )
    labels = np.array([sample.label for sample in samples], np.int64)
    keys = [sample.key for sample in samples]
    table = zeroshot.outcomes(keys, labels, image_NE @ weights_CE.T, decoded_N)
    counts = zeroshot.hits(table, len(eval_set.classes))
    return table, {name: (count, len(samples)) for name, count in counts.items()}


def _retrieve(
    model: CLIP,
    eval_set: EvalSet,
    samples: list[Sample],
    image_NE: torch.Tensor,
    decoded_N: torch.Tensor,
    batch_size: int,
    device: torch.device,
) -> tuple[pa.Table, Counts]:
    captions = [caption for sample in samples for caption in sample.captions]
    counts = [len(sample.captions) for sample in samples]
    owners = np.repeat(np.arange(len(samples)), counts)
    text_ME = embed_texts(model, captions, batch_size, device)
    keys = [sample.key for sample in samples]
    table = retrieval.outcomes(keys, image_NE, text_ME, owners, decoded_N)
    return table, retrieval.hits(table)


def _summary(
    eval_set: EvalSet, task: Task, record: Mapping[str, Any], counts: Counts
) -> dict[str, Any]:
    bounds = {name: wilson(*of_trials) for name, of_trials in counts.items()}
    return {
        "dataset": eval_set.name,
        "model": record["train"]["model"],
        "pretrained": record["weights_sha256"][:16],
        "task": task,
        "language": "en",
        "metrics": {name: count / max(1, total) for name, (count, total) in counts.items()},
        "ci95": {
            name: {"low": low, "high": high, "n": counts[name][1], "method": "wilson"}
            for name, (low, high) in bounds.items()
        },
        "precision": "fp32",
        "weights_sha256": record["weights_sha256"],
        "set_sha256": eval_set.digest(),
        "templates_sha256": sha256(to_json([list(eval_set.classes), list(eval_set.templates)])),
    }
