"""Parts: rows split by their verdicts, written under the name of their content, then committed.

The order is what makes a kill harmless: first the files, named by digest so that writing them twice
does no harm; then `done/N.json`, which the first writer wins. Nothing here has a wall clock in it
but the `done` record's account of the run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.manifest import FileRef, Part, digest
from pipeline.dataset.verdict import LEDGER_FIELDS
from pipeline.errors import StageFailed
from pipeline.store.objects import Store

VERDICT = "verdict"
ROW_GROUP_ROWS = 1 << 18
SAMPLE_ROWS = 1_024
MAX_DICTIONARY = 64


@dataclass(frozen=True)
class Split:
    """Rows after their verdicts: the kept ones, and the dropped with the columns of the ledger."""

    kept: pa.Table
    dropped: pa.Table

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows each reason took."""
        if not self.dropped.num_rows:
            return {}
        counts = self.dropped["reason"].value_counts().to_pylist()
        return {row["values"]: row["counts"] for row in sorted(counts, key=lambda r: r["values"])}


def split(table: pa.Table, reasons: frozenset[str] | None) -> Split:
    """Split rows by their `verdict` column; a table without one is kept whole.

    Raises StageFailed on a reason that is not in the stage's closed list.
    """
    if VERDICT not in table.column_names:
        return Split(table, _ledger(table.slice(0, 0), None))
    kept = pc.is_null(table[VERDICT])
    rest = table.drop_columns([VERDICT])
    if pc.all(kept).as_py() in (True, None):
        return Split(rest, _ledger(rest.slice(0, 0), None))
    dropped = table.filter(pc.invert(kept))
    result = Split(rest.filter(kept), _ledger(dropped.drop_columns([VERDICT]), dropped[VERDICT]))
    unknown = set(result.reasons) - (reasons or frozenset())
    if unknown:
        raise StageFailed(f"dropped rows for reasons not on its list: {', '.join(sorted(unknown))}")
    return result


def _ledger(rows: pa.Table, verdicts: pa.ChunkedArray | None) -> pa.Table:
    for name in LEDGER_FIELDS:
        kind = pa.string() if name in ("reason", "evidence") else pa.float64()
        column = pa.nulls(0, kind) if verdicts is None else pc.struct_field(verdicts, name)
        rows = rows.append_column(name, column)
    return rows


def parquet_bytes(table: pa.Table) -> memoryview:
    """A table as Parquet with fixed settings: the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    # Bounds of texts cost time and nothing looks rows up by them; uids are looked up everywhere.
    # Pages need no checksums: a file is read after its digest has been checked, or not at all.
    keys = [each.name for each in table.schema if pa.types.is_fixed_size_binary(each.type)]
    pq.write_table(
        table.replace_schema_metadata(None),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=1,
        write_statistics=keys or False,
        use_dictionary=_repetitive(table),
        store_schema=True,
    )
    return memoryview(sink.getvalue())


def _repetitive(table: pa.Table) -> list[str]:
    """Text columns of few values: dictionaries pay there and cost time everywhere else."""
    head = table.slice(0, SAMPLE_ROWS)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    return [name for name in texts if pc.count_distinct(head[name]).as_py() <= MAX_DICTIONARY]


class PartWriter:
    """Writes and commits the parts of one stage's folder."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def file(self, kind: str, index: int, suffix: str, data: bytes | memoryview | Path) -> FileRef:
        """Write one file under the name of its content."""
        content = memoryview(data.read_bytes()) if isinstance(data, Path) else data
        name = digest(content)
        path = f"{kind}/{index:05d}-{name[:8]}.{suffix}"
        self._store.put(f"{self._folder}/{path}", content)
        return FileRef(path, name, len(content))

    def commit(self, kind: str, index: int, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Commit one partition; if another attempt was first, its record is the one that counts."""
        path = f"{self._folder}/{kind}/{index:05d}.json"
        if self._store.create(path, json.dumps(record, sort_keys=True).encode()):
            return record
        winner: Mapping[str, Any] = json.loads(bytes(self._store.get(path)))
        return winner

    def committed(self, kind: str) -> set[int]:
        """The indices that have a record."""
        paths = self._store.paths(f"{self._folder}/{kind}")
        return {int(Path(path).stem) for path in paths}

    def records(self, kind: str, indices: Sequence[int]) -> list[Mapping[str, Any]]:
        """The records of committed partitions, in order."""
        paths = (f"{self._folder}/{kind}/{index:05d}.json" for index in indices)
        return [json.loads(bytes(self._store.get(path))) for path in paths]


def part_record(part: Part, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A `done` record: the part, and the facts of this run that identity must not see."""
    return {**asdict(part), "run": dict(facts)}
