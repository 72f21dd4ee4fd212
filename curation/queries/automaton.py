"""One automaton for all queries of a list: which of them a text contains.

A query matches where it stands between spaces, so what counts as a word is settled by where spaces
are put: `metaclip` puts them exactly as the published curation did, `normalized` puts them around
every mark and ignores case and width.
"""

import hashlib
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ahocorasick_rs import AhoCorasick, Implementation

from pipeline.dataset.schema import QUERY_IDS

Mode = Literal["metaclip", "normalized"]

_METACLIP = str.maketrans(
    {"\t": " ", "\n": " "} | {mark: f" {mark} " for mark in (",", ".", ";", ":", "?", "!", "`")}
)
_MAX_CACHED = 4
_matchers: dict[tuple[bytes, Mode], "Matcher"] = {}


def matcher(queries: Sequence[str], mode: Mode) -> "Matcher":
    """The matcher of these queries; the last few of a process are kept, by content.

    A worker matches one partition after another against the same list; so the automaton of half a
    million queries is built once.
    """
    key = (_digest(queries), mode)
    if key not in _matchers:
        while len(_matchers) >= _MAX_CACHED:
            del _matchers[next(iter(_matchers))]
        _matchers[key] = Matcher.of(queries, mode)
    return _matchers[key]


@dataclass(frozen=True, slots=True)
class Matcher:
    """An Aho-Corasick automaton over the spaced queries, and the query of each of its patterns."""

    mode: Mode
    automaton: AhoCorasick
    query_of_pattern: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, queries: Sequence[str], mode: Mode) -> "Matcher":
        """Queries of which nothing is left after normalization match nothing."""
        spaced = [spaced_query(query, mode) for query in queries]
        used = [i for i, query in enumerate(spaced) if mode == "metaclip" or query.strip()]
        automaton = AhoCorasick(
            [spaced[i] for i in used], implementation=Implementation.ContiguousNFA
        )
        return cls(mode, automaton, np.array(used, dtype=np.uint32))

    def match(self, texts: Sequence[str | None]) -> pa.ListArray:
        """Sorted distinct query indices of every text: list<uint32>, no nulls."""
        search = self.automaton.find_matches_as_indexes
        # The automaton takes one text at a time; the loop does nothing else. Matches overlap: those
        # of "red apple" and "apple" both count, and two queries may share the space between them.
        hits = [
            sorted({hit[0] for hit in search(spaced_text(text or "", self.mode), overlapping=True)})
            for text in texts
        ]
        offsets = np.zeros(len(hits) + 1, dtype=np.int32)
        np.cumsum([len(patterns) for patterns in hits], out=offsets[1:])
        flat = np.fromiter((at for patterns in hits for at in patterns), np.int64, int(offsets[-1]))
        ids = pa.array(self.query_of_pattern[flat], QUERY_IDS.type.value_type)
        return pa.ListArray.from_arrays(pa.array(offsets), ids)


def spaced_text(text: str, mode: Mode) -> str:
    """The text as it is searched, spaces around every word and mark."""
    if mode == "metaclip":
        return f" {text.translate(_METACLIP)} "
    return f" {normalized(text)} "


def spaced_query(query: str, mode: Mode) -> str:
    """The query as it is searched for; `metaclip` leaves its marks as they are."""
    return f" {query} " if mode == "metaclip" else f" {normalized(query)} "


def normalized(text: str) -> str:
    """NFKC, case folded, every punctuation mark and symbol a word of its own, single spaces.

    Quotes of all shapes are one, and so are dashes.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().translate(_apart()).split())


@cache
def _apart() -> dict[int, str]:
    """Every mark (Unicode P and S) between spaces, dashes and quotes unified."""
    table = {}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category == "Pd":
            table[code] = " - "
        elif category in ("Pi", "Pf") or chr(code) in "\"'`\u201a\u201e":
            table[code] = " ' "
        elif category[0] in "PS":
            table[code] = f" {chr(code)} "
    return table


def _digest(queries: Sequence[str]) -> bytes:
    array = pa.array(queries, pa.large_string())
    digest = hashlib.blake2b(digest_size=16)
    for buffer in array.buffers()[1:]:
        digest.update(memoryview(buffer) if buffer is not None else b"")
    return digest.digest()
