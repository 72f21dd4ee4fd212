"""The two normalisations, exact in low precision and, for batches, without side effects on demand.

Both compute in float32 whatever their input and parameters are stored in, and return in the
input's dtype.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in float32; nothing is copied where all is float32 already."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that can leave its running statistics alone while it trains."""

    frozen = False
    """Whether a forward in training leaves the buffers as they are (`frozen_statistics`)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W): by the batch's statistics in training, else the running."""
        weight, bias = self.weight.float(), self.bias.float()
        mean, variance, momentum = self.running_mean, self.running_var, self.momentum or 0.0
        assert mean is not None and variance is not None and self.num_batches_tracked is not None
        if self.training and self.frozen:
            mean, variance = mean.clone(), variance.clone()  # the operator updates what it is given
        elif self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(x_BCHW, mean, variance, weight, bias, self.training, momentum, self.eps)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Forwards inside use the batch's statistics in training and change no buffer of `module`."""
    norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm)]
    before = [norm.frozen for norm in norms]
    for norm in norms:
        norm.frozen = True
    try:
        yield
    finally:
        for norm, frozen in zip(norms, before, strict=True):
            norm.frozen = frozen
