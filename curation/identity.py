"""Who a pair is, and the only source of chance: keyed hashes.

A pair's `uid` is fixed when it is first seen and never changes; every random draw is a hash of
(seed, uid), so that it depends on no order, no worker and no retry.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UID_TYPE = pa.binary(16)


def pair_uid(url: str, caption: str) -> bytes:
    """The 16-byte BLAKE2b digest of `url`, a NUL and `caption`, both as first seen."""
    text = f"{url}\0{caption}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def pair_uids(urls: Sequence[str], captions: Sequence[str]) -> pa.Array:
    """`pair_uid` of every pair, as fixed_size_binary(16)."""
    return pa.array(map(pair_uid, urls, captions), UID_TYPE)


def uid_words(uids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """The uids as big-endian words, shape (rows, 2): comparing words compares uids."""
    if isinstance(uids, pa.ChunkedArray):
        uids = uids.combine_chunks()
    data = np.frombuffer(uids.buffers()[1], dtype=">u8", count=2 * (len(uids) + uids.offset))
    return data.reshape(-1, 2)[uids.offset :].astype(np.uint64)


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
    mixed = _mix(_mix(words[:, 0] ^ low) ^ words[:, 1] ^ high)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
