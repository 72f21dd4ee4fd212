"""The contract of columns: every stage function reads what it needs and adds what it says.

Each is given a table of nothing but the columns that it needs, and then what it kept once more, as
a recipe does that names a stage twice.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup import image_dedup, near_dedup, neighbours, url_dedup
from curation.fetch import pool
from curation.images import image_rules
from curation.pack import shard
from curation.queries import balance, match
from curation.text import caption_rules, language, repair
from curation.web import extract
from pipeline.dataset import schema
from pipeline.dataset.column import Column, put, schema_of
from pipeline.dataset.schema import SIDECAR
from pipeline.dataset.verdict import VERDICT
from tests.support.misbehaving import serving
from tests.support.pictures import encode, photo

Rows = list[dict[str, object]]

PICTURES = [encode(photo(seed, 48, 40)) for seed in range(3)] + [b"no picture"]
WORDS = st.sampled_from(["dog", "a red apple", "caf&eacute;", "IMG_2034.jpg", "Berlin", "", None])
VALUES: dict[Column, st.SearchStrategy[object]] = {
    schema.UID: st.binary(min_size=16, max_size=16),
    schema.URL: st.sampled_from(["http://a.example/1.jpg", "http://www.a.example/1.jpg", "x"]),
    schema.CAPTION: st.one_of(WORDS, st.text(max_size=30)),
    schema.LANGUAGE: st.sampled_from(["en", "de"]),
    schema.SHA256: st.sampled_from([b"a" * 32, b"b" * 32]),
    schema.QUERY_IDS: st.one_of(st.none(), st.lists(st.integers(0, 2), unique=True)),
    schema.PHASH: st.one_of(st.none(), st.sampled_from([0, 1, 3, 1 << 40])),
    schema.COLOURS: st.sampled_from([bytes(48), bytes([9] * 48)]),
    schema.WIDTH: st.integers(1, 5),
    schema.HEIGHT: st.integers(1, 5),
}
QUERIES = ("dog", "apple", "cafe")
COUNTS = pa.table(
    [pa.array([0, 1, 2], pa.uint32()), pa.array([9, 1, 0])], schema_of(balance.COUNTS)
)
EDGES = pa.table(
    [
        pa.array([bytes(16)], pa.binary(16)),
        pa.array([b"\1" * 16], pa.binary(16)),
        pa.array([2], pa.int8()),
        pa.array([4], pa.int64()),
        pa.array([5], pa.int64()),
    ],
    schema=schema_of(schema.EDGES),
)


def pictures(rows: pa.Table) -> list[bytes]:
    """A picture for each row, some of which cannot be decoded."""
    return [PICTURES[n % len(PICTURES)] for n in range(rows.num_rows)]


def packed(table: pa.Table) -> pa.Table:
    """The sidecar of the rows' shard."""
    text = table["caption"].fill_null("")
    table = table.set_column(table.column_names.index("caption"), "caption", text)
    tokens = [np.array([7, 8], np.uint16)] * table.num_rows
    return shard.pack(table, pictures(table), tokens, shard.PackParams()).table


@dataclass(frozen=True)
class Case:
    """A stage function that gives its rows back, and what its module declares of it."""

    needs: tuple[Column, ...]
    adds: tuple[Column, ...]
    run: Callable[[pa.Table], pa.Table]


CASES = {
    "captions": Case(
        repair.NEEDS, repair.ADDS, lambda t: repair.captions(t, repair.CaptionParams())
    ),
    "language": Case(
        language.NEEDS, language.ADDS, lambda t: language.language(t, language.LanguageParams())
    ),
    "rules": Case(
        caption_rules.NEEDS,
        caption_rules.ADDS,
        lambda t: caption_rules.caption_rules(
            t, caption_rules.CaptionRuleParams(blocklist=("pear",))
        ),
    ),
    "url-dedup": Case(
        url_dedup.NEEDS,
        url_dedup.ADDS,
        lambda t: url_dedup.url_dedup(t, url_dedup.UrlDedupParams()),
    ),
    "match": Case(match.NEEDS, match.ADDS, lambda t: match.match(t, QUERIES, match.MatchParams())),
    "balance": Case(
        balance.NEEDS,
        balance.ADDS,
        lambda t: balance.balance(t, COUNTS, balance.BalanceParams(t=1)),
    ),
    "image-rules": Case(
        (schema.UID,),
        image_rules.ADDS,
        lambda t: image_rules.image_rules(t, pictures, image_rules.ImageRuleParams()),
    ),
    "image-dedup": Case(
        image_dedup.NEEDS,
        image_dedup.ADDS,
        lambda t: image_dedup.image_dedup(t, image_dedup.ImageDedupParams()),
    ),
    "near-dedup": Case(
        near_dedup.NEEDS,
        near_dedup.ADDS,
        lambda t: near_dedup.near_dedup(t, EDGES, near_dedup.NearDedupParams()),
    ),
    "shard": Case(shard.NEEDS, shard.ADDS, packed),
}


