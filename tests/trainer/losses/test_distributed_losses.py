"""Losses over 1, 2 and 4 processes (gloo on loopback) are those of one; all run in one go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional as F

from tests.support.dense_loss import (
    OBJECTIVES,
    embeddings,
    exact,
    gradient,
    hints,
    leaves,
    part,
    tiled,
    worst_error,
)
from trainer.config import Objective
from trainer.losses.objectives import LossOutput, Pairs, contrastive_loss

pytestmark = pytest.mark.slow

BATCH, WIDTH = 48, 32
WORLDS = (1, 2, 4)
SCALES = (1 / 0.07, 100.0)
HINTS = {"plain": Pairs(), "hints": hints(BATCH)}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@dataclass(frozen=True)
class Case:
    """One loss over so many processes, of leaves or of a tower in micro-batches."""

    world: int
    name: str
    scale: float
    known: str
    cached: bool

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.name]

    @property
    def pairs(self) -> Pairs:
        return HINTS[self.known]

    @property
    def file(self) -> str:
        return f"{self.world}-{self.name}-{self.scale:.0f}-{self.known}-{self.cached}"


CASES = [
    Case(world, name, scale, known, cached)
    for world in WORLDS
    for name in OBJECTIVES
    for scale in SCALES
    for known in HINTS
    for cached in (False, True)
    if not cached or known == "hints"
]


def weights() -> list[Tensor]:
    """Of an image tower and a text tower, both linear."""
    generator = torch.Generator().manual_seed(1)
    turns = torch.randn(2, WIDTH, WIDTH, generator=generator).double() * 0.1
    return [(torch.eye(WIDTH) + turn).float().double() for turn in turns]


def tower(rows: Tensor, weight: Tensor) -> Tensor:
    return F.normalize(rows @ weight, dim=1)


Compute = Callable[[Tensor, Tensor, Tensor, Tensor], LossOutput]


def of_leaves(inputs: list[Tensor], compute: Compute) -> list[Tensor]:
    image, text, scale, bias = inputs
    loss = compute(image, text, scale, bias)
    torch.autograd.backward(loss.value)
    metrics = torch.stack([loss.positive_cosine, loss.margin])
    return [loss.value.detach(), metrics, *map(gradient, inputs)]


def of_micro_batches(inputs: list[Tensor], compute: Compute) -> list[Tensor]:
    """Gradients by two towers' weights, rows going through them five at a time."""
    pixels, words, scale, bias = inputs
    matrices = leaves(weights(), pixels.dtype)
    with torch.no_grad():
        outputs = [tower(x, w) for x, w in zip((pixels, words), matrices, strict=True)]
    rows = leaves(outputs, pixels.dtype)
    loss = compute(rows[0], rows[1], scale, bias)
    torch.autograd.backward(loss.value)
    for first in range(0, len(pixels), 5):
        some = slice(first, first + 5)
        for x, w, row in zip((pixels, words), matrices, rows, strict=True):
            torch.autograd.backward(tower(x[some], w), gradient(row)[some])
    metrics = torch.stack([loss.positive_cosine, loss.margin])
    return [loss.value.detach(), metrics, *map(gradient, (*matrices, scale, bias))]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=max(WORLDS))
    groups = {world: dist.new_group(list(range(world))) for world in WORLDS}
    for case in CASES:
        if rank < case.world:
            share = BATCH // case.world
            own = slice(rank * share, (rank + 1) * share)
            image, text, scale, bias = embeddings(BATCH, WIDTH, case.scale)
            inputs = leaves([image[own], text[own], scale, bias])

            def compute(
                i: Tensor, t: Tensor, s: Tensor, b: Tensor, case: Case = case, own: slice = own
            ) -> LossOutput:
                pairs, group = part(case.pairs, own), groups[case.world]
                return contrastive_loss(i, t, s, b, case.objective, pairs, group=group, tile=11)

            results = (of_micro_batches if case.cached else of_leaves)(inputs, compute)
            arrays = [tensor.numpy() for tensor in results]
            np.savez(folder / f"{case.file}-{rank}.npz", *arrays)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    spawn: Callable[..., None] = start_processes
    spawn(work, (folder,), nprocs=max(WORLDS), start_method="spawn")
    return folder


def by_rank(folder: Path, case: Case) -> list[list[Tensor]]:
    """What each process found: value, metrics, by images, by texts, by scale, by bias."""
    ranks = []
    for rank in range(case.world):
        with np.load(folder / f"{case.file}-{rank}.npz") as arrays:
            ranks.append([torch.from_numpy(arrays[name]) for name in arrays.files])
    return ranks


def cases(name: str, cached: bool) -> list[Case]:
    return [case for case in CASES if case.name == name and case.cached == cached]


@every_objective
def test_value_and_metrics_are_the_same_bits_on_every_rank(folder: Path, name: str) -> None:
    for case in cases(name, cached=False):
        first, *others = by_rank(folder, case)
        for rank in others:
            assert torch.equal(rank[0], first[0]) and torch.equal(rank[1], first[1])


@every_objective
def test_gradients_of_n_ranks_are_those_of_the_dense_loss(folder: Path, name: str) -> None:
    for case in cases(name, cached=False):
        ranks = by_rank(folder, case)
        inputs = embeddings(BATCH, WIDTH, case.scale)
        truth = exact(inputs, case.objective, case.pairs)
        rows = [torch.cat([rank[place] for rank in ranks]) for place in (2, 3)]
        scalars = [torch.stack([rank[place] for rank in ranks]).sum() for place in (4, 5)]
        ours = [ranks[0][0], *rows, *scalars]
        assert worst_error(ours, truth) < 1e-6, case
        alone = tiled(inputs, case.objective, case.pairs, tile=11)
        assert worst_error(ours, alone) < 1e-6, case


@every_objective
def test_gradients_of_micro_batches_on_n_ranks_are_those_of_one_pass(
    folder: Path, name: str
) -> None:
    for case in cases(name, cached=True):
        ranks = by_rank(folder, case)
        summed = [torch.stack([rank[place] for rank in ranks]).sum(0) for place in range(2, 6)]

        def compute(i: Tensor, t: Tensor, s: Tensor, b: Tensor, case: Case = case) -> LossOutput:
            return contrastive_loss(i, t, s, b, case.objective, case.pairs)

        inputs = leaves(embeddings(BATCH, WIDTH, case.scale), torch.float64)
        value, metrics, *truth = of_micro_batches(inputs, compute)
        assert worst_error([ranks[0][0], *summed], [value, *truth]) < 1e-6, case
        assert worst_error([ranks[0][1]], [metrics]) < 1e-6, case
