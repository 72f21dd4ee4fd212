"""The order of training samples, as a pure function of keys.

Sample number g of a run is a place: a source, its epoch, a shard and a row. There is no generator
to save, so a run resumes anywhere and splits its batches in any way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.dataset.uid import Ints, Words, key_words, mix
from trainer.errors import ConfigError

Mask = npt.NDArray[np.bool_]

ROUNDS = 6
"""Of a permutation's network: four suffice in theory (Luby and Rackoff 1988) where halves are wide,
and small windows have halves of a few bits."""
BLOCK = 1024
"""Samples whose sources are shuffled together, so that no batch sees a pattern. Shares are exact at
the end of each block."""
FINEST_SHARE = 10**6
"""Largest denominator of a share: turn * numerator stays in 63 bits for 9 * 10^12 samples."""


@dataclass(frozen=True)
class Places:
    """Where samples lie, one number per sample and array; `row` is numbered in its shard."""

    source: Ints
    epoch: Ints
    shard: Ints
    row: Ints


@dataclass(frozen=True)
class EpochPlan:
    """One epoch of a source: its shards in the order of their turn, and where windows begin."""

    shards: Ints
    starts: Ints
    """Position of the first row of each shard in turn, and the number of rows at the end."""
    windows: Ints
    """The same for windows."""


class Order:
    """The order of one source's rows, epoch after epoch.

    `sizes` are the rows of its shards. An epoch permutes the shards; `window` shards in a row form
    a window, within which rows are permuted. So at most two windows are in use at any moment.
    """

    def __init__(self, content: str, seed: int, sizes: Sequence[int], window: int) -> None:
        self.sizes, self.num_rows = np.array(sizes, np.int64), int(sum(sizes))
        self._key, self._window = f"order\0{content}\0{seed}", window
        self._plan = lru_cache(maxsize=4)(self._new_plan)

    def locate(self, turns: Ints) -> tuple[Ints, Ints, Ints]:
        """Epoch, shard and row of each turn; every epoch of `num_rows` turns visits each row."""
        epochs, positions = np.divmod(turns, self.num_rows)
        shards, rows = np.empty_like(turns), np.empty_like(turns)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            shards[chosen], rows[chosen] = self._locate(epoch, positions[chosen])
        return epochs, shards, rows

    def seen(self, num_turns: int) -> Mask:
        """Which rows, numbered through the shards in the dataset's order, the first turns took."""
        if num_turns >= self.num_rows:
            return np.ones(self.num_rows, bool)
        plan = self._plan(0)
        # Of the windows only the last can be half used: those before it are whole shards, whose
        # rows need not be located one by one.
        window = int(np.searchsorted(plan.windows, num_turns, side="right")) - 1
        whole = int(np.searchsorted(plan.starts, plan.windows[window]))
        firsts = np.cumsum(self.sizes) - self.sizes
        mask = np.zeros(self.num_rows, bool)
        for shard in plan.shards[:whole].tolist():
            mask[firsts[shard] : firsts[shard] + self.sizes[shard]] = True
        shards, rows = self._locate(0, np.arange(plan.windows[window], num_turns))
        mask[firsts[shards] + rows] = True
        return mask

    def _locate(self, epoch: int, positions: Ints) -> tuple[Ints, Ints]:
        plan = self._plan(epoch)
        windows = np.searchsorted(plan.windows, positions, side="right") - 1
        shuffled = np.empty_like(positions)
        # A window's key holds its number: with one key per epoch, windows of equal size would be
        # permuted alike. A batch touches one or two windows, so the loop is short.
        for window in np.unique(windows).tolist():
            chosen = windows == window
            first, end = plan.windows[window : window + 2].tolist()
            keys = key_words(f"{self._key}\0{epoch}\0{window}", ROUNDS)
            shuffled[chosen] = first + permute(positions[chosen] - first, end - first, keys)
        turns = np.searchsorted(plan.starts, shuffled, side="right") - 1
        return plan.shards[turns], shuffled - plan.starts[turns]

    def _new_plan(self, epoch: int) -> EpochPlan:
        keys = key_words(f"{self._key}\0{epoch}", ROUNDS)
        shards = permute(np.arange(len(self.sizes)), len(self.sizes), keys)
        starts = np.concatenate([[0], np.cumsum(self.sizes[shards])])
        return EpochPlan(shards, starts, np.append(starts[: -1 : self._window], starts[-1]))


