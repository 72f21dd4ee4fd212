"""The four exchanges between processes that a loss needs; a group of None is one process alone.

Every process must call them in the same order with equal shapes.
Shapes: b rows of one process, B = b * processes rows of all, in the order of ranks.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

Group = Any
"""A torch.distributed process group, or None."""

# torch 2.13 renamed both; 2.11 knows the old names only.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def processes(group: Group) -> int:
    """How many processes there are."""
    return 1 if group is None else dist.get_world_size(group)


def own_rank(group: Group) -> int:
    """The rank of this process, from 0."""
    return 0 if group is None else dist.get_rank(group)


def gathered(rows_b: Tensor, group: Group) -> Tensor:
    """The rows (b, ...) of all processes, (B, ...)."""
    if group is None:
        return rows_b
    rows_B = rows_b.new_empty(len(rows_b) * processes(group), *rows_b.shape[1:])
    _all_gather(rows_B, rows_b.contiguous(), group=group)
    return rows_B


def scattered_sum(rows_B: Tensor, group: Group) -> Tensor:
    """This process's rows (b, ...) of the sum of all processes' (B, ...)."""
    if group is None:
        return rows_B
    rows_b = rows_B.new_empty(len(rows_B) // processes(group), *rows_B.shape[1:])
    _reduce_scatter(rows_b, rows_B, group=group)
    return rows_b


def summed(values: Tensor, group: Group) -> Tensor:
    """The sum over processes, in place; every process gets the same bits."""
    if group is not None:
        dist.all_reduce(values, group=group)
    return values


def largest(values: Tensor, group: Group) -> Tensor:
    """The maximum over processes, in place; NaN wins where all processes have it."""
    if group is not None:
        dist.all_reduce(values, torch.distributed.ReduceOp.MAX, group=group)
    return values
