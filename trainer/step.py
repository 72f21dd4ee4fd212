"""One optimizer step: forward, backward, clip, guard, update.

The learning rate is a pure function of the step's number. A step whose loss or gradient is not
finite changes nothing and is counted. Knows no dataset and no files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainer import images
from trainer.config import TrainConfig
from trainer.loader import Batch
from trainer.losses import clip_loss
from trainer.models.clip import CLIP


@dataclass(frozen=True)
class Metrics:
    """What one step saw, before its update; nothing here depends on the clock."""

    step: int
    """Steps done, this one included."""
    loss: float
    logit_scale: float
    """The factor on cosines, at most 100."""
    positive_cosine: float
    margin: float
    """Mean cosine of the own text less that of the best other text in the batch."""
    grad_norm: float
    learning_rate: float


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to `lr`, then a half cosine to 0; `step` counts from 0."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * (1 + math.cos(math.pi * done)) / 2


def new_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: gains, biases and the temperature are left alone."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


def moments(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Adam's two moments by parameter name; empty before the first update."""
    out = {}
    for name, parameter in model.named_parameters():
        if state := optimizer.state.get(parameter):
            out[f"first.{name}"] = state["exp_avg"].cpu()
            out[f"second.{name}"] = state["exp_avg_sq"].cpu()
    return out


def restore_moments(
    model: nn.Module, optimizer: torch.optim.AdamW, saved: Mapping[str, Tensor], updates: int
) -> None:
    """Put back what `moments` gave after `updates` updates."""
    for name, parameter in model.named_parameters():
        if f"first.{name}" in saved:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(updates), device=parameter.device),
                "exp_avg": saved[f"first.{name}"].to(parameter.device),
                "exp_avg_sq": saved[f"second.{name}"].to(parameter.device),
            }


class Stepper:
    """A model and its optimizer, moved one batch at a time; counts updates and refusals."""

    def __init__(self, model: CLIP, config: TrainConfig, device: torch.device) -> None:
        self.model = model.to(device)
        self.config, self.device = config, device
        self.optimizer = new_optimizer(self.model, config)
        self.updates = 0
        self.refused = 0
        self.refused_in_a_row = 0

    def __call__(self, step: int, batch: Batch) -> Metrics:
        """Train on the batch of step `step` (from 0)."""
        rate = learning_rate(step, self.config)
        pixels_BCSS, tokens_BL = self._inputs(batch)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            image_BE, text_BE, scale = self.model(pixels_BCSS, tokens_BL)
        loss = clip_loss(image_BE, text_BE, scale, self.config.pos_reg)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss.value)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_norm)
        self._update(rate, finite=bool(torch.isfinite(loss.value + norm)))
        readings = (loss.value, scale, loss.positive_cosine, loss.margin, norm)
        values = torch.stack([reading.detach().float() for reading in readings]).tolist()
        value, factor, positive, margin, length = values
        return Metrics(step + 1, value, factor, positive, margin, length, rate)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pixels, draws = self._to_device(batch.pixels), self._to_device(batch.draws)
        config = self.config
        if config.crop_scale_min < 1 or config.flip:
            pixels = images.random_crop(
                pixels,
                draws[:, :4],
                side=self.model.config.image_size,
                scale_min=config.crop_scale_min,
                flip=config.flip,
            )
        if config.colour_jitter:
            pixels = images.colour_jitter(pixels, draws[:, 4:7], config.colour_jitter)
        return images.normalise(pixels), self._to_device(batch.tokens)

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _update(self, rate: float, finite: bool) -> None:
        if not finite:
            self.refused += 1
            self.refused_in_a_row += 1
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.model.clamp_logit_scale()
        self.updates += 1
        self.refused_in_a_row = 0
