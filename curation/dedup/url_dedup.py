"""Duplicates by address: of the rows that share a canonical URL, the one of the smallest uid stays.

All rows of a canonical URL must be in one table; no others change their verdicts.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dedup.survivors import Index, hex_digits, survivors
from curation.web.urls import canonical_urls
from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, UID, URL, URL_COPIES
from pipeline.dataset.verdict import Judge, Mask, Reason

NEEDS: tuple[Column, ...] = (UID, URL, CAPTION)
ADDS: tuple[Column, ...] = (URL_COPIES,)


class UrlReason(Reason):
    """What a pair repeats."""

    DUPLICATE_PAIR = "duplicate_pair", "the same image address with the same caption"
    DUPLICATE_URL = "duplicate_url", "the same image address with another caption"


class UrlDedupParams(Params):
    """No choice is offered: the key is `canonical_url`, the survivor the least uid."""


def url_dedup(table: pa.Table, params: UrlDedupParams) -> pa.Table:
    """The rows with `url_copies` and verdicts of `UrlReason`: one row of every canonical URL stays.

    `url_copies` is the number of rows that share the row's URL, also on the rows that are dropped.
    The value of a verdict is that number, its evidence the survivor's uid in hex; the reason says
    whether the survivor has the same caption. A null URL equals no other.
    """
    survivor, copies = survivors(canonical_urls(table["url"]), table["uid"])
    judge = Judge(put(table, {URL_COPIES: pa.array(copies, URL_COPIES.type)}))
    repeats = survivor != np.arange(table.num_rows)
    evidence = hex_digits(table["uid"])[survivor]
    same = _same_caption(table, survivor)
    judge.drop(repeats & same, UrlReason.DUPLICATE_PAIR, copies, 1.0, evidence)
    judge.drop(repeats, UrlReason.DUPLICATE_URL, copies, 1.0, evidence)
    return judge.table()


def _same_caption(table: pa.Table, survivor: Index) -> Mask:
    captions = table["caption"].combine_chunks()
    same = pc.equal(captions, captions.take(pa.array(survivor))).fill_null(False)
    return np.asarray(same, dtype=bool)
