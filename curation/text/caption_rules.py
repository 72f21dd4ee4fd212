"""Rules on the form of a caption: how long, how repetitive, how much of it is letters.

Every rule has its own reason, the value it measured and its bound. Meaning and language are judged
elsewhere. A bound of the loosest value turns a rule off.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.queries.match import matcher
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, Column
from pipeline.dataset.verdict import Judge, Mask, Reason

NEEDS: tuple[Column, ...] = (CAPTION,)
ADDS: tuple[Column, ...] = ()

Numbers = npt.NDArray[np.float64]


class RuleReason(Reason):
    """The rule that a caption fails."""

    TOO_FEW_WORDS = "too_few_words", "too few words"
    TOO_MANY_WORDS = "too_many_words", "too many words"
    TOO_FEW_CHARS = "too_few_chars", "too short"
    TOO_MANY_CHARS = "too_many_chars", "too long"
    TOO_MANY_SYMBOLS = "too_many_symbols", "more symbols than text"
    CHARS_REPEAT = "chars_repeat", "the same run of characters again and again"
    WORDS_REPEAT = "words_repeat", "the same words again and again"
    BLOCKED_WORD = "blocked_word", "contains a word or phrase of the blocklist"


class RuleParams(Params):
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


def rules(table: pa.Table, params: RuleParams) -> pa.Table:
    """The table with its `verdict`: the first rule of the list that a caption fails."""
    texts = table["caption"].combine_chunks().cast(pa.string()).fill_null("")
    chars = np.asarray(pc.utf8_length(texts), float)
    words, repeated_words = _words(texts)
    judge = Judge(table)
    _at_least(judge, words, params.min_words, RuleReason.TOO_FEW_WORDS)
    _at_most(judge, words, params.max_words, RuleReason.TOO_MANY_WORDS)
    _at_least(judge, chars, params.min_chars, RuleReason.TOO_FEW_CHARS)
    _at_most(judge, chars, params.max_chars, RuleReason.TOO_MANY_CHARS)
    symbols = _num_symbols(texts) / np.maximum(chars, 1)
    _at_most(judge, symbols, params.max_symbol_share, RuleReason.TOO_MANY_SYMBOLS)
    repeated = _char_repetition(texts, params.char_ngram, judge.kept)
    _at_most(judge, repeated, params.max_char_repetition, RuleReason.CHARS_REPEAT)
    _at_most(judge, repeated_words, params.max_word_repetition, RuleReason.WORDS_REPEAT)
    if params.blocklist:
        _block(judge, texts, params.blocklist)
    return judge.table()


def _at_least(judge: Judge, values: Numbers, bound: float, reason: RuleReason) -> None:
    judge.drop(values < bound, reason, values, bound)


def _at_most(judge: Judge, values: Numbers, bound: float, reason: RuleReason) -> None:
    judge.drop(values > bound, reason, values, bound)


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
    """The share of runs of `length` characters that occurred before in the text, of the asked."""
    share = np.zeros(len(texts))
    long_enough = np.asarray(pc.utf8_length(texts)) > length
    # Runs of one text are few and those of a table many: a set per row beats a sort of them all.
    for row in np.flatnonzero(among & long_enough):
        text = texts[int(row)].as_py()
        runs = len(text) - length + 1
        share[row] = 1.0 - len({text[i : i + length] for i in range(runs)}) / runs
    return share


def _block(judge: Judge, texts: pa.Array, blocklist: tuple[str, ...]) -> None:
    found = matcher(blocklist, "normalized").match(texts.to_pylist())
    hits = np.diff(np.asarray(found.offsets))
    values, starts = np.asarray(found.values), np.asarray(found.offsets)[:-1]
    evidence = np.full(len(texts), None, dtype=object)
    blocked = hits > 0
    evidence[blocked] = [blocklist[i][:200] for i in values[starts[blocked]]]
    judge.drop(blocked, RuleReason.BLOCKED_WORD, hits, 0.0, evidence)
