"""What stays nearly the same when a picture is scaled or re-encoded: a 64-bit hash and 16 colours.

The hash is the DCT pHash: one bit per frequency of the 8 x 8 lowest of the 32 x 32 luma, set where
the coefficient is above their median. It sees no colour, so two flags of one pattern share it; the
colours of a 4 x 4 thumbnail distinguish those.
"""

import cv2
import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

SIDE = 32
CHUNKS = 4
CHUNK_BITS = 16

_LOW = 8
_COSINE_BITS = 14
# An eighth of a gray level. Half the frequencies of a symmetric picture vanish and so does the
# median; without a margin, the noise of a re-encoding would draw those bits by lot.
_MARGIN = 32 << (2 * _COSINE_BITS)


def _cosines() -> npt.NDArray[np.int64]:
    """The low rows of DCT-II in fixed point, so that hashes are exact; shape (8, 32)."""
    angles = np.outer(np.arange(_LOW), 2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    cosines: npt.NDArray[np.int64] = np.rint(np.cos(angles) * (1 << _COSINE_BITS)).astype(np.int64)
    return cosines


_COSINES = _cosines()


def phash(picture: Bytes) -> int:
    """The 64-bit pHash of an RGB (H, W, 3) or gray (H, W) uint8 picture, as `imagehash` orders it.

    Lowest frequency in the highest bit, row by row (Zauner 2010, section 3.2). A bit is set where
    the coefficient is above the median by a margin, which `imagehash` does not ask for.
    """
    gray = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    luma = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.int64)
    low = (_COSINES @ luma @ _COSINES.T).ravel()
    # Twice the median, so that the mean of the two middle values stays an integer.
    middle = np.sort(low)[_LOW * _LOW // 2 - 1 : _LOW * _LOW // 2 + 1].sum()
    return int.from_bytes(np.packbits(2 * low > middle + 2 * _MARGIN).tobytes(), "big")


def colours(picture: Bytes) -> bytes:
    """The mean colours of a 4 x 4 grid over an RGB (H, W, 3) uint8 picture: 48 bytes."""
    return cv2.resize(picture, (4, 4), interpolation=cv2.INTER_AREA).tobytes()


def hamming(a: Hashes, b: Hashes) -> Bytes:
    """The number of bits in which the hashes differ, element by element (they broadcast), uint8."""
    return np.bitwise_count(np.bitwise_xor(a, b))


def chunk_keys(phashes: Hashes) -> npt.NDArray[np.uint16]:
    """The four 16-bit chunks of each hash, highest bits first, shape (rows, 4).

    Two hashes that differ in at most 3 bits have at least one chunk in common: the pigeonhole
    that lets near neighbours meet by equality (Norouzi et al. 2012, multi-index hashing).
    """
    shifts = np.arange(CHUNKS, dtype=np.uint64)[::-1] * np.uint64(CHUNK_BITS)
    return (phashes[:, None] >> shifts).astype(np.uint16)
