"""What the positive-pair regulariser does to a model: one run for each lambda and seed, compared.

Runs of a seed begin with the same weights and see the same pairs in the same order, so they differ
by lambda alone and are compared pair by pair. A run that was stopped goes on where it was, and one
that is finished is only read. Shapes: N items that were asked, E embedding.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from jobs.bench.groups import grouped
from pipeline.dataset.errors import UserError
from trainer.checkpoints.weights import load_weights
from trainer.config import RunConfig, TrainConfig
from trainer.data.loader import Source
from trainer.evaluate.embed import embed_images, embed_texts
from trainer.evaluate.run import evaluate
from trainer.evaluate.sets import EvalSet, read_set
from trainer.evaluate.tasks.probe import probe
from trainer.models.clip import CLIP
from trainer.run.loop import TrainResult
from trainer.run.metrics import geometry
from trainer.train import train

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
CPU = torch.device("cpu")
BATCH = 256
RESAMPLES = 10_000

Hits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """One finished run."""

    seed: int
    pos_reg: float
    readings: dict[str, float]
    hits: dict[str, Hits]
    """By score: for each item that was asked, (N,), 1 where the model was right and 0 elsewhere."""


@dataclass(frozen=True)
class Mean:
    """A reading or a score at one lambda, over all seeds, and what it is more than at lambda 0."""

    value: float
    interval: tuple[float, float] | None
    """95 %, of scores: by resampling items, each with its outcomes under all seeds."""
    more: float
    more_interval: tuple[float, float] | None
    more_by_seed: tuple[float, ...]


@dataclass(frozen=True)
class LearningPlan:
    """Which runs are made."""

    lambdas: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int | None = None
    """The quickstart's where there is none."""

    def __post_init__(self) -> None:
        """Raise UserError where there is nothing to compare with."""
        if 0 not in self.lambdas:
            raise UserError("--lambdas: 0 is missing, which the others are compared with")

    def configs(self) -> list[TrainConfig]:
        """One per run: the quickstart's recipe, each seed's runs together."""
        recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["stages"]["train"]
        if self.steps is not None:
            recipe["steps"] = self.steps
        return [
            TrainConfig.from_dict(recipe | {"seed": seed, "pos_reg": pos_reg})
            for seed in self.seeds
            for pos_reg in self.lambdas
        ]


