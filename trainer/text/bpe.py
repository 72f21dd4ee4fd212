"""CLIP's byte-level BPE, plainly: a cleaned, lower-case text to the ids of its words.

The vocabulary is OpenAI's (`assets/bpe_simple_vocab_16e6.txt.gz`). This is the definition that any
faster implementation has to equal.
"""

import gzip
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex

from pipeline.dataset.tokens import EOT, SOT

NUM_MERGES = 49_152 - 256 - 2
GONE = -1

VOCABULARY = Path(__file__).parent / "assets" / "bpe_simple_vocab_16e6.txt.gz"
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def encode_words(text: str, markers: tuple[str, ...] = ()) -> list[int]:
    """Ids of a cleaned text, unframed; a word that is one of the two `markers` is SOT or EOT.

    As in CLIP's own code splitting ignores case, so that an apostrophe takes a long s along.
    """
    special = dict(zip(markers, ([SOT], [EOT]), strict=False))
    words = _pattern(markers).findall(text)
    return [token for word in words for token in special.get(word) or merge_word(word)]


def merge_word(word: str) -> list[int]:
    """Ids of one word: its bytes, merged always at the pair learned first, leftmost first.

    A heap holds the pairs that can merge; it takes n log n steps for n bytes.
    """
    merges, byte_ids = _merges(), _byte_ids()
    ids = [byte_ids[byte] for byte in word.encode()]
    ids[-1] += 256
    before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
    heap = [(merges[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in merges]
    heapify(heap)
    while heap:
        merged, at = heappop(heap)
        right = after[at]
        if right == len(ids) or merges.get((ids[at], ids[right])) != merged:
            continue  # one of the two has merged with another neighbour since
        ids[at], ids[right] = merged, GONE
        after[at] = after[right]
        if after[at] < len(ids):
            before[after[at]] = at
            _push(heap, merges.get((merged, ids[after[at]])), at)
        if before[at] >= 0:
            _push(heap, merges.get((ids[before[at]], merged)), before[at])
    return [token for token in ids if token != GONE]


def _push(heap: list[tuple[int, int]], merged: int | None, at: int) -> None:
    if merged is not None:
        heappush(heap, (merged, at))


@cache
def _pattern(markers: tuple[str, ...]) -> Any:
    return regex.compile("|".join([*map(regex.escape, markers), _WORD]), regex.IGNORECASE)


def _byte_alphabet() -> list[int]:
    """Bytes in the vocabulary's order: those that print in Latin-1 first, then the rest."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printing + sorted(set(range(256)) - set(printing))


@cache
def _byte_ids() -> dict[int, int]:
    return {byte: index for index, byte in enumerate(_byte_alphabet())}


@cache
def _merges() -> dict[tuple[int, int], int]:
    """Pairs of ids and the id that they merge into: bytes, bytes at a word's end, then merges."""
    alphabet = _byte_alphabet()
    # In the file a byte that does not print stands as the character 256 + its rank among those.
    letters = [chr(byte) for byte in alphabet[:188]] + [chr(256 + rank) for rank in range(68)]
    names = letters + [letter + "</w>" for letter in letters]
    ids = {name: index for index, name in enumerate(names)}
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : NUM_MERGES + 1]
    merges = {}
    for index, line in enumerate(lines, start=len(ids)):
        left, right = line.split()
        merges[ids[left], ids[right]] = ids[left + right] = index
    return merges
