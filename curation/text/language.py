"""The language of a caption, by fastText's lid.176 model, and a policy fit for a few words.

Identification is weak on captions of one to three words: "red apple" scores 0.26 as English. So
short captions are turned away only if the kept languages are out of the question or another
language is sure. The model ships beside this module; nothing is downloaded.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fasttext
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, LANGUAGE, LANGUAGE_SCORE
from pipeline.dataset.verdict import Judge, Mask, Reason

NEEDS: tuple[Column, ...] = (CAPTION,)
ADDS: tuple[Column, ...] = (LANGUAGE, LANGUAGE_SCORE)

_MODEL = Path(__file__).parent / "assets" / "lid.176.ftz"
_TOP = 5
_LABEL = len("__label__")
# The languages of lid.176 that are not written in Latin letters.
_NOT_LATIN_CODES = """
am ar arz as av azb ba be bg bh bn bo bpy bxr ce ckb cv dty dv el fa gom gu he hi hy ja ka
kk km kn ko krc kv ky lez lo mai mhr mk ml mn mr mrj my myv mzn ne new or os pa pnb ps ru sa
sah sd si sr ta te tg th tt tyv ug uk ur wuu xal xmf yi yue zh
"""
_NOT_LATIN = frozenset(_NOT_LATIN_CODES.split())


class LanguageReason(Reason):
    """Why a caption is not taken for one of the kept languages."""

    OTHER_SCRIPT = "other_script", "written in a script that no kept language uses"
    OTHER_LANGUAGE = "other_language", "in another language"
    UNCERTAIN_LANGUAGE = "uncertain_language", "too little sign of a kept language"


class LanguageParams(Params):
    """Which languages are kept and how sure one must be, by the length of the caption."""

    keep: tuple[str, ...] = Field(("en",), min_length=1)
    """Languages that are kept, as lid.176 names them (ISO 639)."""
    min_score: float = Field(0.2, ge=0, le=1)
    """Least probability of the kept languages together."""
    short_words: int = Field(3, ge=0)
    """Captions of at most this many words go by the bounds below instead."""
    min_short_score: float = Field(0.05, ge=0, le=1)
    """Least probability of the kept languages together, unless no rival has twice as much."""
    max_rival_score: float = Field(0.5, ge=0, le=1)
    """A rival this probable wins in any case; a rival is another language of the same script."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """Per caption: the likeliest language and its probability, the kept languages', the rival's."""

    top: npt.NDArray[np.object_]
    best: npt.NDArray[np.float64]
    kept: npt.NDArray[np.float64]
    rival: npt.NDArray[np.float64]


def language(table: pa.Table, params: LanguageParams) -> pa.Table:
    """Adds `language` (the likeliest, '' if none), `language_score` (its probability), `verdict`.

    The value of a verdict is the probability of the kept languages among the five likeliest, or of
    the rival, if that decided; the evidence is the likeliest language.
    """
    texts = table["caption"].combine_chunks().cast(pa.string()).fill_null("")
    keep_latin = not _NOT_LATIN.intersection(params.keep)
    scores = _scores(texts.to_pylist(), params.keep, _NOT_LATIN if keep_latin else frozenset())
    values = {
        LANGUAGE: pa.array(scores.top, LANGUAGE.type),
        LANGUAGE_SCORE: pa.array(scores.best, LANGUAGE_SCORE.type),
    }
    judge = Judge(put(table, values))
    if keep_latin:
        latin = _latin_share(texts)
        judge.drop(latin < 0.5, LanguageReason.OTHER_SCRIPT, latin, 0.5, scores.top)
    _judge_scores(judge, scores, _num_words(texts) <= params.short_words, params)
    return judge.table()


def _judge_scores(judge: Judge, scores: _Scores, short: Mask, params: LanguageParams) -> None:
    threshold = np.where(short, params.min_short_score, params.min_score)
    faint = short & (scores.rival < 2 * params.min_short_score)
    weak = (scores.kept < threshold) & ~faint
    foreign = ~np.isin(scores.top, params.keep)
    other, uncertain = LanguageReason.OTHER_LANGUAGE, LanguageReason.UNCERTAIN_LANGUAGE
    judge.drop(weak & foreign, other, scores.kept, threshold, scores.top)
    judge.drop(weak, uncertain, scores.kept, threshold, scores.top)
    most = params.max_rival_score
    judge.drop(short & (scores.rival >= most), other, scores.rival, most, scores.top)


@cache
def _model() -> "fasttext.FastText._FastText":
    return fasttext.load_model(str(_MODEL))


def _scores(texts: list[str], keep: tuple[str, ...], not_rivals: frozenset[str]) -> _Scores:
    rows = len(texts)
    top = np.full(rows, "", dtype=object)
    best, kept, rival = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    # The model takes a newline for the end of its input; called with a list, it answers with lists
    # of uneven lengths, which are read row by row.
    lines = [" ".join(text.split()) for text in texts]
    labels, values = _model().predict(lines, k=_TOP) if lines else ([], [])
    for row, answer in enumerate(zip(labels, values, strict=True)):
        for label, value in zip(*answer, strict=True):
            name, score = label[_LABEL:], min(float(value), 1.0)
            if score > best[row]:
                top[row], best[row] = name, score
            if name in keep:
                kept[row] = min(kept[row] + score, 1.0)
            elif name not in not_rivals:
                rival[row] = max(rival[row], score)
    return _Scores(top, best, kept, rival)


def _num_words(texts: pa.Array) -> npt.NDArray[np.int64]:
    words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts))
    counts: npt.NDArray[np.int64] = np.asarray(pc.list_value_length(words), dtype=np.int64)
    return counts


def _latin_share(texts: pa.Array) -> npt.NDArray[np.float64]:
    """Latin letters among all letters; 1 where there are none."""
    letters = pc.utf8_length(pc.replace_substring_regex(texts, r"\PL+", ""))
    latin = pc.utf8_length(pc.replace_substring_regex(texts, r"\P{Latin}+", ""))
    total: npt.NDArray[np.float64] = np.asarray(letters, float)
    share: npt.NDArray[np.float64] = np.ones(len(total))
    np.divide(np.asarray(latin, float), total, out=share, where=total > 0)
    return share