def learn(
    dataset: Path, held_out: Path, out: Path, plan: LearningPlan, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Train and judge every run of the plan; JSON values. UserError on a set that has too little.

    Each run has its own folder in `out`; `progress` is called with a line once it is judged.
    """
    held_out_set = read_set(held_out)
    if len(held_out_set.tasks) < 2:
        raise UserError(f"--set: {held_out} must have both classes and captions")
    configs, trials = plan.configs(), []
    for config in configs:
        trials.append(_trial(config, dataset, held_out_set, out))
        progress(f"seed {config.seed}, lambda {config.pos_reg:g}: {_line(trials[-1])}")
    return {
        "recipe": configs[0].record(),
        "dataset": str(dataset),
        "set": held_out_set.name,
        "seeds": list(plan.seeds),
        "runs": [{"seed": t.seed, "lambda": t.pos_reg, **_scores(t)} for t in trials],
        "lambdas": {
            f"{pos_reg:g}": {name: asdict(mean) for name, mean in means(trials, pos_reg).items()}
            for pos_reg in plan.lambdas
        },
    }


def means(trials: Sequence[Trial], pos_reg: float) -> dict[str, Mean]:
    """Every reading and score at one lambda, beside the runs of lambda 0 with the same seeds."""
    here = [trial for trial in trials if trial.pos_reg == pos_reg]
    plain = {trial.seed: trial for trial in trials if trial.pos_reg == 0}
    table = {}
    for name in here[0].readings:
        values = [trial.readings[name] for trial in here]
        more = [trial.readings[name] - plain[trial.seed].readings[name] for trial in here]
        table[name] = Mean(float(np.mean(values)), None, float(np.mean(more)), None, tuple(more))
    for name in here[0].hits:
        hits_SN = np.stack([trial.hits[name] for trial in here])
        more_SN = hits_SN - np.stack([plain[trial.seed].hits[name] for trial in here])
        table[name] = Mean(
            float(hits_SN.mean()),
            interval(hits_SN.mean(axis=0)),
            float(more_SN.mean()),
            interval(more_SN.mean(axis=0)),
            tuple(more_SN.mean(axis=1).tolist()),
        )
    return table


def interval(values_N: Hits) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of a mean (Efron 1979); always the same one."""
    chance = np.random.Generator(np.random.Philox(0))
    kinds, index = np.unique(values_N, return_inverse=True)
    shares = np.bincount(index) / len(values_N)
    # How often each value is drawn is all that a mean needs of a resample.
    counts = chance.multinomial(len(values_N), shares, RESAMPLES)
    low, high = np.quantile(counts @ kinds / len(values_N), [0.025, 0.975])
    return float(low), float(high)


def _trial(config: TrainConfig, dataset: Path, held_out_set: EvalSet, out: Path) -> Trial:
    workdir = out / f"seed-{config.seed}" / f"lambda-{config.pos_reg:g}"
    run = RunConfig(num_threads=os.cpu_count(), checkpoint_every_steps=300)
    result = train(config, (Source(dataset),), workdir, run)
    model, _ = load_weights(result.weights)
    readings = _trained(result) | _held_out(model, held_out_set)
    return Trial(config.seed, config.pos_reg, readings, _hits(result.weights, model, held_out_set))


def _trained(result: TrainResult) -> dict[str, float]:
    """What the last batch of training says."""
    last = result.metrics[-1]
    return {
        "logit scale": last.logit_scale,
        "train loss": last.loss,
        "train margin": last.margin,
        "train positive": last.positive_cosine,
        "train gap": last.modality_gap,
    }


def _held_out(model: CLIP, held_out_set: EvalSet) -> dict[str, float]:
    """Margin, positive cosine and modality gap of pictures and their first captions."""
    samples = list(held_out_set.samples())
    images = (sample.image for sample in samples)
    image_NE, sound_N = embed_images(model, images, BATCH, CPU)
    text_NE = embed_texts(model, [sample.captions[0] for sample in samples], BATCH, CPU)
    image_NE, text_NE = image_NE[sound_N], text_NE[sound_N]
    cosine_NN = image_NE @ text_NE.T
    own_N = cosine_NN.diagonal().clone()
    best_other_N = cosine_NN.fill_diagonal_(-2).amax(dim=1)
    return {
        "margin": float((own_N - best_other_N).mean()),
        "positive": float(own_N.mean()),
        "gap": float(geometry(image_NE, text_NE)[2]),
    }


def _hits(weights: Path, model: CLIP, held_out_set: EvalSet) -> dict[str, Hits]:
    """Zero-shot accuracy, recall at 10 both ways and the probe's accuracy, item by item."""
    hits = {}
    for evaluation in evaluate(weights, held_out_set.folder, batch_size=BATCH):
        ranks = evaluation.outcomes["rank"].to_numpy()
        if evaluation.summary["task"] == "zeroshot_classification":
            hits["acc1"] = evaluation.outcomes["correct"].to_numpy().astype(np.float64)
        else:
            hits["R@10"] = (ranks < 10).astype(np.float64)
    try:
        images, labels = grouped(held_out_set.folder)
    except ValueError:
        return hits  # its names have no known groups, so there is nothing to tell apart
    judged = probe(model, images, torch.tensor(labels), batch_size=BATCH)
    return hits | {"probe": judged.correct_N.double().numpy()}


def _scores(trial: Trial) -> dict[str, float]:
    return trial.readings | {name: float(hits.mean()) for name, hits in trial.hits.items()}


def _line(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in _scores(trial).items())
