"""Worker processes that fetch chunks: torch's DataLoader with spans of sample numbers for indices.

A worker starts from plain values, opens shards as it needs them, and returns an error for people
as a value, so that it arrives unchanged.
"""

import signal
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.dataset.errors import UserError
from trainer.data.chunks import Chunk, Chunks

Span = tuple[int, int]
"""Numbers of a chunk's first sample and of the one after its last."""


class _Spans(Dataset[Chunk | UserError]):
    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def __getitem__(self, span: Span) -> Chunk | UserError:
        try:
            chunk = self._chunks.fetch(*span)
        except UserError as error:
            return error
        # Tensors travel by shared memory, at a file handle each: only the large one is a tensor.
        return {**chunk, "pixels": torch.from_numpy(chunk["pixels"])}


def by_workers(
    chunks: Chunks, spans: Iterator[Span], num_workers: int, ahead: int
) -> Generator[Chunk]:
    """The chunks of the spans, in order; about twice `ahead` of them are prepared at a time.

    `chunks` must not have been used yet. The workers end with the generator.
    """
    loader = DataLoader(
        _Spans(chunks),
        batch_size=None,
        collate_fn=_as_it_is,
        sampler=spans,
        num_workers=num_workers,
        prefetch_factor=max(2, -(-2 * ahead // num_workers)),
        multiprocessing_context="spawn",
        generator=torch.Generator(),  # else it draws from the process's own
        worker_init_fn=_leave_signals_to_the_parent,
    )
    try:
        for chunk in loader:
            if isinstance(chunk, UserError):
                raise chunk
            yield {**chunk, "pixels": chunk["pixels"].numpy()}
    except (RuntimeError, EOFError, OSError) as error:
        raised_inside = str(error).startswith("Caught ")  # it has the worker's own traceback
        if raised_inside or (isinstance(error, RuntimeError) and "worker (pid" not in str(error)):
            raise
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        raise UserError(
            f"a DataLoader worker died ({reason}); if memory, /dev/shm or open files run out, use "
            "fewer num_workers"
        ) from error


def _as_it_is(chunk: Any) -> Any:
    return chunk


def _leave_signals_to_the_parent(worker: int) -> None:
    """A signal to the whole process group is for the parent, which saves and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
