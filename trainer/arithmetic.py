"""How torch computes: threads, deterministic kernels, products of float32 in float32.

All of it is global to a process, so it is changed for a while and put back.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.backends import cuda, cudnn, mkldnn

from trainer.config import Precision, RunConfig

_LIBRARIES: tuple[Any, ...] = (cuda.matmul, mkldnn.matmul)  # type: ignore[attr-defined]


@contextmanager
def exact_products() -> Iterator[None]:
    """Products and convolutions of float32 in float32, whatever else may be allowed (TF32)."""
    before = [library.fp32_precision for library in _LIBRARIES]
    convolutions = cudnn.allow_tf32
    try:
        for library in _LIBRARIES:
            library.fp32_precision = "ieee"
        cudnn.allow_tf32 = False
        yield
    finally:
        cudnn.allow_tf32 = convolutions
        for library, precision in zip(_LIBRARIES, before, strict=True):
            library.fp32_precision = precision


@contextmanager
def as_in_a_run(run: RunConfig, precision: Precision, device: torch.device) -> Iterator[None]:
    """Threads, determinism and exactness of a training run, for as long as it lasts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    mode, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    if run.deterministic:
        # Some CUDA kernels have no deterministic form in every release of torch: only warn there.
        torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "warn")
    memory.fill_uninitialized_memory = False
    torch.set_num_threads(run.num_threads or threads)
    try:
        with exact_products() if precision == "fp32" else nullcontext():
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill
        torch.set_num_threads(threads)
