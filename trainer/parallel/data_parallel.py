"""A model on several processes: replicated (DDP) or sharded (FSDP2), behind four functions.

`wrap` wraps it, `accumulating` holds back communication, `full_tensor` and `copy_into` convert
between a process's shards and whole tensors, so that a checkpoint does not depend on how the run
was parallelised. Gradients of parameters are means over processes, as DDP has them.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.config import Precision, RunConfig
from trainer.errors import ConfigError
from trainer.models.clip import CLIP
from trainer.parallel.world import World


def wrap(model: CLIP, run: RunConfig, world: World, precision: Precision) -> nn.Module:
    """The module to call in training: the model itself where there is one process."""
    if world.group is None:
        return model
    if run.parallel == "fsdp" and precision == "fp16":
        raise ConfigError("precision: fp16 needs parallel ddp; use bf16 with fsdp")
    if run.parallel == "ddp":
        return _replicated(model, run, world)
    mesh = init_device_mesh(world.device.type, (world.size,))
    # Parameters travel in float32 and autocast rounds them where DDP's would be: one arithmetic,
    # however a run is parallelised.
    for block in model.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(_scalars(model)))
    return model


def _replicated(model: CLIP, run: RunConfig, world: World) -> nn.Module:
    devices = [world.device] if world.device.type == "cuda" else None
    # After its first step DDP regroups gradients into buckets, unless it looks for unused
    # parameters. The buckets decide in which order the gradients of more than two processes are
    # summed: a resumed run's first step would round unlike that of a run that never stopped.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    return DistributedDataParallel(
        model, devices, process_group=world.group, find_unused_parameters=run.deterministic
    )


@contextmanager
def accumulating(module: nn.Module, *, last: bool) -> Iterator[None]:
    """Backward passes inside accumulate gradients; processes exchange them only in the `last`."""
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
        return
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    yield


def average_scalars(module: nn.Module, world: World) -> None:
    """The mean over processes of gradients that FSDP2, which cannot split scalars, left alone."""
    if isinstance(module, FSDPModule):
        for scalar in _scalars(module):
            if scalar.grad is not None:
                dist.all_reduce(scalar.grad, group=world.group)
                scalar.grad /= world.size


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or the whole of a sharded one on the CPU; every process must call this."""
    tensor = tensor.detach()
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(target: Tensor, value: Tensor) -> None:
    """Fill a tensor, whole or sharded, from a whole one that every process has."""
    target.copy_(placed_like(target, value))


def placed_like(target: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, placed and sharded as `target` is."""
    value = value.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    return value


def local_tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This process's shard of each, sharing memory with it."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def total_norm(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together, the same on every process."""
    split = [each for each in tensors if isinstance(each, DTensor)]
    plain = [each for each in tensors if not isinstance(each, DTensor)]
    norms = [nn.utils.get_total_norm(group) for group in (split, plain) if group]
    parts = [tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for tensor in norms]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return norm


def _scalars(module: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.ndim == 0)
