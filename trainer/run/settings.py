"""Torch as a run sets it up: threads, deterministic kernels, exact products.

All of it is global to a process, so it is changed for the run and restored after it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from trainer.arithmetic import exact_products
from trainer.config import Precision, RunConfig


@contextmanager
def torch_settings(run: RunConfig, precision: Precision, device: torch.device) -> Iterator[None]:
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
