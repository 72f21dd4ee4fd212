"""CLIP's byte-level BPE: captions to token ids, exactly as OpenAI and open_clip encode them.

Special-token strings inside captions are ordinary text here: a web page cannot place an end marker
in the middle of a caption. The vocabulary is OpenAI's (`assets/bpe_simple_vocab_16e6.txt.gz`).
"""

import gzip
import html
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import regex

try:
    from instant_clip_tokenizer import Tokenizer as FastTokenizer
except ImportError:
    FastTokenizer = None

SOT, EOT = 49_406, 49_407
CONTEXT_LENGTH = 77
NUM_MERGES = 49_152 - 256 - 2
CACHED_WORDS = 1 << 16

VOCABULARY = Path(__file__).parent / "assets" / "bpe_simple_vocab_16e6.txt.gz"
_WORD = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)

Ids = npt.NDArray[np.uint16]


def clean(text: str) -> str:
    """Mojibake repaired, HTML unescaped twice, white space collapsed, lower case.

    Printable ASCII without an ampersand needs no repair, which spares ftfy for most captions.
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = html.unescape(html.unescape(_ftfy()(text)))
    return " ".join(text.split()).lower()


def encode_batch(texts: Sequence[str], context_length: int = CONTEXT_LENGTH) -> list[Ids]:
    """Ids of every text between SOT and EOT, at most `context_length` long with EOT last.

    Unpadded uint16 arrays. instant-clip-tokenizer, where installed, encodes the ASCII texts.
    """
    return [_frame(_ids(clean(text)), context_length) for text in texts]


def truncate(ids: Ids, context_length: int) -> Ids:
    """Framed ids cut to `context_length`, EOT last."""
    return ids if len(ids) <= context_length else np.append(ids[: context_length - 1], ids[-1:])


def pad(batch: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """Ids of a batch as one int64 array, zeros behind, as wide as the longest."""
    out = np.zeros((len(batch), max(map(len, batch))), np.int64)
    for row, ids in zip(out, batch, strict=True):
        row[: len(ids)] = ids
    return out


def _frame(ids: Sequence[int], context_length: int) -> Ids:
    return np.array([SOT, *ids[: context_length - 2], EOT], np.uint16)


def _ids(text: str) -> list[int]:
    fast = _fast()
    # The Rust build splits by another Unicode version and knows marker strings of its own.
    if fast is not None and text.isascii() and "_of_text>" not in text:
        ids: list[int] = fast.encode(text)
        return ids
    return [token for word in _WORD.findall(text) for token in _bpe(word)]


@lru_cache(CACHED_WORDS)
def _bpe(word: str) -> tuple[int, ...]:
    """Merge a word's bytes, always the pair learned first, everywhere it stands."""
    merges = _merges()
    byte_ids = _byte_ids()
    ids = [byte_ids[byte] for byte in word.encode()]
    ids[-1] += 256
    while len(ids) > 1:
        pair = min(pairwise(ids), key=lambda p: merges.get(p, SOT))
        if pair not in merges:
            break
        ids = _merge(ids, pair, merges[pair])
    return tuple(ids)


def _merge(ids: list[int], pair: tuple[int, int], merged: int) -> list[int]:
    out: list[int] = []
    at = 0
    while at < len(ids):
        found = tuple(ids[at : at + 2]) == pair
        out.append(merged if found else ids[at])
        at += 2 if found else 1
    return out


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


@cache
def _fast() -> Any:
    return FastTokenizer() if FastTokenizer is not None else None


@cache
def _ftfy() -> Callable[[str], str]:
    """Imported late: machines that read ready-made tokens need no ftfy."""
    from ftfy import fix_text

    return fix_text
