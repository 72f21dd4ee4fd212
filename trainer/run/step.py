"""One optimizer step: forward, contrast, backward, clip, guard, update.

The batch is contrasted whole, whatever goes through the towers at once: with a smaller micro-batch
embeddings are computed without a graph, the loss is differentiated with respect to them, and the
towers are run again, one micro-batch at a time, to carry that gradient on (gradient caching, Gao et
al. 2021). Nothing in the towers draws at random, so the second run repeats the first. The learning
rate is a pure function of the step.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import Precision, RunConfig, TrainConfig
from trainer.data import augment
from trainer.data.batch import Batch
from trainer.losses.objectives import LossOutput, Pairs, contrastive_loss
from trainer.models.clip import CLIP, Embeddings
from trainer.parallel import data_parallel
from trainer.parallel.world import World
from trainer.run.metrics import Metrics, geometry

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
LENGTHS = 64
"""Most variants of one compiled block: one per length of text, and a batch is as long as its
longest text."""
FIRST_SCALE = 1024.0
"""Initial factor on the loss under fp16; the scaler raises it where there is room."""


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


@dataclass(frozen=True)
class Outcome:
    """One step: whether loss and gradient were finite (else nothing changed), and its metrics."""

    finite: bool
    loss: float
    metrics: Callable[[], Metrics]
    """Computes them on demand: the geometry costs a little, and most steps log nothing."""


class Stepper:
    """A model and its optimizer, moved one batch at a time."""

    def __init__(self, model: CLIP, config: TrainConfig, run: RunConfig, world: World) -> None:
        self.model = model.to(world.device).train()
        self.config, self.world = config, world
        self.updates = 0
        self._micro = run.micro_batch or world.share(config.batch_size)
        model.checkpoint_blocks(run.grad_checkpointing)
        if run.compile:
            torch._dynamo.config.recompile_limit = LENGTHS
            for block in model.blocks():
                block.compile(dynamic=False)
        self._module = data_parallel.wrap(self.model, run, world, config.precision)
        self.optimizer = new_optimizer(self.model, config)
        self._scaler = torch.amp.GradScaler(
            world.device.type, init_scale=FIRST_SCALE, enabled=config.precision == "fp16"
        )

    def __call__(self, step: int, batch: Batch) -> Outcome:
        """Train on this process's rows of step `step` (from 0)."""
        rate = learning_rate(step, self.config)
        self.optimizer.zero_grad()
        statistics = {name: each.clone() for name, each in self.model.named_buffers()}
        loss, seen = self._gradients(batch.to(self.world.device))
        data_parallel.average_scalars(self._module, self.world)
        norm = self._clip()
        finite = bool(torch.isfinite(loss.value.detach() + norm))
        self._update(rate, finite)
        if not finite:  # the forward pass has moved them already
            for name, each in self.model.named_buffers():
                each.copy_(statistics[name])
        return Outcome(
            finite,
            float(loss.value.detach()),
            lambda: self._metrics(step + 1, loss, seen, norm, rate),
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """Weights, moments by parameter name, and counters as JSON; whole, and not copied."""
        weights = {
            name: data_parallel.full_tensor(each) for name, each in self.model.state_dict().items()
        }
        counters = {"updates": self.updates, "scaler": self._scaler.state_dict()}
        return weights, self._moments(), counters

    def restore(
        self,
        weights: Mapping[str, Tensor],
        moments: Mapping[str, Tensor],
        counters: Mapping[str, Any],
    ) -> None:
        """Put back what `state` gave, in place."""
        for name, target in self.model.state_dict().items():
            data_parallel.copy_into(target, weights[name])
        self.updates = counters["updates"]
        if counters["scaler"]:
            self._scaler.load_state_dict(dict(counters["scaler"]))
        self.optimizer.state.clear()
        for name, parameter in self.model.named_parameters():
            if f"first.{name}" in moments:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.updates), device=parameter.device),
                    "exp_avg": data_parallel.placed_like(parameter, moments[f"first.{name}"]),
                    "exp_avg_sq": data_parallel.placed_like(parameter, moments[f"second.{name}"]),
                }

    def _moments(self) -> dict[str, Tensor]:
        out = {}
        for name, parameter in self.model.named_parameters():
            if state := self.optimizer.state.get(parameter):
                out[f"first.{name}"] = data_parallel.full_tensor(state["exp_avg"])
                out[f"second.{name}"] = data_parallel.full_tensor(state["exp_avg_sq"])
        return out

    def _gradients(self, batch: Batch) -> tuple[LossOutput, Embeddings]:
        rows = len(batch.tokens)
        if self._micro >= rows:
            seen = self._embed(self._module, batch)
            loss = self._contrast(seen, batch)
            self._backward(loss.value)
            return loss, seen
        parts = [batch.part(at, at + self._micro) for at in range(0, rows, self._micro)]
        return self._cached_gradients(batch, parts)

    def _cached_gradients(self, batch: Batch, parts: list[Batch]) -> tuple[LossOutput, Embeddings]:
        with torch.no_grad(), self.model.frozen_statistics():
            done = [self._embed(self.model, part) for part in parts]
        leaves = _leaves(done)
        loss = self._contrast(leaves, batch)
        wanted = [leaf for leaf in leaves if leaf is not None]
        image_BE, text_BE, *scalars = torch.autograd.grad(loss.value, wanted)
        by_rows = zip(
            torch.split(image_BE, self._micro), torch.split(text_BE, self._micro), strict=True
        )
        for number, (part, (image_mE, text_mE)) in enumerate(zip(parts, by_rows, strict=True), 1):
            last = number == len(parts)
            with data_parallel.accumulating(self._module, last=last):
                seen = self._embed(self._module, part)
                pulled = (seen.image * image_mE).sum() + (seen.text * text_mE).sum()
                if last:  # the temperature acts once, not once a micro-batch
                    acting = [each for each in seen[2:] if each is not None]
                    pulled += sum(a * by_a for a, by_a in zip(acting, scalars, strict=True))
                self._backward(pulled)
        return loss, leaves

    def _embed(self, module: nn.Module, batch: Batch) -> Embeddings:
        pixels_BCSS = augment.prepare(batch, self.config)
        with self._autocast():
            seen: Embeddings = module(pixels_BCSS, batch.tokens, batch.kept)
        return seen

    def _contrast(self, seen: Embeddings, batch: Batch) -> LossOutput:
        pairs = Pairs(batch.image_ids, batch.text_ids, batch.weights)
        return contrastive_loss(*seen, self.config, pairs, group=self.world.group)

    def _backward(self, value: Tensor) -> None:
        """Gradients are averaged over processes, but each is a share of a sum: times their number.

        With fp16 the scaler's factor keeps small gradients from vanishing.
        """
        torch.autograd.backward(self._scaler.scale(value * self.world.size))

    def _autocast(self) -> AbstractContextManager[None]:
        dtype = DTYPES[self.config.precision]
        return torch.autocast(self.world.device.type, dtype, enabled=dtype != torch.float32)

    def _clip(self) -> Tensor:
        """Bring the whole gradient's norm to the limit; the norm before that."""
        self._scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = data_parallel.total_norm(gradients)
        if self.config.grad_clip_norm:
            factor = (self.config.grad_clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(data_parallel.local_tensors(gradients), factor)
        return norm

    def _update(self, rate: float, finite: bool) -> None:
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._scaler.step(self.optimizer)
            self.model.clamp_logit_scale()
            self.updates += 1
        self._scaler.update()

    def _metrics(
        self, step: int, loss: LossOutput, seen: Embeddings, norm: Tensor, rate: float
    ) -> Metrics:
        shape = geometry(seen.image, seen.text)
        first = (loss.value, seen.scale, loss.positive_cosine, loss.margin, norm)
        values = torch.stack([*(each.detach().float() for each in first), *shape]).tolist()
        value, scale, positive, margin, length, alignment, uniformity, gap = values
        return Metrics(
            step=step,
            loss=value,
            logit_scale=scale,
            logit_bias=None if seen.bias is None else float(seen.bias.detach()),
            positive_cosine=positive,
            margin=margin,
            grad_norm=length,
            learning_rate=rate,
            alignment=alignment,
            uniformity=uniformity,
            modality_gap=gap,
        )


def _leaves(parts: list[Embeddings]) -> Embeddings:
    """Embeddings of all micro-batches as leaves that gradients can be asked for."""
    bias = parts[0].bias
    return Embeddings(
        torch.cat([part.image for part in parts]).requires_grad_(),
        torch.cat([part.text for part in parts]).requires_grad_(),
        parts[0].scale.detach().clone().requires_grad_(),
        None if bias is None else bias.detach().clone().requires_grad_(),
    )
