"""Training steps as others take them, to measure ours against: open_clip's, and a dense loss.

open_clip's is its own model and loss with the optimizer, order of work and numerics of its training
script; where it is not installed, our towers under a loss that holds the matrix of all pairs stand
in. Both are given normalised float32 pixels that lie on the device already, which flatters them.
Shapes: B pairs, S image side, L tokens, E embedding.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import TrainConfig
from trainer.models.config import ModelConfig
from trainer.models.init import new_clip
from trainer.run.step import DTYPES


def dense_loss(image_BE: Tensor, text_BE: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over a (B, B) matrix (Radford et al. 2021, figure 3)."""
    logits_BB = scale * image_BE @ text_BE.T
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.T, target_B)) / 2


class PeerStep:
    """Forward, dense loss, backward, clip, AdamW: called once per step."""

    def __init__(
        self,
        model: nn.Module,
        loss_of: Callable[[Any], Tensor],
        config: TrainConfig,
        device: torch.device,
        compiled: bool,
    ) -> None:
        self.model = model.to(device).train()
        self._call = cast(nn.Module, torch.compile(model)) if compiled else model
        self._loss_of, self._config, self._device = loss_of, config, device
        self._optimizer = _optimizer(model, config)

    def __call__(self, pixels_BCSS: Tensor, tokens_BL: Tensor) -> float | None:
        """Train on a batch; on a CPU the loss, on a GPU nothing, so as not to wait for it."""
        dtype = DTYPES[self._config.precision]
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
            loss = self._loss_of(self._call(pixels_BCSS, tokens_BL))
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), self._config.grad_clip_norm)
        self._optimizer.step()
        with torch.no_grad():
            cast(Tensor, self.model.logit_scale).clamp_(max=4.6052)
        return loss.item() if self._device.type == "cpu" else None


def open_clip_step(config: TrainConfig, device: torch.device, compiled: bool) -> PeerStep:
    """open_clip's model of the same shape under its own loss; ImportError where it is not there."""
    open_clip, shape = load_open_clip(), config.shape()
    model = open_clip.CLIP(
        embed_dim=shape.embed_dim,
        vision_cfg=_vision(shape),
        text_cfg={
            "context_length": shape.context_length,
            "vocab_size": shape.vocab_size,
            "width": shape.text_width,
            "heads": shape.text_heads,
            "layers": shape.text_layers,
        },
        quick_gelu=shape.activation == "quick_gelu",
        output_dict=True,
    )
    contrast = open_clip.ClipLoss(cache_labels=True)
    return PeerStep(model, lambda seen: contrast(**seen), config, device, compiled)


def dense_step(config: TrainConfig, device: torch.device, compiled: bool) -> PeerStep:
    """Our towers under `dense_loss`."""
    model = new_clip(config.shape(), config.seed)
    return PeerStep(model, lambda seen: dense_loss(*seen[:3]), config, device, compiled)


def load_open_clip() -> Any:
    """The peer's package; ImportError where it, or what it needs, is not installed."""
    with torchvision_without_operators():
        import open_clip
    return open_clip


@contextmanager
def torchvision_without_operators() -> Iterator[None]:
    """Import a torchvision whose compiled operators are missing, as beside a CPU build of torch.

    It registers fakes of operators that are not there; the peers need its Python parts alone.
    """
    register = torch.library.register_fake

    def skip(name: Any, *args: Any, **options: Any) -> Any:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return register(name, *args, **options)

    torch.library.register_fake = skip
    try:
        yield
    finally:
        torch.library.register_fake = register


def _vision(shape: ModelConfig) -> dict[str, Any]:
    settings = {
        "image_size": shape.image_size,
        "layers": shape.vision_layers,
        "width": shape.vision_width,
        "head_width": shape.vision_features // shape.vision_heads,
    }
    return settings if shape.is_resnet else settings | {"patch_size": shape.patch_size}


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Two groups, decay on matrices only, in the kernels that torch chooses by itself."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": config.weight_decay,
        },
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps)
