"""Batches by step number: rows from the keyed order, pixels, token ids and draws for each.

A row whose image does not decode is replaced by the next row that does, the same one every time,
and is reported; nothing shifts. Small datasets keep their decoded thumbnails in memory.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer import images, order
from trainer.config import TrainConfig
from trainer.data import Dataset
from trainer.errors import DatasetError
from trainer.models.config import model_config
from trainer.tokenizer import pad

CACHE_BYTES = 1 << 30
NUM_DRAWS = 7

UNKNOWN, GOOD, BAD = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """B samples of one step. `rows` are those used, `bad` those that had to be replaced."""

    rows: npt.NDArray[np.int64]
    bad: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    """(B, S, S, 3), S being `thumbnail_side`."""
    tokens: npt.NDArray[np.int64]
    """(B, L), zeros behind the end marker."""
    draws: npt.NDArray[np.float32]
    """(B, 4) uniform numbers for augmentation, keyed by (seed, epoch, uid)."""


def thumbnail_side(config: TrainConfig) -> int:
    """Side of the squares that batches hold: a little over the tower's where crops are drawn."""
    side = model_config(config.model).image_size
    return side if config.crop_scale_min == 1 else side * 8 // 7


class Loader:
    """Batches of a dataset under a configuration, each a pure function of its step's number."""

    def __init__(
        self, dataset: Dataset, config: TrainConfig, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.dataset, self.config = dataset, config
        self.context_length = model_config(config.model).context_length
        self.side = thumbnail_side(config)
        self._state = np.zeros(len(dataset), np.uint8)
        shape = (len(dataset), self.side, self.side, 3)
        fits = int(np.prod(shape)) <= cache_bytes
        self._cache = np.empty(shape, np.uint8) if fits else None

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """The rows that step `step` asks for, shape (B,), before bad ones are replaced."""
        samples = self._samples(step)
        return order.sample_rows(self.dataset.content, self.config.seed, samples, len(self.dataset))

    def batch(self, step: int) -> Batch:
        """Everything that step `step` needs."""
        with ThreadPoolExecutor(_num_decoders()) as pool:
            return self._batch(step, pool)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of steps `first` to `last` - 1; the next is prepared while one is used."""
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(_num_decoders()) as pool:
            following = ahead.submit(self._batch, first, pool) if first < last else None
            for step in range(first, last):
                assert following is not None
                batch = following.result()
                following = ahead.submit(self._batch, step + 1, pool) if step + 1 < last else None
                yield batch

    def _samples(self, step: int) -> npt.NDArray[np.int64]:
        size = self.config.batch_size
        return np.arange(step * size, (step + 1) * size, dtype=np.int64)

    def _batch(self, step: int, pool: ThreadPoolExecutor) -> Batch:
        asked = self.rows(step)
        found = list(pool.map(self._nearest, asked.tolist()))
        rows = np.array([row for row, _ in found], np.int64)
        tokens = [self.dataset.tokens(row, self.context_length) for row in rows.tolist()]
        epochs = self._samples(step) // len(self.dataset)
        words = order.keyed_draws(self.config.seed, epochs, self.dataset.uids[rows], NUM_DRAWS)
        pixels = np.stack([square for _, square in found])
        return Batch(rows, asked[rows != asked], pixels, pad(tokens), order.uniform(words))

    def _nearest(self, asked: int) -> tuple[int, images.Pixels]:
        """The row itself, or the first one after it whose image decodes, and its pixels."""
        for step in range(len(self.dataset)):
            row = (asked + step) % len(self.dataset)
            pixels = self._pixels(row)
            if pixels is not None:
                return row, pixels
        raise DatasetError(
            "no image of the dataset can be decoded; look at its `why` and verify it"
        )

    def _pixels(self, row: int) -> images.Pixels | None:
        if self._state[row] == BAD:
            return None
        if self._cache is not None and self._state[row] == GOOD:
            cached: images.Pixels = self._cache[row]
            return cached
        try:
            pixels = images.square(self.dataset.image(row), self.side)
        except images.BadImage:
            self._state[row] = BAD
            return None
        if self._cache is not None:
            self._cache[row] = pixels
            self._state[row] = GOOD
        return pixels


def _num_decoders() -> int:
    return min(16, os.cpu_count() or 1)
