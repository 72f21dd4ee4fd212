"""Batches of a run by step number, prepared ahead by threads of this process or by workers.

The unit of work is a chunk of a rank's slice of a step, a pure function of its sample numbers, so
batches do not depend on which thread or process prepares them.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from queue import Full, Queue
from tempfile import TemporaryDirectory
from threading import Event, Thread

from pipeline.dataset.manifest import digest_of
from pipeline.dataset.read.shards import PairDataset
from trainer.config import TrainConfig
from trainer.data.batch import Batch
from trainer.data.chunks import Chunk, Chunks, join
from trainer.data.order import Mask
from trainer.data.sources import Source, open_source
from trainer.data.workers import Span, by_workers
from trainer.errors import ConfigError

__all__ = ["Batch", "Loader", "Source"]

LARGEST_CHUNK = 128
MAX_THREADS = 16
POLL_S = 0.1


class Loader:
    """A rank's batches of a run. `content` is a digest of all that decides which pairs come."""

    def __init__(
        self,
        sources: Sequence[Source],
        config: TrainConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
        index_folder: Path | None = None,
    ) -> None:
        """Raise DatasetError on a source with missing files, ConfigError on an uneven split.

        Indexes of subsets and of foreign datasets are kept in `index_folder`, for later runs too.
        """
        if config.batch_size % world_size:
            raise ConfigError(
                f"batch_size: {config.batch_size} is not divisible by {world_size} processes"
            )
        self._config, self._rank, self._size = config, rank, config.batch_size // world_size
        self._num_workers, self._pin_memory = num_workers, pin_memory
        self._temporary = None if index_folder else TemporaryDirectory(prefix="openwit-index-")
        folder = index_folder or Path(self._temporary.name if self._temporary else "")
        self._datasets = [open_source(source, folder) for source in sources]
        self._weights = [source.weight for source in sources]
        self.content = _content(self._datasets, self._weights)
        self.num_rows = sum(sum(dataset.sizes) for dataset in self._datasets)
        self._chunks = self._new_chunks()

    def batch(self, step: int) -> Batch:
        """Everything that the rank needs for step `step`."""
        return join([self._chunks.fetch(*span) for span in self._spans(step, step + 1)])

    def batches(self, first: int, last: int) -> Generator[Batch]:
        """Batches of steps `first` to `last` - 1; the next is prepared while one is used."""
        spans = self._spans(first, last)
        if self._num_workers:
            ahead = self._num_parts()
            chunks = by_workers(self._new_chunks(), spans, self._num_workers, ahead)
        else:
            chunks = self._by_threads(spans)
        return _ahead(self._joined(chunks))

    def drawn(self, steps: int) -> list[Mask]:
        """For each source, which of its rows the first `steps` steps asked for, over all ranks."""
        return self._chunks.mixture.seen(steps * self._config.batch_size)

    def verify(self) -> None:
        """Read every file of every source; DatasetError names the first that is damaged."""
        for dataset in self._datasets:
            dataset.verify()

    def _new_chunks(self) -> Chunks:
        return Chunks(self._datasets, self._weights, self._config)

    def _num_parts(self) -> int:
        """Chunks per batch: small ones, so that no thread or worker is idle."""
        workers = self._num_workers or _num_threads()
        return -(-self._size // min(LARGEST_CHUNK, -(-self._size // workers)))

    def _spans(self, first: int, last: int) -> Iterator[Span]:
        """The sample numbers of each chunk of the rank's slices of these steps."""
        for step in range(first, last):
            start = step * self._config.batch_size + self._rank * self._size
            parts = self._num_parts()
            ends = [start + self._size * part // parts for part in range(parts + 1)]
            yield from pairwise(ends)

    def _joined(self, chunks: Generator[Chunk]) -> Generator[Batch]:
        group = []
        try:
            for chunk in chunks:
                group.append(chunk)
                if len(group) == self._num_parts():
                    batch = join(group)
                    yield batch.pinned() if self._pin_memory else batch
                    group = []
        finally:
            chunks.close()

    def _by_threads(self, spans: Iterator[Span]) -> Generator[Chunk]:
        pool = ThreadPoolExecutor(_num_threads())
        pending: deque[Future[Chunk]] = deque()
        try:
            for span in spans:
                pending.append(pool.submit(self._chunks.fetch, *span))
                if len(pending) > self._num_parts():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _content(datasets: Sequence[PairDataset], weights: Sequence[float]) -> str:
    """A single dataset's own digest, else one of all digests and their shares."""
    if len(datasets) == 1:
        return datasets[0].content
    shares = [weight / sum(weights) for weight in weights]
    contents = [dataset.content for dataset in datasets]
    return digest_of(
        [f"{content} {share!r}" for content, share in zip(contents, shares, strict=True)]
    )


def _ahead(batches: Generator[Batch]) -> Generator[Batch]:
    """The same batches, the next one prepared by a thread that ends with the generator."""
    ready: Queue[Batch | BaseException | None] = Queue(maxsize=1)
    stop = Event()

    def hand(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(Full):
                return ready.put(item, timeout=POLL_S)

    def run() -> None:
        try:
            for batch in batches:
                hand(batch)
                if stop.is_set():
                    break
            hand(None)
        except BaseException as error:
            hand(error)
        finally:
            batches.close()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _num_threads() -> int:
    return min(MAX_THREADS, os.cpu_count() or 1)
