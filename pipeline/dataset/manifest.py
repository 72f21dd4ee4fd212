"""Manifests: what a finished stage holds, file by file, with the digests that identify it.

A manifest is written last, so its presence means that the stage is complete. This module reads and
checks datasets with the standard library and pyarrow alone: machines that train have no more. It
refuses to know how a dataset is made.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.errors import DamagedFile

DIGEST_BYTES = 16


def digest(data: bytes | memoryview) -> str:
    """BLAKE2b-128 of the bytes, as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_of(digests: Iterator[str] | list[str]) -> str:
    """The digest of a sequence of digests, in order."""
    return digest("\n".join(digests).encode())


@dataclass(frozen=True)
class FileRef:
    """One file of a part: its path below the stage's folder, its digest and its size."""

    path: str
    digest: str
    size_bytes: int

    def __post_init__(self) -> None:
        place = PurePosixPath(self.path)
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"the file {self.path} is not below its folder")

    def check(self, data: bytes | memoryview) -> None:
        """Raise `DamagedFile` unless `data` is what was written."""
        if digest(data) != self.digest:
            raise DamagedFile(
                f"{self.path}: its {len(data)} bytes do not have the digest {self.digest} that the "
                "manifest records; delete the stage's folder and run the recipe again"
            )


@dataclass(frozen=True)
class Part:
    """One partition, committed: what went in, what stayed, and its files by suffix.

    `files["parquet"]` holds the rows that were kept and `files["dropped"]` the others' ledger;
    stages add more ("tar", "arrow", ...).
    """

    index: int
    rows_in: int
    rows_kept: int
    rows_dropped: int
    reasons: Mapping[str, int]
    files: Mapping[str, FileRef]

    @property
    def content(self) -> str:
        """The digest of the kept rows and whatever stands beside them."""
        kept = sorted(suffix for suffix in self.files if suffix != "dropped")
        return digest_of([f"{suffix} {self.files[suffix].digest}" for suffix in kept])

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read back what `asdict` wrote; unknown fields (hosts, seconds) are left out."""
        files = {suffix: FileRef(**ref) for suffix, ref in record["files"].items()}
        counts = {name: record[name] for name in ("index", "rows_in", "rows_kept", "rows_dropped")}
        return cls(**counts, reasons=dict(record["reasons"]), files=files)


@dataclass(frozen=True)
class Manifest:
    """A finished stage: its identity, its inputs, its totals and its parts in order.

    `content` identifies what was kept, `ledger` what was dropped and why. `conserves` tells a
    stage whose rows are its input's from one that derives new rows (counts, edges, scores).
    """

    stage: str
    version: int
    key: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    conserves: bool
    content: str
    ledger: str
    rows_in: int
    rows_kept: int
    rows_dropped: int
    reasons: Mapping[str, int]
    parts: tuple[Part, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    reason_list: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Of each reason: its label, its hint, and whether it means damage."""
    summary: str = ""
    """The stage in one line."""

    def label(self, reason: str) -> str:
        """What a person reads for a reason; the reason itself where none is recorded."""
        return str(self.reason_list.get(reason, {}).get("label", reason))

    def damages(self) -> frozenset[str]:
        """The reasons that mean a row was lost to a fault."""
        return frozenset(
            reason for reason, facts in self.reason_list.items() if facts.get("damage")
        )

    def to_json(self) -> str:
        """One JSON object, sorted keys, a newline at the end."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a manifest back."""
        record = json.loads(text)
        parts = tuple(Part.from_json(part) for part in record.pop("parts"))
        return cls(**record, parts=parts)


def load(folder: str | Path) -> Manifest:
    """The manifest of a stage's folder on a local disk; FileNotFoundError if it is not complete."""
    return Manifest.from_json((Path(folder) / "manifest.json").read_bytes())


def read_table(folder: str | Path, ref: FileRef, columns: list[str] | None = None) -> pa.Table:
    """The rows of one Parquet file, after its digest has been checked."""
    data = (Path(folder) / ref.path).read_bytes()
    ref.check(data)
    return parquet_table(data, columns)


def parquet_table(data: bytes | memoryview, columns: list[str] | None = None) -> pa.Table:
    """The rows of a Parquet file held in memory.

    Read by this thread alone: `pq.read_table` hands the buffer to helpers, and one that lets go of
    it while the interpreter shuts down aborts the process.
    """
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
    return file.read(columns=columns, use_threads=False)
