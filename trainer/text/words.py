"""Words of many texts at once: where CLIP's pattern splits them, and the ids of each word.

Texts are split by the kinds of their characters, as the pattern's own classes define them; a word's
ids are looked up by its bytes, and a new word is merged by instant-clip-tokenizer, where that is
installed and known to agree, or else by `bpe`.

Legend: C characters of all lines, W their words.
"""

import re
from functools import cache
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import regex

from pipeline.dataset.tokens import EOT, SOT
from trainer.text.bpe import merge_word

try:
    from instant_clip_tokenizer import Tokenizer as FastTokenizer
except ImportError:
    FastTokenizer = None

SKIPPED, LETTER, ALONE, OTHER = range(4)
KEPT_WORDS, KEPT_IDS = 1 << 18, 1 << 21
"""Words, and ids of words, above which the cache is emptied: it would grow with the dataset."""
SLOT_BITS = 18
"""As many slots as words that are kept: three arrays of 2 MiB."""
KEY_BYTES = 16
"""Longest word, in bytes, that the table holds: two integers can be compared for many at once."""
FREE = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""No text in UTF-8 has these bytes."""
SPREAD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
"""Odd factors whose products have well mixed upper bits, which become the slot."""

Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]
Ids = npt.NDArray[np.uint16]
Keys = npt.NDArray[np.uint64]

_APART = re.compile(
    "[\u017f\u0345\u0558\u058b-\u058c\u088f\u0c5c\u0cdc\u1c89-\u1c8a\u208f\u209d-\u209f"
    "\ua7cb-\ua7cf\ua7d2-\ua7dd\ua7e2-\ua7f1\uab6c-\uab6d\U00010000-\U0001efff"
    "\U0001fb00-\U0010ffff]"
)
"""What instant-clip-tokenizer, of an older Unicode, splits or lower-cases otherwise, or could."""


def encode_lines(lines: list[str]) -> tuple[Ids, Int]:
    """Ids of repaired, lower-case `lines` without line breaks, each between SOT and EOT.

    Returns uint16 ids back to back and int64 cuts (N + 1): line n has `ids[cuts[n] : cuts[n + 1]]`.
    """
    # The line break in front gives the first line its SOT. The space ends the last line break, and
    # with it two characters follow any apostrophe, so that looking ahead needs no bounds:
    #   ["a b", "c"] -> "\na b\nc\n " -> EOT SOT, a, b, EOT SOT, c, EOT SOT
    # Line n then lies from the SOT of its break to the EOT of the next, hence the + 1.
    text = "\n" + "\n".join(lines) + "\n "
    data = text.encode()
    ids, breaks = _words().encode(data, *_split(text, data))
    return ids, breaks + 1


def _split(text: str, data: bytes) -> tuple[Int, Int]:
    """Starts and lengths of words in the bytes `data` of a text; each line break is a word."""
    if text.isascii():
        codes_C: Codes = np.frombuffer(data, np.uint8)
        kinds_C = np.frombuffer(data.translate(_kinds()[:256].tobytes()), np.uint8)
    else:
        codes_C = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        kinds_C = _kinds().take(codes_C)
    # A word starts where the kind changes, and at every number, since "[\\p{N}]" takes one each:
    #   "it's 42" -> it, 's, 4, 2
    starts_C = np.ones(len(codes_C), bool)
    np.not_equal(kinds_C[1:], kinds_C[:-1], out=starts_C[1:])
    starts_C |= kinds_C == ALONE
    _join_contractions(starts_C, codes_C)
    in_word_C = kinds_C != SKIPPED
    starts_W = np.flatnonzero(starts_C & in_word_C)
    ends_W = np.flatnonzero(starts_C[1:] & in_word_C[:-1]) + 1
    if len(data) > len(text):
        # From characters to bytes: those that continue a character are 0b10xxxxxx.
        leads_C = np.flatnonzero((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)
        starts_W, ends_W = leads_C.take(starts_W), leads_C.take(ends_W)
    return starts_W, ends_W - starts_W


def _join_contractions(starts_C: Bool, codes_C: Codes) -> None:
    """An apostrophe that opens a word takes s, t, m, d, re, ve or ll along; a long s is an s."""
    at = np.flatnonzero(starts_C & (codes_C == ord("'")))
    one, two = codes_C[at + 1], codes_C[at + 2]
    # The start behind the apostrophe goes, and one is set behind the contraction: without it
    # "'sun" would stay one word where the pattern reads 's and un.
    short = np.isin(one, [ord(letter) for letter in "stmd\u017f"])
    e_after = ((one == ord("r")) | (one == ord("v"))) & (two == ord("e"))
    long = e_after | ((one == ord("l")) & (two == ord("l")))
    starts_C[at[short | long] + 1] = False
    starts_C[at[short] + 2] = True
    starts_C[at[long] + 3] = True


class WordCache:
    """The ids of the words met so far, by number, and a table that finds numbers for many at once.

    The table holds words of up to 16 bytes as two integers, each in one of two slots; words that
    found no place there, and longer ones, are found in a dictionary. It is emptied at the first
    call after more than `KEPT_WORDS` words, or words of `KEPT_IDS` ids, were met: in a language
    without spaces a caption is a word.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._clear()

    def _clear(self) -> None:
        self._low, self._high = np.full((2, 1 << SLOT_BITS), FREE)
        self._number = np.zeros(1 << SLOT_BITS, np.int64)
        self._first, self._count = np.zeros((2, 1 << 12), np.int64)
        self._ids = np.zeros(1 << 14, np.uint16)
        # Number 0: a line break ends one text and begins another.
        self._known = {b"\n": 0}
        self._count[0] = self._used = 2
        self._ids[:2] = EOT, SOT

    def encode(self, data: bytes, starts_W: Int, lengths_W: Int) -> tuple[Ids, Int]:
        """Ids of the words of `data`, and where those of its line breaks begin."""
        with self._lock:
            if len(self._known) > KEPT_WORDS or self._used > KEPT_IDS:
                self._clear()
            numbers_W = self._numbers(data, starts_W, lengths_W)
            counts_W = self._count.take(numbers_W)
            firsts_W = np.cumsum(counts_W) - counts_W
            places = np.repeat(self._first.take(numbers_W) - firsts_W, counts_W)
            places += np.arange(len(places))
            return self._ids.take(places), firsts_W.take(np.flatnonzero(numbers_W == 0))

    def _numbers(self, data: bytes, starts_W: Int, lengths_W: Int) -> Int:
        low_W, high_W = _keys(data, starts_W, lengths_W)
        hashes_W = (low_W * SPREAD[0] ^ high_W * SPREAD[1]) >> np.uint64(64 - SLOT_BITS)
        # A word is in slot h, in slot h ^ 1 beside it, or in the dictionary. Each look narrows down
        # what is left, so that the dictionary, the only loop in Python, sees few words.
        slots_W = hashes_W.view(np.int64)
        numbers_W = self._number.take(slots_W)
        rest = np.flatnonzero(~self._holds(slots_W, low_W, high_W))
        numbers_W[rest] = self._number.take(slots_W[rest] ^ 1)
        rest = rest[~self._holds(slots_W[rest] ^ 1, low_W[rest], high_W[rest])]
        numbers_W[rest] = self._looked_up(data, starts_W[rest], lengths_W[rest])
        rest = rest[lengths_W[rest] <= KEY_BYTES]
        self._place(slots_W[rest], low_W[rest], high_W[rest], numbers_W[rest])
        return numbers_W

    def _holds(self, slots: Int, low: Keys, high: Keys) -> Bool:
        held: Bool = (self._low.take(slots) == low) & (self._high.take(slots) == high)
        return held

    def _looked_up(self, data: bytes, starts: Int, lengths: Int) -> list[int]:
        places = zip(starts.tolist(), lengths.tolist(), strict=True)
        words = [data[start : start + length] for start, length in places]
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        if new:
            self._learn(new)
        return [self._known[word] for word in words]

    def _learn(self, words: list[bytes]) -> None:
        ids, counts = _merged([word.decode() for word in words])
        known, used = len(self._known), self._used
        self._known.update(zip(words, range(known, known + len(words)), strict=True))
        self._used = used + len(ids)
        self._first = _grown(self._first, len(self._known))
        self._count = _grown(self._count, len(self._known))
        self._ids = _grown(self._ids, self._used)
        self._first[known : len(self._known)] = used + np.cumsum(counts) - counts
        self._count[known : len(self._known)] = counts
        self._ids[used : self._used] = ids

    def _place(self, slots: Int, low: Keys, high: Keys, numbers: Int) -> None:
        """Into the slot itself if that is free, else into the one beside, free or not."""
        # Of several words for one slot the last wins, in all three arrays alike, so a slot never
        # holds one word's key and another's number; the losers stay in the dictionary.
        slots = np.where(self._low.take(slots) == FREE, slots, slots ^ 1)
        self._low[slots], self._high[slots], self._number[slots] = low, high, numbers


