"""Triton kernels of CLIP's two walks: a tile of cosines into running softmaxes, then gradients.

The products stay with cuBLAS, in true float32, which no kernel of ours would outrun; what a kernel
saves is the dozen element-wise passes over the tile between them. They compute what the plain path
of `softmax` does, with masks, weights and smoothing; sigmoid and cyclic terms have that path only.
Shapes: r x c a tile, n lines (rows or columns) of m entries.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from trainer.losses.tiled import Ids

try:
    import triton
    from triton import language as tl
except ImportError:
    triton = None

_LINES, _ALONG = 16, 128
_ROWS, _COLUMNS = 32, 128


def usable(tensor: Tensor) -> bool:
    """Whether the kernels can take it: float32 on a GPU, or anywhere under Triton's interpreter."""
    there = tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    return triton is not None and there and tensor.dtype == torch.float32


def update(
    cosine_nm: Tensor,
    state: Sequence[Tensor],
    ids: Ids,
    shift: int,
    scale: Tensor,
    smooth: bool,
) -> None:
    """Include entries in `state` (`OnlineSoftmax.state`, (n,) each), in place.

    Left out are entries with an id in common and line k's entry k + shift.
    """
    lines, along = cosine_nm.shape
    with _on_device(cosine_nm):
        _update_kernel[(triton.cdiv(lines, _LINES),)](
            cosine_nm,
            *state,
            scale,
            *_pointers(ids, scale),
            lines,
            along,
            *cosine_nm.stride(),
            shift,
            NUM_IDS=len(ids),
            SMOOTH=smooth,
            LINES=_LINES,
            ALONG=_ALONG,
        )


def logit_gradients(
    cosine_rc: Tensor,
    rows: Sequence[Tensor],
    columns: Sequence[Tensor],
    ids: Ids,
    shift: int,
    scale: Tensor,
) -> None:
    """Turn cosines into gradients by their logits, in place; `rows`, `columns`: `Rates.state`."""
    num_rows, num_columns = cosine_rc.shape
    grid = (triton.cdiv(num_rows, _ROWS), triton.cdiv(num_columns, _COLUMNS))
    with _on_device(cosine_rc):
        _gradients_kernel[grid](
            cosine_rc,
            *rows,
            *columns,
            scale,
            *_pointers(ids, scale),
            num_rows,
            num_columns,
            shift,
            NUM_IDS=len(ids),
            ROWS=_ROWS,
            COLUMNS=_COLUMNS,
        )


