"""Residual blocks one after the other, their activations kept for the backward pass or recomputed.

Recomputing a block costs one more forward of it and frees all but its input (Chen et al. 2016).
It must not count a batch twice, so running statistics stand still meanwhile.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.models.norms import frozen_statistics


def run_blocks(blocks: Iterable[nn.Module], x: Tensor, recompute: bool) -> Tensor:
    """`x` through all blocks; with `recompute`, only what passes between them is kept."""
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            x = checkpoint(
                block,
                x,
                use_reentrant=False,
                preserve_rng_state=False,  # no block draws random numbers
                context_fn=partial(_contexts, block),
            )
        else:
            x = block(x)
    return x


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the forward, and around its repetition."""
    return nullcontext(), frozen_statistics(block)
