"""Products of float32 in float32: a switch of torch's, global to a process, that is put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.backends import cuda, cudnn, mkldnn

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