def _on_device(tensor: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, wherever its arguments are."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _pointers(ids: Ids, unused: Tensor) -> list[Tensor]:
    pointers = [tensor for kind in ids for tensor in kind]
    return pointers + [unused] * (4 - len(pointers))


if triton is not None:
    _jit: Callable[..., Any] = triton.jit
    _kernel: Callable[..., Any] = triton.jit(do_not_specialize=["shift"])

    @_jit
    def _shared_id(
        line_ids: tl.tensor,
        along_ids: tl.tensor,
        line: tl.tensor,
        along: tl.tensor,
        lines: tl.tensor,
        length: tl.tensor,
    ) -> tl.tensor:
        line_id = tl.load(line_ids + line, mask=line < lines, other=0)
        along_id = tl.load(along_ids + along, mask=along < length, other=0)
        return line_id[:, None] == along_id[None, :]

    @_jit
    def _left_out(
        line: tl.tensor,
        along: tl.tensor,
        lines: tl.tensor,
        length: tl.tensor,
        line_a: tl.tensor,
        along_a: tl.tensor,
        line_b: tl.tensor,
        along_b: tl.tensor,
        shift: tl.tensor,
        NUM_IDS: tl.constexpr,
    ) -> tl.tensor:
        out = (along[None, :] == line[:, None] + shift) | (along[None, :] >= length)
        if NUM_IDS > 0:
            out = out | _shared_id(line_a, along_a, line, along, lines, length)
        if NUM_IDS > 1:
            out = out | _shared_id(line_b, along_b, line, along, lines, length)
        return out

    @_kernel
    def _update_kernel(
        cosine: tl.tensor,
        best_ptr: tl.tensor,
        total_ptr: tl.tensor,
        sum_ptr: tl.tensor,
        count_ptr: tl.tensor,
        scale_ptr: tl.tensor,
        line_a: tl.tensor,
        along_a: tl.tensor,
        line_b: tl.tensor,
        along_b: tl.tensor,
        lines: tl.tensor,
        length: tl.tensor,
        line_stride: tl.tensor,
        along_stride: tl.tensor,
        shift: tl.tensor,
        NUM_IDS: tl.constexpr,
        SMOOTH: tl.constexpr,
        LINES: tl.constexpr,
        ALONG: tl.constexpr,
    ) -> None:
        line = tl.program_id(0) * LINES + tl.arange(0, LINES)
        there = line < lines
        scale = tl.load(scale_ptr)
        best = tl.load(best_ptr + line, mask=there, other=0.0)
        total = tl.load(total_ptr + line, mask=there, other=0.0)
        sums = tl.load(sum_ptr + line, mask=there, other=0.0)
        counts = tl.load(count_ptr + line, mask=there, other=0.0)
        for first in range(0, length, ALONG):
            along = first + tl.arange(0, ALONG)
            place = cosine + line[:, None] * line_stride + along[None, :] * along_stride
            inside = there[:, None] & (along[None, :] < length)
            entry = tl.load(place, mask=inside, other=0.0)
            out = _left_out(
                line, along, lines, length, line_a, along_a, line_b, along_b, shift, NUM_IDS
            )
            kept = tl.where(out, float("-inf"), entry)
            better = tl.maximum(best, tl.max(kept, 1))
            total = total * tl.exp(scale * (best - better))
            total += tl.sum(tl.exp(scale * (kept - better[:, None])), 1)
            best = better
            if SMOOTH:
                sums += tl.sum(tl.where(out, 0.0, entry), 1)
                counts += tl.sum(tl.where(out, 0.0, 1.0), 1)
        tl.store(best_ptr + line, best, mask=there)
        tl.store(total_ptr + line, total, mask=there)
        if SMOOTH:
            tl.store(sum_ptr + line, sums, mask=there)
            tl.store(count_ptr + line, counts, mask=there)

    @_jit
    def _gradient(
        entry: tl.tensor, best: tl.tensor, rate: tl.tensor, flat: tl.tensor, scale: tl.tensor
    ) -> tl.tensor:
        return tl.exp(scale * (entry - best)) * rate - flat

    @_kernel
    def _gradients_kernel(
        cosine: tl.tensor,
        row_best: tl.tensor,
        row_rate: tl.tensor,
        row_flat: tl.tensor,
        column_best: tl.tensor,
        column_rate: tl.tensor,
        column_flat: tl.tensor,
        scale_ptr: tl.tensor,
        row_a: tl.tensor,
        column_a: tl.tensor,
        row_b: tl.tensor,
        column_b: tl.tensor,
        rows: tl.tensor,
        columns: tl.tensor,
        shift: tl.tensor,
        NUM_IDS: tl.constexpr,
        ROWS: tl.constexpr,
        COLUMNS: tl.constexpr,
    ) -> None:
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        in_rows, in_columns = row < rows, column < columns
        inside = in_rows[:, None] & in_columns[None, :]
        place = cosine + row[:, None] * columns + column[None, :]
        entry = tl.load(place, mask=inside, other=0.0)
        scale = tl.load(scale_ptr)
        by_row = _gradient(
            entry,
            tl.load(row_best + row, mask=in_rows, other=0.0)[:, None],
            tl.load(row_rate + row, mask=in_rows, other=0.0)[:, None],
            tl.load(row_flat + row, mask=in_rows, other=0.0)[:, None],
            scale,
        )
        by_column = _gradient(
            entry,
            tl.load(column_best + column, mask=in_columns, other=0.0)[None, :],
            tl.load(column_rate + column, mask=in_columns, other=0.0)[None, :],
            tl.load(column_flat + column, mask=in_columns, other=0.0)[None, :],
            scale,
        )
        out = _left_out(
            row, column, rows, columns, row_a, column_a, row_b, column_b, shift, NUM_IDS
        )
        tl.store(place, tl.where(out, 0.0, by_row + by_column), mask=inside)
