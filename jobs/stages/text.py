"""The text stages: from web pages to a balanced list of pairs, before any image is asked for.

Each function here only hands a partition to a pure rule of `curation`; the rule is where to read
what is done.
"""

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from curation.dedup.url_dedup import UrlDedupParams, UrlReason, url_dedup
from curation.queries import balance, match
from curation.text import caption_rules, language, repair
from curation.web import extract, urls
from pipeline.dataset.errors import UserError
from pipeline.dataset.params import Params
from pipeline.inputs import Files
from pipeline.stage import KEY, Exchange, Fold, Map, Output, Stage, Task
from pipeline.store.result import Result

ROWS_PER_BUCKET = 500_000


def _extract(task: Task) -> Output:
    assert isinstance(task.upstream, Files)
    name = task.upstream.files[task.index].name
    with task.upstream.open(task.index) as source:
        try:
            return Output(extract.extract(source, name, task.params))
        except extract.NotAWarc as error:
            raise UserError(str(error)) from None


def _captions(task: Task) -> Output:
    return Output(repair.captions(task.table, task.params))


def _language(task: Task) -> Output:
    return Output(language.language(task.table, task.params))


def _rules(task: Task) -> Output:
    return Output(caption_rules.caption_rules(task.table, task.params))


def _by_url(table: pa.Table, params: UrlDedupParams) -> pa.Table:
    keys = urls.canonical_urls(table["url"]).to_pylist()
    # A digest a row: Arrow has no stable hash to offer, and canonical URLs are made row by row
    # anyway.
    digests = [hashlib.blake2b(key.encode(), digest_size=16).digest() for key in keys]
    return table.append_column(KEY, pa.array(digests, pa.binary(16)))


def _url_dedup(task: Task) -> Output:
    return Output(url_dedup(task.table, task.params))


def _match(task: Task) -> Output:
    queries = task.sides["queries"]
    assert isinstance(queries, Files)
    return Output(match.match(task.table, queries.lines(), task.params))


def _count(task: Task) -> pa.Table:
    queries = task.sides["queries"]
    assert isinstance(queries, Files)
    return balance.count(task.table, len(queries.lines()))


def _merge_counts(tables: Iterable[pa.Table], params: Params) -> pa.Table:
    return balance.merge_counts(tables)


def _balance(task: Task) -> Output:
    counts = task.sides["counts"]
    assert isinstance(counts, Result)
    return Output(balance.balance(task.table, counts.table(), task.params))


def _buckets(rows: int, params: Params) -> int:
    return -(-rows // ROWS_PER_BUCKET)


STAGES = (
    Stage(
        name="extract",
        version=1,
        summary="Candidate pairs from the <img> tags of web pages in WARC files",
        params=extract.ExtractParams,
        shape=Map(_extract),
        reasons=extract.ExtractReason,
        reads="pages",
        modules=("curation.web.extract", "curation.web.images", "curation.web.warc"),
    ),
    Stage(
        name="captions",
        version=1,
        summary="Repair captions (mojibake, entities, white space) and drop ones that say nothing",
        params=repair.CaptionParams,
        shape=Map(_captions),
        reasons=repair.CaptionReason,
        modules=("curation.text.repair",),
    ),
    Stage(
        name="language",
        version=1,
        summary="Identify each caption's language and keep the wanted ones",
        params=language.LanguageParams,
        shape=Map(_language),
        reasons=language.LanguageReason,
        modules=("curation.text.language",),
    ),
    Stage(
        name="rules",
        version=1,
        summary="Length, repetition, symbol and block-list rules on captions",
        params=caption_rules.CaptionRuleParams,
        shape=Map(_rules),
        reasons=caption_rules.CaptionRuleReason,
        modules=("curation.text.caption_rules",),
    ),
    Stage(
        name="url-dedup",
        version=1,
        summary="One pair for every image URL, spelled whichever way",
        params=UrlDedupParams,
        shape=Exchange(_by_url, _url_dedup, _buckets),
        reasons=UrlReason,
        modules=("curation.dedup.url_dedup", "curation.web.urls"),
    ),
    Stage(
        name="match",
        version=1,
        summary="Match captions against the query list; drop those that match none",
        params=match.MatchParams,
        shape=Map(_match),
        reasons=match.MatchReason,
        sides={"queries": "queries"},
        modules=("curation.queries.match",),
    ),
    Stage(
        name="count",
        version=1,
        summary="How many pairs match each query",
        params=Params,
        shape=Fold(_count, _merge_counts),
        conserves=False,
        sides={"queries": "queries"},
        modules=("curation.queries.balance",),
    ),
    Stage(
        name="balance",
        version=1,
        summary="At most about t pairs a query: keep each pair by a coin that is a hash of its uid",
        params=balance.BalanceParams,
        shape=Map(_balance),
        reasons=balance.BalanceReason,
        sides={"counts": "count"},
        modules=("curation.queries.balance", "pipeline.dataset.uid"),
    ),
)