def tables(needs: tuple[Column, ...]) -> st.SearchStrategy[pa.Table]:
    """Tables of these columns, rows in the order of their uids where they have one."""
    row = st.fixed_dictionaries({column.name: VALUES[column] for column in needs})
    key = "uid" if schema.UID in needs else None

    def table(rows: Rows) -> pa.Table:
        made = pa.Table.from_pylist(rows, schema=schema_of(needs))
        return made.sort_by(key) if key else made

    unique = (lambda row: row[key]) if key else None
    return st.lists(row, max_size=8, unique_by=unique).map(table)


def kept(judged: pa.Table) -> pa.Table:
    """The rows without a verdict, as the next stage is given them."""
    return judged.filter(pc.is_null(judged["verdict"])).drop_columns(["verdict"])


def expected_columns(table: pa.Table, case: Case) -> list[str]:
    """What the table had and what is new, in order; a sidecar's columns come last together."""
    added = [column.name for column in case.adds]
    moved = added if case.adds == SIDECAR else []
    before = [name for name in table.column_names if name not in moved]
    return before + [name for name in added if name not in before]


def check(table: pa.Table, case: Case) -> pa.Table:
    """The verdicts of a stage function on a table, its columns checked."""
    judged = case.run(table)
    assert judged.column_names == [*expected_columns(table, case), "verdict"]
    assert judged.num_rows == table.num_rows
    assert judged.schema.field("verdict").type == VERDICT
    for column in case.adds:
        assert judged.schema.field(column.name).type == column.type
    return judged


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_stage_adds_what_it_declares_and_may_run_again_on_what_it_kept(
    name: str, data: st.DataObject
) -> None:
    case = CASES[name]
    first = kept(check(data.draw(tables(case.needs)), case))
    again = check(first, case)
    assert again.column_names == [*first.column_names, "verdict"] or case.adds == SIDECAR
    assert len(set(again.column_names)) == len(again.column_names)


@settings(max_examples=25, deadline=None)
@given(tables(neighbours.NEEDS))
def test_neighbours_need_no_other_columns_and_give_edges(table: pa.Table) -> None:
    edges = neighbours.neighbours(neighbours.by_chunk(table), neighbours.NeighbourParams())
    assert edges.schema == schema_of(neighbours.ADDS)


@settings(max_examples=25, deadline=None)
@given(tables(balance.COUNT_NEEDS))
def test_counting_needs_no_other_columns_and_gives_counts(table: pa.Table) -> None:
    assert balance.count(table, len(QUERIES)).schema == schema_of(balance.COUNTS)


def test_extraction_needs_nothing_and_gives_pairs() -> None:
    record = b"WARC/1.0\r\nWARC-Type: request\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
    judged = extract.extract(io.BytesIO(record), "x.warc", extract.ExtractParams())
    assert extract.NEEDS == ()
    assert kept(judged).schema == schema_of(extract.ADDS)


def test_fetching_adds_what_it_declares_and_may_run_again() -> None:
    urls = ["http://a.example/ok", "http://b.example/ok", "ftp://c.example/ok"]
    rows = [{"uid": bytes([n]) * 16, "url": url} for n, url in enumerate(urls)]
    table = pa.Table.from_pylist(rows, schema=schema_of(pool.NEEDS))
    params = pool.FetchParams()
    with serving() as server:
        network = pool.Network(connect_to=f"127.0.0.1:{server.server_port}")
        case = Case(pool.NEEDS, pool.ADDS, lambda t: pool.fetch(t, params, network, 3).table)
        first = kept(check(table, case))
        assert first.num_rows == 2
        assert check(first, case).column_names == [*first.column_names, "verdict"]


def test_repair_that_runs_again_keeps_the_caption_before_its_first_change() -> None:
    table = pa.table({"caption": pa.array(["caf&eacute;", "a dog", None], pa.string())})
    once = repair.captions(table, repair.CaptionParams()).drop_columns(["verdict"])
    assert once["raw_caption"].to_pylist() == ["caf&eacute;", None, None]
    changed = pa.array(["caf\u00e9  bar", "a  dog", "x"], pa.string())
    edited = put(once, {schema.CAPTION: changed})
    again = repair.captions(edited, repair.CaptionParams())
    assert again["caption"].to_pylist() == ["caf\u00e9 bar", "a dog", "x"]
    assert again["raw_caption"].to_pylist() == ["caf&eacute;", "a  dog", None]
