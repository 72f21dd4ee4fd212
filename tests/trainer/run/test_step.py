"""One step: the same update whatever goes through the towers at once, on however many ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.micro import MICRO, config
from tests.support.ranks import rank, run_world
from trainer.config import RunConfig, TrainConfig
from trainer.data.batch import Batch
from trainer.models.config import MODELS, ModelConfig
from trainer.models.init import new_clip
from trainer.parallel.world import World, connected
from trainer.run.step import FIRST_SCALE, Stepper, learning_rate

ALONE = World(0, 1, torch.device("cpu"))
ROWS = 16


def batch(side: int = 16, patches: int = 4, rows: int = ROWS) -> Batch:
    """A batch with repeated captions and pictures, weights and dropped patches."""
    rng = np.random.default_rng(0)
    tokens = torch.zeros(rows, 8, dtype=torch.int64)
    tokens[:, 0], tokens[:, 4] = 49406, 49407
    tokens[:, 1:4] = torch.from_numpy(rng.integers(1, 49000, (rows, 3)))
    tokens[1] = tokens[0]
    canvas = -(-side * 8 // 7)
    return Batch(
        pixels=torch.from_numpy(rng.integers(0, 256, (rows, canvas, canvas, 3), np.uint8)),
        sides=torch.from_numpy(rng.integers(side // 2, canvas + 1, rows)),
        mirror=torch.from_numpy(rng.integers(0, 2, rows).astype(bool)),
        jitter=torch.from_numpy(rng.random((rows, 3), np.float32)),
        kept=torch.from_numpy(
            np.sort([rng.permutation(patches)[: patches // 2] for _ in range(rows)], axis=1)
        ),
        tokens=tokens,
        uids=torch.from_numpy(rng.integers(0, 2**62, (rows, 2))),
        image_ids=torch.arange(rows),
        text_ids=torch.tensor([0, 0, *range(2, rows)]),
        weights=torch.from_numpy(rng.random(rows).astype(np.float32) + 0.5),
        bad=(),
    )


def settings(**changes: Any) -> TrainConfig:
    options = {"batch_size": ROWS, "mask_duplicates": True, "weighted": True, "pos_reg": 0.1}
    return config(**{**options, "patch_dropout": 0.5, "flip": True, **changes})


def update(made: TrainConfig, given: Batch, world: World = ALONE, **run: Any) -> dict[str, Tensor]:
    """What a step makes of the weights, its gradient (in Adam's first moments) and its loss."""
    stepper = Stepper(new_clip(made.shape(), 0), made, RunConfig(**run), world)
    share = len(given.tokens) // world.size
    mine = given.part(world.rank * share, (world.rank + 1) * share)
    outcome = stepper(0, mine)
    assert outcome.finite
    weights, moments, _ = stepper.state()
    return weights | moments | {"loss": torch.tensor(outcome.metrics().loss)}


def assert_close(one: dict[str, Tensor], two: dict[str, Tensor], limit: float = 1e-6) -> None:
    """The same gradient, by the norm of the difference, and the same loss."""
    assert one.keys() == two.keys()
    first = [name for name in one if name.startswith("first.")]
    assert first
    apart = sum(float((one[name] - two[name]).square().sum()) for name in first) ** 0.5
    size = sum(float(two[name].square().sum()) for name in first) ** 0.5
    assert apart <= limit * size
    assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=limit)