def _keys(data: bytes, starts_W: Int, lengths_W: Int) -> tuple[Keys, Keys]:
    """A word's bytes as two little-endian integers, filled up with zeros; longer ones as (0, 0).

    No short word is (0, 0): repaired texts have no NUL.
    """
    # Overlapping views of eight bytes, one from each position on, instead of copies; the zeros
    # behind the data keep the last ones inside.
    eights = np.ndarray(len(data) + 8, np.dtype("<u8"), data + bytes(KEY_BYTES), 0, (1,))
    sizes_W = np.minimum(lengths_W, KEY_BYTES + 1)
    return (
        eights.take(starts_W) & _LOW_MASKS.take(sizes_W),
        eights.take(starts_W + 8) & _HIGH_MASKS.take(sizes_W),
    )


def _masks(first_byte: int) -> Keys:
    """By a word's length, the bits that its bytes take of the eight from `first_byte` on."""
    sizes = [min(max(length - first_byte, 0), 8) for length in range(KEY_BYTES + 1)]
    return np.array([(1 << 8 * size) - 1 for size in sizes] + [0], np.uint64)


_LOW_MASKS, _HIGH_MASKS = _masks(0), _masks(8)


def _grown(array: Any, size: int) -> Any:
    return array if len(array) >= size else np.resize(array, 2 * size)


def _merged(words: list[str]) -> tuple[Ids, Int]:
    """Ids of words, back to back, and how many each has."""
    fast = _fast()
    if fast is None:
        rows = [merge_word(word) for word in words]
    else:
        rows = [fast.encode(word) if _is_alike(word) else merge_word(word) for word in words]
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.fromiter(chain.from_iterable(rows), np.uint16, counts.sum()), counts


def _is_alike(word: str) -> bool:
    return word.isascii() or (word.isprintable() and not _APART.search(word))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of every code point, by the classes that split a lower-case text."""
    everything = "".join(map(chr, range(0x110000)))
    kinds = np.full(len(everything), SKIPPED, np.uint8)
    classes = {LETTER: r"[\p{L}]+", ALONE: r"[\p{N}\n]+", OTHER: r"[^\s\p{L}\p{N}]+"}
    for kind, pattern in classes.items():
        for run in regex.finditer(pattern, everything, regex.IGNORECASE):
            kinds[run.start() : run.end()] = kind
    return kinds


@cache
def _words() -> WordCache:
    return WordCache()


@cache
def _fast() -> Any:
    return FastTokenizer() if FastTokenizer is not None else None
