"""Captions made readable, and those that say nothing turned away.

Repair undoes what transport did to a text (mojibake, escapes, control characters) and never what
its author did.
"""

import html
import re
import unicodedata
from pathlib import Path

import ftfy
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, RAW_CAPTION
from pipeline.dataset.verdict import Judge, Mask, Reason

NEEDS: tuple[Column, ...] = (CAPTION,)
ADDS: tuple[Column, ...] = (CAPTION, RAW_CAPTION)

_FTFY = ftfy.TextFixerConfig(unescape_html=False, explain=False)
_MAX_ROUNDS = 8
_AMPERSANDS = re.compile(r"&(?:amp;)+", re.IGNORECASE)
# Soft hyphen, zero-width space and word joiner, directional marks, embeddings and isolates, byte
# order mark. Joiners (U+200C, U+200D) stay: emoji and Indic scripts need them.
_INVISIBLE = dict.fromkeys(
    [
        *(code for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc"),
        *(0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x2070),
    ]
) | dict.fromkeys((0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85), " ")

_URL = r"(?:[a-z][a-z0-9+.-]*://|www\.)[^\s]+"
_EMAIL = r"[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+"
_DOMAIN = r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|net|org|info|biz|co\.uk|de|fr|ru|io)(?:/[^\s]*)?"
_LINKS = rf"(?i)(?:{_EMAIL}|{_URL}|\b{_DOMAIN})"

_IMAGE_ENDING = r"\.(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|avif|heic|ico|psd|eps|raw)"
_COUNTED = r"(?:img|imag|image|pict|pic|picture|photo|foto|screen ?shot|scan|unnamed|untitled)"
_CAMERA = (
    r"(?:_?mg|dsc|dscn|dscf|dsci|p|mvc|gopr|dji|pxl|vid|mvimg|wp|scn|hpim|sam|kif|imgp|cimg"
    r"|fullsizerender)"
)
_FILE_NAMES = "|".join(
    (
        rf"[^\s]*{_IMAGE_ENDING}",
        rf"_?{_COUNTED}[\s_(-]*[0-9][0-9\s_.:()-]*(?:at [0-9\s.:apm]+)?(?:{_IMAGE_ENDING})?",
        rf"_?{_CAMERA}[\s_-]*[0-9]{{3,}}[0-9\s_.()-]*(?:{_IMAGE_ENDING})?",
        r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
        r"(?:[0-9]+[a-f]+|[a-f]+[0-9]+)[0-9a-f]*",
    )
)
_HEX_MIN_CHARS = 12
_BOILERPLATE_MAX_CHARS = 100
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")

BOILERPLATE = frozenset(
    (Path(__file__).parent / "assets" / "boilerplate.txt").read_text("utf-8").splitlines()
)


class CaptionReason(Reason):
    """Why a caption cannot stand beside a picture."""

    EMPTY = "empty", "no caption", "the page gives its image no words"
    URL_OR_EMAIL = "url_or_email", "a web or mail address instead of words"
    FILE_NAME = "file_name", "the name of a file"
    BOILERPLATE = "boilerplate", "a set phrase that many pages put on any image"
    NO_LETTERS = "no_letters", "not one letter in it"


class CaptionParams(Params):
    """When a caption counts as a web or mail address."""

    max_link_share: float = Field(0.5, ge=0, le=1)
    """Largest share of a caption's characters that web and mail addresses may take."""


def captions(table: pa.Table, params: CaptionParams) -> pa.Table:
    """Repaired `caption`, the text before it in `raw_caption` (null if equal), and `verdict`.

    In a table that was repaired before, a `raw_caption` that is not null stands: it is what the
    page gave, and the caption of such a row no longer is.
    """
    caption = table["caption"].combine_chunks().cast(pa.string()).fill_null("")
    # Repair is a chain of string functions of Python, so it goes row by row.
    repaired = pa.array([repair(text) for text in caption.to_pylist()], CAPTION.type)
    original = caption
    if RAW_CAPTION.name in table.column_names:
        original = pc.coalesce(table[RAW_CAPTION.name].combine_chunks(), caption)
    raw = pc.if_else(pc.equal(original, repaired), pa.scalar(None, RAW_CAPTION.type), original)
    judge = Judge(put(table, {CAPTION: repaired, RAW_CAPTION: raw}))
    judge.drop(_mask(pc.equal(repaired, "")), CaptionReason.EMPTY)
    share = _link_share(repaired)
    judge.drop(
        share > params.max_link_share, CaptionReason.URL_OR_EMAIL, share, params.max_link_share
    )
    judge.drop(_file_names(repaired), CaptionReason.FILE_NAME)
    judge.drop(_boilerplate(repaired), CaptionReason.BOILERPLATE)
    judge.drop(~_mask(pc.match_substring_regex(repaired, r"\pL")), CaptionReason.NO_LETTERS)
    return judge.table()


def repair(text: str) -> str:
    """The caption as its author would read it: NFC, one line, no escapes, mojibake or controls.

    Rounds go on until nothing changes, because an escape may hide mojibake and the reverse.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return " ".join(text.split())  # ftfy changes nothing in such a text, at 30 times the cost
    for _ in range(_MAX_ROUNDS):
        repaired = _repair_once(text)
        if repaired == text:
            break
        text = repaired
    return text


def _repair_once(text: str) -> str:
    text = html.unescape(html.unescape(_AMPERSANDS.sub("&", text)))
    text = ftfy.fix_text(text, _FTFY).translate(_INVISIBLE)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _mask(array: pa.Array | pa.ChunkedArray) -> Mask:
    mask: Mask = np.asarray(array, dtype=bool)
    return mask


def _link_share(texts: pa.Array) -> npt.NDArray[np.float64]:
    """The share of the characters, spaces aside, that addresses take; 0 for an empty text."""
    solid = pc.replace_substring_regex(texts, r"\s+", "")
    rest = pc.replace_substring_regex(texts, _LINKS, "")
    length = np.asarray(pc.utf8_length(solid), float)
    left = np.asarray(pc.utf8_length(pc.replace_substring_regex(rest, r"\s+", "")), float)
    share: npt.NDArray[np.float64] = (length - left) / np.maximum(length, 1.0)
    return share


def _file_names(texts: pa.Array) -> Mask:
    named = _mask(pc.match_substring_regex(texts, rf"(?i)^(?:{_FILE_NAMES})$"))
    hexadecimal = _mask(pc.match_substring_regex(texts, r"(?i)^[0-9a-f]*$"))
    short = np.asarray(pc.utf8_length(texts)) < _HEX_MIN_CHARS
    return named & ~(hexadecimal & short)


def _boilerplate(texts: pa.Array) -> Mask:
    folded = pa.array([_bare(text) for text in texts.to_pylist()], pa.string())
    return _mask(pc.is_in(folded, pa.array(sorted(BOILERPLATE))))


def _bare(text: str) -> str:
    """A phrase as the list of boilerplate has it; empty for a text too long to be one."""
    return _EDGES.sub("", text.casefold()) if len(text) <= _BOILERPLATE_MAX_CHARS else ""
