"""The order of training samples and every draw made for them, as pure functions of keys.

Sample number g of a run is row `rows(g)`: epoch g // N under that epoch's own permutation of N
rows. There is no generator to save; a run resumes anywhere, under any split of its batches.
"""

import hashlib

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

ROUNDS = 6


def sample_rows(dataset: str, seed: int, samples: Rows, num_rows: int) -> Rows:
    """Rows of the samples with these numbers, in [0, num_rows).

    `dataset` is the content digest. Every epoch visits each row once, whatever the batch size.
    """
    epochs, positions = np.divmod(samples, num_rows)
    out = np.empty_like(samples)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        keys = _keys(f"order\0{dataset}\0{seed}\0{epoch}", ROUNDS)
        out[here] = permute(positions[here], num_rows, keys)
    return out


def permute(positions: Rows, size: int, keys: Words) -> Rows:
    """A keyed bijection of [0, size): a Feistel network, walked until it lands inside.

    The network permutes 4^k >= size numbers; following a cycle from inside back inside keeps it
    a bijection (Black and Rogaway 2002, cycle walking).
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    values = _feistel(positions.astype(np.uint64), half, keys)
    while (outside := values >= size).any():
        values[outside] = _feistel(values[outside], half, keys)
    return values.astype(np.int64)


def keyed_draws(seed: int, epoch: npt.NDArray[np.int64], uids: Words, count: int) -> Words:
    """`count` independent 64-bit words for each sample of (seed, epoch, uid), shape (rows, count).

    `uids` are words of shape (rows, 2); `epoch` has shape (rows,).
    """
    keys = _keys(f"augment\0{seed}", count)
    mixed = _mix(_mix(uids[:, 0] ^ epoch.astype(np.uint64)) ^ uids[:, 1])
    return _mix(mixed[:, None] ^ keys[None, :])


def uniform(words: Words) -> npt.NDArray[np.float32]:
    """Words as numbers in [0, 1), float32."""
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _feistel(values: Words, half: np.uint64, keys: Words) -> Words:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _keys(text: str, count: int) -> Words:
    data = hashlib.shake_128(text.encode()).digest(8 * count)
    return np.frombuffer(data, "<u8").astype(np.uint64)


def _mix(x: Words) -> Words:
    """SplitMix64's finaliser (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
