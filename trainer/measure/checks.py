"""Whether what is fast is also right on this device: its kernels, and its compiled towers.

A figure of something that computes another function is worth nothing, so these come first.
Shapes: B pairs, E embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.config import Objective, RunConfig
from trainer.losses import kernels
from trainer.losses.objectives import Pairs, contrastive_loss
from trainer.measure.losses import SCALE, unit_rows
from trainer.measure.steps import Setting, noise_batch
from trainer.models.init import new_clip
from trainer.parallel.world import World
from trainer.run.settings import torch_settings
from trainer.run.step import Stepper

PAIRS, TILE = 1_500, 512
"""Tiles off the diagonal too, and some that are not full."""
EXACT = 1e-5
"""Relative, in norm: how far float32 gradients may be from float64 ones."""
NOISE = 1.5
"""Times the distance of eager bf16 from float32 that compiled bf16 may have from it."""
OBJECTIVES = (
    Objective(),
    Objective(pos_reg=0.1, label_smoothing=0.1),
    Objective("siglip"),
    Objective("cyclip"),
)


@dataclass(frozen=True)
class Check:
    """A difference that was found, and the most that it may be."""

    name: str
    found: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within its limit."""
        return self.found <= self.limit


def losses_agree(device: torch.device) -> list[Check]:
    """Gradients of every objective in float32, by the kernels where they run, against float64."""
    by = "kernels" if kernels.usable(torch.zeros((), device=device)) else "no kernels"
    checks = []
    for objective in OBJECTIVES:
        fast, plain = (
            _loss_gradients(objective, device, kind) for kind in (torch.float32, torch.float64)
        )
        name = f"{_title(objective)}, {PAIRS:,} pairs, float32 ({by}) against float64"
        checks.append(Check(name, _distance(fast, plain), EXACT))
    return checks


def compiled_agrees(setting: Setting) -> Check:
    """The whole model's gradient: how far compiled blocks are from float32, beside eager ones."""
    exact = _gradient(replace(setting, precision="fp32", compiled=False))
    eager = _distance(_gradient(replace(setting, compiled=False)), exact)
    compiled = _distance(_gradient(replace(setting, compiled=True)), exact)
    name = f"{setting.model}, {setting.precision}, compiled, beside {eager:.1e} of eager"
    return Check(name, compiled, NOISE * eager + EXACT)


def _loss_gradients(objective: Objective, device: torch.device, kind: torch.dtype) -> Tensor:
    image_BE, text_BE = (unit_rows(PAIRS, device, seed, kind) for seed in (0, 1))
    scale = torch.tensor(SCALE, dtype=kind, device=device, requires_grad=True)
    bias = torch.tensor(-10.0, dtype=kind, device=device) if objective.loss == "siglip" else None
    texts_B = torch.arange(PAIRS, device=device) // 2 * 2 % 999
    pairs = Pairs(text_ids_B=texts_B)
    loss = contrastive_loss(image_BE, text_BE, scale, bias, objective, pairs, tile=TILE)
    return _flat(torch.autograd.grad(loss.value, (image_BE, text_BE, scale)))


def _gradient(setting: Setting) -> Tensor:
    """What one step leaves in the parameters' gradients, clipped, as one vector."""
    torch.compiler.reset()
    config = setting.config
    run = RunConfig(device=str(setting.device), compile=setting.compiled)
    model = new_clip(config.shape(), config.seed)
    stepper = Stepper(model, config, run, World(0, 1, setting.device))
    with torch_settings(run, config.precision, setting.device):
        stepper(0, noise_batch(config, setting.text_length, setting.device))
    return _flat([each.grad for each in stepper.model.parameters() if each.grad is not None])


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def _distance(found: Tensor, right: Tensor) -> float:
    return float((found - right).norm() / right.norm())


def _title(objective: Objective) -> str:
    extra = {"lambda": objective.pos_reg, "smoothing": objective.label_smoothing}
    return " ".join(
        [objective.loss, *(f"{name} {value:g}" for name, value in extra.items() if value)]
    )