pytestmark = [pytest.mark.usefixtures("micro"), pytest.mark.slow]
LOSSES = ["clip", "siglip", "cyclip"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro_batch", [1, 5, 8])
def test_micro_batches_make_the_update_of_the_whole_batch(loss: str, micro_batch: int) -> None:
    made, given = settings(loss=loss), batch()
    assert_close(update(made, given, micro_batch=micro_batch), update(made, given))


def resnet() -> ModelConfig:
    shape = dict(zip(MICRO.__slots__, (getattr(MICRO, n) for n in MICRO.__slots__), strict=True))
    tower = {"patch_size": None, "vision_layers": (1, 1, 1, 1), "vision_width": 8}
    return ModelConfig(**{**shape, **tower, "vision_heads": 4, "image_size": 32})


def test_batch_norms_count_a_batch_once_though_it_passes_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one micro-batch's worth of statistics: two halves, each normalised by itself."""
    monkeypatch.setitem(MODELS, "micro-resnet", resnet())
    made = settings(model="micro-resnet", patch_dropout=0.0)
    given = replace(batch(side=32), kept=None)
    halves = Stepper(new_clip(made.shape(), 0), made, RunConfig(micro_batch=8), ALONE)
    halves(0, given)
    buffers = {name: b for name, b in halves.model.named_buffers() if "num_batches" in name}
    assert buffers and all(int(count) == 2 for count in buffers.values())


def test_recomputed_blocks_make_the_same_update() -> None:
    made, given = settings(), batch()
    assert_close(update(made, given, grad_checkpointing=True), update(made, given))


def test_a_refused_step_leaves_a_resnets_statistics_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training never reads them, so that a run would end well with a model that is broken."""
    monkeypatch.setitem(MODELS, "micro-resnet", resnet())
    made = settings(model="micro-resnet", patch_dropout=0.0)
    given = replace(batch(side=32), kept=None)
    stepper = Stepper(new_clip(made.shape(), 0), made, RunConfig(), ALONE)
    assert stepper(0, given).finite
    before = {name: value.clone() for name, value in stepper.model.state_dict().items()}
    hook = stepper.model.visual.conv1.register_forward_hook(lambda *given: given[2] * torch.inf)
    assert not stepper(1, given).finite
    hook.remove()
    for name, value in stepper.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    made, given = settings(), batch()
    stepper = Stepper(new_clip(made.shape(), 0), made, RunConfig(), ALONE)
    stepper(0, given)
    before = {name: value.clone() for name, value in stepper.model.state_dict().items()}
    broken = given.part(0, ROWS)
    assert broken.weights is not None
    broken.weights[3] = torch.nan
    assert not stepper(1, broken).finite
    assert all(torch.equal(before[n], v) for n, v in stepper.model.state_dict().items())
    assert stepper.updates == 1


def test_bf16_keeps_float32_masters_and_stays_close() -> None:
    exact, half = update(settings(), batch()), update(settings(precision="bf16"), batch())
    assert all(value.dtype == torch.float32 for value in half.values())
    assert float(half["loss"]) == pytest.approx(float(exact["loss"]), rel=0.02)


def test_fp16_lowers_its_factor_until_gradients_are_finite_and_remembers_it() -> None:
    made, given = settings(precision="fp16"), batch()
    stepper = Stepper(new_clip(made.shape(), 0), made, RunConfig(), ALONE)
    finite = [stepper(step, given).finite for step in range(12)]
    assert not finite[0] and finite[-1]
    assert stepper.updates == sum(finite)
    weights, moments, counters = stepper.state()
    assert counters["scaler"]["scale"] == FIRST_SCALE / 2 ** finite.count(False)
    other = Stepper(new_clip(made.shape(), 0), made, RunConfig(), ALONE)
    other.restore(weights, moments, counters)
    assert other(12, given).finite


def test_decay_is_on_matrices_only() -> None:
    made = settings(weight_decay=0.5)
    stepper = Stepper(new_clip(made.shape(), 0), made, RunConfig(), ALONE)
    decay = {id(p): g["weight_decay"] for g in stepper.optimizer.param_groups for p in g["params"]}
    for parameter in stepper.model.parameters():
        assert decay[id(parameter)] == (0.5 if parameter.ndim >= 2 else 0.0)


def test_the_state_put_back_goes_on_bit_for_bit() -> None:
    made, given = settings(), batch()
    one = Stepper(new_clip(made.shape(), 0), made, RunConfig(), ALONE)
    one(0, given)
    weights, moments, counters = one.state()
    weights = {name: value.clone() for name, value in weights.items()}
    moments = {name: value.clone() for name, value in moments.items()}
    two = Stepper(new_clip(made.shape(), 5), made, RunConfig(), ALONE)
    two.restore(weights, moments, counters)
    for step in (1, 2):
        one(step, given), two(step, given)
    for (name, ours), theirs in zip(
        one.model.state_dict().items(), two.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def _updates(folder: Path) -> None:
    """In each process of a world: an update by every loss and both ways of sharing the work."""
    MODELS["micro"] = MICRO
    with connected("cpu") as world:
        for loss in LOSSES:
            for parallel, micro in (("ddp", None), ("ddp", 3), ("fsdp", 3)):
                found = update(
                    settings(loss=loss), batch(), world, parallel=parallel, micro_batch=micro
                )
                if rank() == 0:
                    save_file(found, folder / f"{world.size}-{loss}-{parallel}-{micro}")


@pytest.mark.parametrize("size", [2, 4])
def test_n_processes_make_the_update_of_one(tmp_path: Path, size: int) -> None:
    run_world(size, _updates, tmp_path)
    made = sorted(tmp_path.iterdir())
    assert len(made) == 3 * len(LOSSES)
    for path in made:
        loss = path.name.split("-")[1]
        assert_close(load_file(path), update(settings(loss=loss), batch()))


def test_the_learning_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    made = config(steps=105, warmup_steps=5, lr=1.0)
    rates = [learning_rate(step, made) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0) and rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
