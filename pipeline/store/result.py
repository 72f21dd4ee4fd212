"""Finished stages, read from a store: rows, ledger, files, each checked against its digest.

A `Result` is a small value that travels to workers; it reads what it is asked for and no more.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.errors import DatasetError, UserError
from pipeline.dataset.manifest import FileRef, Manifest, Part, parquet_table
from pipeline.store.objects import Store


@dataclass(frozen=True, repr=False)
class Result:
    """A finished stage: its folder in a store."""

    store: Store
    folder: str

    @property
    def manifest(self) -> Manifest:
        """What the stage holds, read once in each process."""
        return _manifest(self.store.url, self.folder)

    @property
    def content_digest(self) -> str:
        """The digest that downstream keys build on."""
        return self.manifest.content_digest

    @property
    def where(self) -> str:
        """The folder as people find it: the store's path or URL, then the stage and key."""
        return f"{self.store.url}/{self.folder}"

    @property
    def local(self) -> Path:
        """The folder on disk, for readers that map files; UserError in a bucket."""
        path = self.store.local(self.folder)
        if path is None:
            raise UserError(f"{self.where} is not on a local disk; copy it to one")
        return path

    def __repr__(self) -> str:
        return f"<Result {self.where}>"

    def read(self, ref: FileRef) -> memoryview:
        """A whole file of the stage, after its digest has been checked."""
        data = self.store.get(f"{self.folder}/{ref.path}")
        ref.check(data, self.where)
        return data

    def rows(self, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The kept rows of one part."""
        return self._parquet(self.manifest.parts[index].files["parquet"], columns)

    def dropped(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The ledger, part by part: the rows' columns and reason, value, threshold, evidence."""
        for part in self.manifest.parts:
            if "dropped" in part.files:
                yield self._parquet(part.files["dropped"], columns)

    def find(self, column: str, value: object) -> tuple[pa.Table | None, pa.Table | None]:
        """The kept and the dropped rows where `column` equals `value`; None where there are none.

        Decodes only the row groups whose statistics admit the value.
        """
        return self._find("parquet", column, value), self._find("dropped", column, value)

    def seconds(self) -> float:
        """How long the parts took, summed over workers, from their records."""
        paths = (f"{self.folder}/done/{part.index:05d}.json" for part in self.manifest.parts)
        records = (json.loads(bytes(self.store.get(path))) for path in paths)
        return float(sum(record["run"]["seconds"] for record in records))

    def _find(self, suffix: str, column: str, value: object) -> pa.Table | None:
        tables = []
        for part in self.manifest.parts:
            if suffix not in part.files:
                continue
            data = self.read(part.files[suffix])
            rows = _matching(pq.ParquetFile(pa.BufferReader(pa.py_buffer(data))), column, value)
            if rows.num_rows:
                tables.append(rows)
        return pa.concat_tables(tables) if tables else None

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The kept rows of all parts: for small artifacts, not for datasets at scale."""
        parts = [self.rows(part.index, columns) for part in self.manifest.parts]
        return pa.concat_tables(parts)

    def ranges(
        self, part: Part, suffix: str, starts: Sequence[int], sizes: Sequence[int]
    ) -> list[bytes]:
        """Byte ranges of a file that stands beside a part (images in a pool)."""
        path = f"{self.folder}/{part.files[suffix].path}"
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        return [bytes(payload) for payload in self.store.get_ranges(path, starts, ends)]

    def _parquet(self, ref: FileRef, columns: Sequence[str] | None) -> pa.Table:
        return parquet_table(self.read(ref), None if columns is None else list(columns))


def _matching(file: pq.ParquetFile, column: str, value: object) -> pa.Table:
    """The rows of a file where `column` equals `value`, from row groups that can hold it."""
    groups = [
        group
        for group in range(file.num_row_groups)
        if _admits(file.metadata.row_group(group), column, value)
    ]
    rows = file.read_row_groups(groups, use_threads=False)
    return rows.filter(pc.equal(rows[column], pa.scalar(value, rows.schema.field(column).type)))


def _admits(group: pq.RowGroupMetaData, column: str, value: object) -> bool:
    columns = (group.column(number) for number in range(group.num_columns))
    bounds = next(chunk.statistics for chunk in columns if chunk.path_in_schema == column)
    if bounds is None or not bounds.has_min_max:
        return True
    return bool(bounds.min <= value <= bounds.max)


@lru_cache(maxsize=64)
def _manifest(url: str, folder: str) -> Manifest:
    try:
        return Manifest.from_json(bytes(Store(url).get(f"{folder}/manifest.json")))
    except DatasetError as error:
        raise type(error)(f"{url}/{folder}/{error}") from error
