"""One chunk of a training batch as a pure function of its sample numbers: decode, crop, draws.

This is all that workers do; ranks, threads and processes only choose the sample numbers.
Shapes: b samples, C side of the canvas, K patches kept, L tokens.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.read.shards import Columns, PairDataset, Shard, ShardCache, leading_word
from pipeline.dataset.tokens import Ids
from pipeline.dataset.uid import Ints, Words, keyed_draws, uniform
from trainer.config import TrainConfig
from trainer.data import images, order
from trainer.data.batch import TOKEN_MULTIPLE, Batch, canvas_side
from trainer.text.tokenizer import encode_batch

NUM_DRAWS = 7
OPEN_WINDOWS = 2

Chunk = dict[str, Any]
"""The fields of a Batch as arrays."""


def join(chunks: Sequence[Chunk]) -> Batch:
    """Chunks in order as one batch; tokens as wide as the widest."""
    width = max(chunk["tokens"].shape[1] for chunk in chunks)
    joined: Chunk = {"bad": tuple(uid for chunk in chunks for uid in chunk["bad"])}
    for name in chunks[0].keys() - joined.keys():
        arrays = [chunk[name] for chunk in chunks]
        if name == "tokens":
            arrays = [np.pad(ids, ((0, 0), (0, width - ids.shape[1]))) for ids in arrays]
        whole = arrays[0] if len(arrays) == 1 or arrays[0] is None else np.concatenate(arrays)
        joined[name] = None if whole is None else torch.from_numpy(whole)
    return Batch(**joined)


class DecodedPair(NamedTuple):
    """A sample whose picture decodes: where it is, its draws and the side of its crop."""

    shard: Shard
    row: int
    draws: npt.NDArray[np.float32]
    side: int


class Chunks:
    """Chunks of a run over datasets taken by weight. It can be pickled until it is first used."""

    def __init__(
        self, datasets: Sequence[PairDataset], weights: Sequence[float], config: TrainConfig
    ) -> None:
        self.datasets, self.weights, self.config = datasets, weights, config
        shape = config.shape()
        self._side, self._context_length = shape.image_size, shape.context_length
        self._num_patches = 0
        if config.patch_dropout:
            assert shape.patch_size is not None
            self._num_patches = (shape.image_size // shape.patch_size) ** 2

    @cached_property
    def mixture(self) -> order.Mixture:
        """The order of all samples."""
        seed, window = self.config.seed, self.config.shuffle_shards
        orders = [order.Order(data.content, seed, data.sizes, window) for data in self.datasets]
        return order.Mixture(orders, self.weights, seed)

    @cached_property
    def shards(self) -> ShardCache:
        """The open shards."""
        columns = Columns(sha256=self.config.mask_duplicates, weight=self.config.weighted)
        return ShardCache(self.datasets, OPEN_WINDOWS * self.config.shuffle_shards, columns)

    def fetch(self, first: int, end: int) -> Chunk:
        """The samples `first` to `end` - 1; DatasetError if a file of theirs is damaged."""
        places = self.mixture.locate(np.arange(first, end))
        canvas = canvas_side(self._side)
        pixels = np.zeros((end - first, canvas, canvas, 3), np.uint8)
        pairs, bad = self._pairs(places, pixels)
        draws = np.stack([pair.draws for pair in pairs])
        uids = np.stack([pair.shard.uids[pair.row] for pair in pairs])
        ids = _token_ids(pairs, self._context_length)
        mask = self.config.mask_duplicates
        return {
            "pixels": pixels,
            "sides": np.array([pair.side for pair in pairs]),
            "mirror": (draws[:, 3] < 0.5) & self.config.flip,
            "jitter": draws[:, 4:7],
            "kept": self._kept(places.epoch, uids),
            "tokens": _padded(ids, self._context_length),
            "uids": uids.view(np.int64),
            "image_ids": np.array([_image_id(pair) for pair in pairs]) if mask else None,
            "text_ids": np.array([_hash(row.tobytes()) for row in ids]) if mask else None,
            "weights": _weights(pairs) if self.config.weighted else None,
            "bad": tuple(bad),
        }

    def _pairs(
        self, places: order.Places, pixels: images.Pixels
    ) -> tuple[list[DecodedPair], list[str]]:
        """A pair that decodes for each place, its crop in `pixels`; the uids of those that do not.

        Each crop is copied at once, so that one decoded picture's memory serves the next.
        """
        columns = (places.source, places.shard, places.row)
        at = list(zip(*(column.tolist() for column in columns), strict=True))
        shards = [self.shards.get(source, shard) for source, shard, _ in at]
        uids = np.stack([shard.uids[row] for shard, (_, _, row) in zip(shards, at, strict=True)])
        draws = self._draws(places.epoch, uids)
        pairs, bad = [], []
        for index, (source, first, row) in enumerate(at):
            pair = self._decoded(shards[index], row, draws[index], pixels[index])
            if pair is None:
                bad.append("{:016x}{:016x}".format(*uids[index].tolist()))
                pair = self._neighbour((source, first, row), places.epoch[index], pixels[index])
            pairs.append(pair)
        return pairs, bad

    def _draws(self, epochs: Ints, uids: Words) -> npt.NDArray[np.float32]:
        words = keyed_draws("augment", self.config.seed, epochs, uids, NUM_DRAWS)
        return uniform(words)

    def _decoded(
        self, shard: Shard, row: int, draws: npt.NDArray[np.float32], out: images.Pixels
    ) -> DecodedPair | None:
        scale_min = self.config.crop_scale_min
        try:
            crop = images.random_square(shard.images[row], draws[:3], scale_min, self._side)
        except images.BadImage:
            return None
        side = len(crop)
        out[:side, :side] = crop
        return DecodedPair(shard, row, draws, side)

    def _neighbour(
        self, place: tuple[int, int, int], epoch: np.int64, out: images.Pixels
    ) -> DecodedPair:
        """The first pair after a place that decodes: the same in every process."""
        source, first, row = place
        for index, following in self._after(source, first, row):
            shard = self.shards.get(source, index)
            draws = self._draws(np.array([epoch]), shard.uids[following : following + 1])[0]
            if pair := self._decoded(shard, following, draws, out):
                return pair
        raise DatasetError(
            f"{self.datasets[source].path}: no image of it can be decoded; verify the dataset"
        )

    def _after(self, source: int, first: int, row: int) -> Iterator[tuple[int, int]]:
        sizes = self.datasets[source].sizes
        yield from ((first, following) for following in range(row + 1, sizes[first]))
        for index in (*range(first + 1, len(sizes)), *range(first + 1)):
            yield from ((index, following) for following in range(sizes[index]))

    def _kept(self, epochs: Ints, uids: Words) -> Ints | None:
        """A random set of patches for each sample (FLIP, Li et al. 2023), int64 (b, K)."""
        if not self._num_patches:
            return None
        count = max(1, round(self._num_patches * (1 - self.config.patch_dropout)))
        noise = keyed_draws("patches", self.config.seed, epochs, uids, self._num_patches)
        return np.sort(noise.argsort(axis=1)[:, :count], axis=1)


def _token_ids(pairs: Sequence[DecodedPair], context_length: int) -> list[Ids]:
    """As stored, else from the captions, all at once."""
    stored = [pair.shard.ids(pair.row, context_length) for pair in pairs]
    bare = [pair for pair, ids in zip(pairs, stored, strict=True) if ids is None]
    texts = [pair.shard.caption(pair.row) for pair in bare]
    encoded = iter(encode_batch(texts, context_length) if texts else ())
    return [next(encoded) if ids is None else ids for ids in stored]


def _padded(ids: Sequence[Ids], context_length: int) -> Ints:
    longest = max(map(len, ids))
    width = min(-(-longest // TOKEN_MULTIPLE) * TOKEN_MULTIPLE, context_length)
    out = np.zeros((len(ids), width), np.int64)
    for row, some in zip(out, ids, strict=True):
        row[: len(some)] = some
    return out


def _weights(pairs: Sequence[DecodedPair]) -> npt.NDArray[np.float32]:
    return np.stack(
        [pair.shard.weights[pair.row] for pair in pairs if pair.shard.weights is not None]
    )


def _image_id(pair: DecodedPair) -> int:
    if pair.shard.sha256 is not None:
        return int(pair.shard.sha256[pair.row])
    return leading_word(hashlib.sha256(pair.shard.images[pair.row]).digest())


def _hash(data: bytes | memoryview) -> int:
    """63 bits, so that it is a positive int64."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1
