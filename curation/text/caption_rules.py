"""Rules on the form of a caption: how long, how repetitive, how much of it is letters.

Every rule has its own reason, the value it measured and its bound; all but the blocklist are one
entry of a table. A bound of the loosest value turns a rule off.
"""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.bounds import Bound, Numbers, at_least, at_most
from curation.queries.automaton import matcher
from pipeline.dataset.column import Column
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION
from pipeline.dataset.verdict import Judge, Mask, Reason

NEEDS: tuple[Column, ...] = (CAPTION,)
ADDS: tuple[Column, ...] = ()


class CaptionRuleReason(Reason):
    """The rule that a caption fails."""

    TOO_FEW_WORDS = "too_few_words", "too few words"
    TOO_MANY_WORDS = "too_many_words", "too many words"
    TOO_FEW_CHARS = "too_few_chars", "too short"
    TOO_MANY_CHARS = "too_many_chars", "too long"
    TOO_MANY_SYMBOLS = "too_many_symbols", "more symbols than text"
    CHARS_REPEAT = "chars_repeat", "the same run of characters again and again"
    WORDS_REPEAT = "words_repeat", "the same words again and again"
    BLOCKED_WORD = "blocked_word", "contains a word or phrase of the blocklist"


class CaptionRuleParams(Params):
    """The bounds; the defaults let ordinary captions of one word pass."""

    min_words: int = Field(1, ge=0)
    """Fewest words, split at white space."""
    max_words: int = Field(256, ge=1)
    """Most words, split at white space."""
    min_chars: int = Field(2, ge=0)
    """Fewest characters."""
    max_chars: int = Field(2000, ge=1)
    """Most characters."""
    max_symbol_share: float = Field(0.5, ge=0, le=1)
    """Largest share of characters that are no letter, mark, number or space."""
    char_ngram: int = Field(10, ge=1)
    """Length of the runs of characters that max_char_repetition counts."""
    max_char_repetition: float = Field(0.5, ge=0, le=1)
    """Largest share of runs of characters that occurred before in the caption."""
    max_word_repetition: float = Field(0.7, ge=0, le=1)
    """Largest share of words that occurred before in the caption."""
    blocklist: tuple[str, ...] = ()
    """Words and phrases that no caption may contain, without regard to case and marks."""


class _Captions:
    """The quantities that rules bound, one value per caption."""

    def __init__(self, texts: pa.Array, char_ngram: int, judge: Judge) -> None:
        self._texts, self._char_ngram, self._judge = texts, char_ngram, judge

    def num_words(self) -> Numbers:
        """Words, split at white space."""
        return self._words[0]

    def num_chars(self) -> Numbers:
        """Characters."""
        return np.asarray(pc.utf8_length(self._texts), float)

    def symbol_share(self) -> Numbers:
        """The share of characters that are no letter, mark, number or space."""
        share: Numbers = _num_symbols(self._texts) / np.maximum(self.num_chars(), 1)
        return share

    def char_repetition(self) -> Numbers:
        """The share of runs of characters that repeat; 0 for captions that have a reason already.

        Those are spared, because this is done in Python, caption by caption.
        """
        return _char_repetition(self._texts, self._char_ngram, self._judge.kept)

    def word_repetition(self) -> Numbers:
        """The share of words that occurred before in the caption, whatever their case."""
        return self._words[1]

    @cached_property
    def _words(self) -> tuple[Numbers, Numbers]:
        return _words(self._texts)


_RULES = (
    Bound("min_words", at_least, _Captions.num_words, CaptionRuleReason.TOO_FEW_WORDS),
    Bound("max_words", at_most, _Captions.num_words, CaptionRuleReason.TOO_MANY_WORDS),
    Bound("min_chars", at_least, _Captions.num_chars, CaptionRuleReason.TOO_FEW_CHARS),
    Bound("max_chars", at_most, _Captions.num_chars, CaptionRuleReason.TOO_MANY_CHARS),
    Bound("max_symbol_share", at_most, _Captions.symbol_share, CaptionRuleReason.TOO_MANY_SYMBOLS),
    Bound(
        "max_char_repetition", at_most, _Captions.char_repetition, CaptionRuleReason.CHARS_REPEAT
    ),
    Bound(
        "max_word_repetition", at_most, _Captions.word_repetition, CaptionRuleReason.WORDS_REPEAT
    ),
)


def caption_rules(table: pa.Table, params: CaptionRuleParams) -> pa.Table:
    """The table with its `verdict`: the first rule of the list that a caption fails."""
    texts = table["caption"].combine_chunks().cast(pa.string()).fill_null("")
    judge = Judge(table)
    captions = _Captions(texts, params.char_ngram, judge)
    for rule in _RULES:
        rule.apply(judge, captions, params)
    if params.blocklist:
        _block(judge, texts, params.blocklist)
    return judge.table()


def _words(texts: pa.Array) -> tuple[Numbers, Numbers]:
    """The number of words of every text, and the share of them that occurred before in it."""
    trimmed = pc.utf8_trim_whitespace(pc.utf8_lower(texts))
    import polars as pl  # a tenth of a second that commands which judge nothing do not spend

    lists = pl.Series(pc.utf8_split_whitespace(trimmed), dtype=pl.List(pl.String))
    words = lists.list.len().to_numpy().astype(float)
    distinct = lists.list.n_unique().to_numpy().astype(float)
    repeated = 1.0 - distinct / np.maximum(words, 1)
    empty = np.asarray(pc.equal(trimmed, ""), bool)
    return np.where(empty, 0.0, words), repeated


def _num_symbols(texts: pa.Array) -> Numbers:
    return np.asarray(
        pc.utf8_length(pc.replace_substring_regex(texts, r"[\pL\pM\pN\pZ\s]+", "")), float
    )


def _char_repetition(texts: pa.Array, length: int, among: Mask) -> Numbers:
    """The share of runs of `length` characters that occurred before in the text, where `among`."""
    share = np.zeros(len(texts))
    long_enough = np.asarray(pc.utf8_length(texts)) > length
    # Runs of one text are few and those of a table many: a set per row beats a sort of them all.
    for row in np.flatnonzero(among & long_enough):
        text = texts[int(row)].as_py()
        runs = len(text) - length + 1
        share[row] = 1.0 - len({text[i : i + length] for i in range(runs)}) / runs
    return share


def _block(judge: Judge, texts: pa.Array, blocklist: tuple[str, ...]) -> None:
    """Drop captions that contain a phrase; evidence is the first of the list that they contain."""
    matches = matcher(blocklist, "normalized").match(texts.to_pylist())
    phrases, offsets = np.asarray(matches.values), np.asarray(matches.offsets)
    num_matches = np.diff(offsets)
    blocked = num_matches > 0
    evidence = np.full(len(texts), None, dtype=object)
    evidence[blocked] = [blocklist[i][:200] for i in phrases[offsets[:-1][blocked]]]
    judge.drop(blocked, CaptionRuleReason.BLOCKED_WORD, num_matches, 0.0, evidence)