class Mixture:
    """Several orders taken in turn by weight, each going through its own epochs.

    Samples are dealt exactly: in any whole number of blocks, the first source has had the integer
    part of its share, the second that of its share of the rest, and so on. The order of sources
    within a block is permuted.
    """

    def __init__(self, orders: Sequence[Order], weights: Sequence[float], seed: int) -> None:
        self.orders, self._key = tuple(orders), f"mixture\0{seed}"
        if not all(weight > 0 for weight in weights):
            raise ConfigError(f"dataset: weights are above zero, not {weights}")
        # As exact fractions: the rounding error of a float would grow with the sample's number.
        exact = [Fraction(str(weight)) for weight in weights]
        rests = [sum(exact[index:], Fraction(0)) for index in range(len(exact))]
        self._shares = [
            (weight / rest).limit_denominator(FINEST_SHARE)
            for weight, rest in zip(exact, rests, strict=True)
        ]
        if not all(0 < share < 1 for share in self._shares[:-1]):
            raise ConfigError(
                f"dataset: of the weights {', '.join(map(str, weights))} some are less than "
                f"1/{FINEST_SHARE:,} of the others; leave those out"
            )

    def locate(self, samples: Ints) -> Places:
        """The place of each sample, by the samples' numbers."""
        source, turns = self._deal(samples)
        epoch, shard, row = (np.empty_like(samples) for _ in range(3))
        for index, order in enumerate(self.orders):
            chosen = source == index
            epoch[chosen], shard[chosen], row[chosen] = order.locate(turns[chosen])
        return Places(source, epoch, shard, row)

    def seen(self, num_samples: int) -> list[Mask]:
        """For each source, which of its rows the first samples took."""
        whole = num_samples - num_samples % BLOCK
        rest = self.locate(np.arange(whole, num_samples))
        masks = []
        left = whole
        for index, (order, share) in enumerate(zip(self.orders, self._shares, strict=True)):
            turns = left * share.numerator // share.denominator
            left -= turns
            mask, chosen = order.seen(turns), rest.source == index
            firsts = np.cumsum(order.sizes) - order.sizes
            mask[firsts[rest.shard[chosen]] + rest.row[chosen]] = True
            masks.append(mask)
        return masks

    def _deal(self, samples: Ints) -> tuple[Ints, Ints]:
        """The source of each sample and which of that source's turns it is.

        Turn t is taken by a source of share p if floor((t + 1) p) > floor(t p), its turn number
        floor(t p); the turns that it leaves are numbered anew for the sources after it. Weights
        2, 1, 1 are shares 1/2 of all, 1/2 of the rest, 1 of what is left:

            turn     0 1 2 3 4 5 6 7
            source   2 0 1 0 2 0 1 0
            its turn 0 0 0 1 1 2 1 3
        """
        if len(self.orders) == 1:
            return np.zeros_like(samples), samples
        turns = self._within_blocks(samples)
        source = np.full_like(samples, -1)
        for index, share in enumerate(self._shares):
            had = turns * share.numerator // share.denominator
            takes = (turns + 1) * share.numerator // share.denominator > had
            taken = (source < 0) & takes
            left = (source < 0) & ~takes
            source[taken] = index
            turns = np.where(taken, had, np.where(left, turns - had, turns))
        return source, turns

    def _within_blocks(self, samples: Ints) -> Ints:
        blocks, offsets = np.divmod(samples, BLOCK)
        for block in np.unique(blocks).tolist():
            chosen = blocks == block
            keys = key_words(f"{self._key}\0{block}", ROUNDS)
            offsets[chosen] = permute(offsets[chosen], BLOCK, keys)
        return blocks * BLOCK + offsets


def permute(positions: Ints, size: int, keys: Words) -> Ints:
    """A keyed bijection of [0, size): a Feistel network, walked until it lands inside.

    The network permutes 4^k >= size numbers; following a cycle from inside back inside keeps it
    a bijection (Black and Rogaway 2002, cycle walking).
    """
    # The least k with 4^k >= size, so fewer than 4 * size numbers (4 for a size of 1): a value
    # lands inside after at most four steps on average.
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    values = _feistel(positions.astype(np.uint64), half, keys)
    while (outside := values >= size).any():
        values[outside] = _feistel(values[outside], half, keys)
    return values.astype(np.int64)


def _feistel(values: Words, half: np.uint64, keys: Words) -> Words:
    """One pass over values of 2 * `half` bits; each round can be undone, whatever `mix` returns."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) & mask)
    return (left << half) | right
