"""Captions to CLIP's token ids, exactly as OpenAI and open_clip encode them, in batches.

Marker strings inside captions are ordinary text here, so that a web page cannot place an end marker
in the middle of a caption; `markers` names the strings that are to be read as markers. How words
become ids is documented in `trainer.text.bpe`.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from unicodedata import is_normalized

import numpy as np
import numpy.typing as npt

from pipeline.dataset.tokens import EOT, SOT, Ids, truncate
from trainer.errors import ConfigError
from trainer.text.bpe import encode_words
from trainer.text.words import encode_lines

__all__ = [
    "CONTEXT_LENGTH",
    "OPENAI_MARKERS",
    "OPEN_CLIP_MARKERS",
    "clean",
    "encode_batch",
    "pad",
]

CONTEXT_LENGTH = 77
OPENAI_MARKERS = ("<|startoftext|>", "<|endoftext|>")
OPEN_CLIP_MARKERS = ("<start_of_text>", "<end_of_text>")
BLOCK = 4096
CHARACTERS_PER_ID = 64
"""An id stands for 32 bytes at most, and every other character may be a space."""

_TOUCHED = re.compile(
    "&(?! )|[\x00-\x08\x0a-\x1f\x7f-\x9f\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3"
    "\u2028\u2029\u206a-\u206f\u3000\ud800-\udfff\ufb00-\ufb06\ufeff-\uffff]"
)
"""What ftfy and html.unescape may change, quotes aside, in a text with no mojibake in it."""
_CURLY = re.compile("[\u02bc\u2018-\u201f]")


def clean(text: str) -> str:
    """Mojibake repaired, HTML unescaped twice, white space collapsed, lower case.

    Raises `ConfigError` where ftfy is missing and needed: plain ASCII does without.
    """
    return " ".join(_repaired(text).split()).lower()


def encode_batch(
    texts: Sequence[str], context_length: int = CONTEXT_LENGTH, markers: tuple[str, ...] = ()
) -> list[Ids]:
    """Ids of every text between SOT and EOT, at most `context_length` long with EOT last.

    Unpadded uint16 arrays. A text's `markers`, if any are named, become SOT and EOT. Of a
    repaired text only the characters that its ids can stand for are split into words: a megabyte
    in one word costs no more.
    """
    most = CHARACTERS_PER_ID * context_length
    rows: list[Ids] = []
    for start in range(0, len(texts), BLOCK):
        # Words split at white space of any width, so that only line breaks have to go.
        block = [
            text.lower()
            if text.isascii() and text.isprintable() and "&" not in text
            else _repaired(text).lower()
            for text in texts[start : start + BLOCK]
        ]
        block = [text if len(text) <= most else " ".join(text.split())[:most] for text in block]
        ids, cuts = encode_lines(block)
        rows += [ids[first:stop] for first, stop in pairwise(cuts.tolist())]
        marked = [any(marker in text for marker in markers) for text in block] if markers else []
        for index in np.flatnonzero(marked):
            rows[start + index] = np.array(
                [SOT, *encode_words(block[index], markers), EOT], np.uint16
            )
        for index in np.flatnonzero(np.diff(cuts) > context_length):
            rows[start + index] = truncate(rows[start + index], context_length)
    return rows


def _repaired(text: str) -> str:
    """One line: mojibake repaired, HTML unescaped, quotes straight."""
    if _TOUCHED.search(text) or not (text.isascii() or _is_sound(text)):
        return " ".join(html.unescape(html.unescape(_ftfy().fix_text(text))).split())
    if _CURLY.search(text):
        return re.sub("[\u02bc\u2018-\u201b]", "'", re.sub("[\u201c-\u201f]", '"', text))
    return text


def pad(batch: Sequence[Ids], multiple: int = 1) -> npt.NDArray[np.int64]:
    """Ids of a batch as one int64 array (B, L), zeros behind.

    L is the longest text's length, rounded up to a `multiple`.
    """
    lengths_B = np.fromiter(map(len, batch), np.int64, len(batch))
    width = -(-int(lengths_B.max()) // multiple) * multiple
    out_BL = np.zeros((len(batch), width), np.int64)
    out_BL[np.arange(width) < lengths_B[:, None]] = np.concatenate(batch)
    return out_BL


def _is_sound(text: str) -> bool:
    """Whether ftfy sees no mojibake and nothing to compose."""
    ftfy = _ftfy()
    return is_normalized("NFC", text) and not (ftfy.clue.search(text) and ftfy.is_bad(text))


class _Ftfy(NamedTuple):
    fix_text: Callable[[str], str]
    is_bad: Callable[[str], bool]
    clue: re.Pattern[str]


@cache
def _ftfy() -> _Ftfy:
    """Imported late: readers of ready-made tokens need no ftfy."""
    try:
        from ftfy import fix_text
        from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
    except ImportError:
        raise ConfigError("captions that are not plain ASCII need ftfy: pip install ftfy") from None
    return _Ftfy(fix_text, is_bad, _mojibake_clue(MOJIBAKE_CATEGORIES))


def _mojibake_clue(categories: Mapping[str, str]) -> re.Pattern[str]:
    """What there is in all that ftfy takes for mojibake, found 20 times as fast.

    Every sequence in its list has one of few characters, or two of its categories side by side of
    which one at least is no common Greek or Cyrillic letter.
    """
    letters = categories["lower_common"] + categories["upper_common"]
    rest = "".join(
        set(categories.values()) - {categories["lower_common"], categories["upper_common"]}
    )
    few = "\x80-\x9f\u0152\u0153\u00c2\u00c3\u0402"
    return re.compile(f"[{rest}{few}](?:(?<=[{few}])|(?=[{rest}{letters}])|(?<=[{letters}].))")
