"""What a report reads of the parts of a build: drawn rows, and tallies of columns.

Parts are read one at a time and only for the columns at hand. Rows are drawn by the smallest keyed
hashes of their uids, so the same content always shows the same rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.manifest import Part
from pipeline.dataset.uid import keyed_uniform
from pipeline.store.result import Result

Row = dict[str, Any]

SEED = 0
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*:[/\\]*(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)"
_PLACE = ("pool_part", "pool_offset", "pool_size")
_SHOWN = (
    *("uid", "url", "caption", "language", "language_score", "query_ids", "width", "height"),
    *("http_status", *_PLACE, "image_offset", "image_size"),
    *("reason", "value", "threshold", "evidence"),
)


def read(dataset: Result, part: Part, suffix: str, columns: Sequence[str]) -> pa.Table:
    """Those of the columns that a part's kept ("parquet") or "dropped" rows have."""
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(dataset.read(part.files[suffix]))))
    return file.read([name for name in columns if name in file.schema_arrow.names])


def tables(dataset: Result, suffixes: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The parts one after the other, kept and/or dropped rows, as far as they have the columns."""
    for part in dataset.manifest.parts:
        for suffix in suffixes:
            if suffix in part.files:
                table = read(dataset, part, suffix, columns)
                if table.num_columns == len(columns):
                    yield table


def tally(columns: Iterable[pa.ChunkedArray]) -> Counter[Any]:
    """How often each value occurs."""
    counts: Counter[Any] = Counter()
    for column in columns:
        pairs = pc.value_counts(column)
        values, numbers = pairs.field("values").to_pylist(), pairs.field("counts").to_pylist()
        counts.update(dict(zip(values, numbers, strict=True)))
    return counts


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names with their counts, the largest first and equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """The host of every URL in small letters; "" where there is none."""
    host = pc.struct_field(pc.extract_regex(urls, _HOST), "host")
    return pc.utf8_lower(pc.fill_null(host, ""))


@dataclass(frozen=True)
class Drawn:
    """A row that was drawn, and the part that it lies in."""

    part: Part
    row: Row


def draw(
    dataset: Result, suffix: str, number: int, by: str | None = None
) -> dict[str, list[Drawn]]:
    """For every value of the column `by` (or ""), the `number` rows with the smallest hashes."""
    picks: dict[str, list[tuple[float, int, int]]] = {}
    columns = ["uid", by] if by else ["uid"]
    for place, part in enumerate(dataset.manifest.parts):
        if suffix not in part.files:
            continue
        for group, coins, rows in _smallest(read(dataset, part, suffix, columns), number, by):
            # As (coin, part, row), so that sorting puts the smallest coins first.
            more = zip(coins.tolist(), [place] * len(rows), rows.tolist(), strict=True)
            picks[group] = sorted([*picks.get(group, []), *more])[:number]
    return _fetch_rows(dataset, suffix, picks)


def _smallest(
    table: pa.Table, number: int, by: str | None
) -> Iterator[tuple[str, npt.NDArray[np.float64], npt.NDArray[np.intp]]]:
    if not table.num_rows:
        return
    coins = keyed_uniform(SEED, "report", table["uid"])
    groups = table[by].to_numpy() if by else np.full(table.num_rows, "", object)
    order = np.argsort(coins, kind="stable")
    for group in sorted(set(groups.tolist())):
        rows = order[groups[order] == group][:number]
        yield group, coins[rows], rows


def _fetch_rows(
    dataset: Result, suffix: str, picks: Mapping[str, Sequence[tuple[float, int, int]]]
) -> dict[str, list[Drawn]]:
    """The rows at these (coin, part, row), by group; each part is read once."""
    parts = dataset.manifest.parts
    wanted: dict[int, set[int]] = defaultdict(set)
    for group in picks.values():
        for _, place, index in group:
            wanted[place].add(index)
    rows: dict[tuple[int, int], Row] = {}
    for place in sorted(wanted):
        indices = sorted(wanted[place])
        shown = read(dataset, parts[place], suffix, _SHOWN).take(pa.array(indices)).to_pylist()
        rows |= {(place, index): row for index, row in zip(indices, shown, strict=True)}
    return {
        name: [Drawn(parts[place], rows[place, index]) for _, place, index in group]
        for name, group in picks.items()
    }


def rows_of(dataset: Result, uids: Iterable[bytes]) -> dict[bytes, Drawn]:
    """The kept rows of these uids."""
    wanted = pa.array(sorted(set(uids)), pa.binary(16))
    rows: dict[bytes, Drawn] = {}
    for part in dataset.manifest.parts:
        table = read(dataset, part, "parquet", _SHOWN)
        if table.num_rows:
            matching = table.filter(pc.is_in(table["uid"], value_set=wanted))
            rows |= {row["uid"]: Drawn(part, row) for row in matching.to_pylist()}
    return rows
