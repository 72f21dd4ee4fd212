"""Who a pair is, and the only source of chance: keyed hashes.

A pair's `uid` is fixed when it is first seen and never changes; every random draw is a hash of a
key and the uid, so that it depends on no order, no worker and no retry.
"""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UID_TYPE = pa.binary(16)
UID_DIGITS = 32
"""Hex digits of a uid, as people and member names in tars have it."""

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def pair_uid(url: str, caption: str) -> bytes:
    """The 16-byte BLAKE2b digest of `url`, a NUL and `caption`, both as first seen."""
    text = f"{url}\0{caption}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def uid_words(uids: pa.Array | pa.ChunkedArray) -> Words:
    """The uids as big-endian words, uint64 (rows, 2): comparing words compares uids."""
    data = fixed_bytes(uids, 16)
    return np.frombuffer(data, ">u8").reshape(-1, 2).astype(np.uint64)


def fixed_bytes(column: pa.Array | pa.ChunkedArray, width: int) -> bytes:
    """The values of a fixed-size binary column, one after another."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return b"".join(
        chunk.buffers()[1][width * chunk.offset : width * (chunk.offset + len(chunk))].to_pybytes()
        for chunk in chunks
        if len(chunk)
    )


def keyed_uniform(
    seed: int, purpose: str, uids: pa.Array | pa.ChunkedArray
) -> npt.NDArray[np.float64]:
    """One draw in [0, 1) for every uid: a hash of (seed, purpose, uid), shape (rows,), float64.

    The uid is a cryptographic digest already, so SplitMix64's finaliser over its words and the key
    is enough to make draws of different seeds and purposes independent.
    """
    key = hashlib.blake2b(f"{seed}\0{purpose}".encode(), digest_size=16).digest()
    low, high = np.frombuffer(key, dtype="<u8")
    words = uid_words(uids)
    mixed = mix(mix(words[:, 0] ^ low) ^ words[:, 1] ^ high)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keyed_draws(purpose: str, seed: int, epoch: Ints, uids: Words, count: int) -> Words:
    """`count` independent 64-bit words for each sample of (purpose, seed, epoch, uid).

    `uids` are words of shape (rows, 2), `epoch` has shape (rows,), the result (rows, count).
    """
    keys = key_words(f"{purpose}\0{seed}", count)
    mixed = mix(mix(uids[:, 0] ^ epoch.astype(np.uint64)) ^ uids[:, 1])
    return mix(mixed[:, None] ^ keys[None, :])


def uniform(words: Words) -> npt.NDArray[np.float32]:
    """Words as numbers in [0, 1), float32."""
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


@lru_cache(maxsize=1024)
def key_words(text: str, count: int) -> Words:
    """`count` words that stand for a key, by SHAKE-128 of its text."""
    data = hashlib.shake_128(text.encode()).digest(8 * count)
    return np.frombuffer(data, "<u8").astype(np.uint64)


def mix(x: Words) -> Words:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection that scatters similar words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
