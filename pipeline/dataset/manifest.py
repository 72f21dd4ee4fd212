"""Manifests: what a finished stage holds, file by file, with the digests that identify it.

A manifest is written last, so its presence means that the stage is complete. It explains itself:
names and digests of its inputs, its columns, the reasons for which rows were dropped. This module
reads and checks datasets with the standard library and pyarrow alone: machines that train have no
more.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.errors import DamagedFile, DatasetError, NewerFormat

DIGEST_BYTES = 16
FORMAT = 1
"""The format that is written. A number behind a dot (1.2) adds keys that older readers keep."""


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

    def check(self, data: bytes | memoryview, folder: str | Path) -> None:
        """Raise `DamagedFile` unless `data` is what was written; `folder` is the stage's."""
        if (actual := digest(data)) != self.digest:
            raise DamagedFile(
                f"{folder}/{self.path}: damaged in storage: its {len(data):,} bytes have the "
                f"digest {actual}, but the manifest records {self.digest}; delete {folder} and run "
                "the recipe again to make that stage anew"
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
    def content_digest(self) -> str:
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
class InputRef:
    """Where an input came from: its name in the recipe, and the digest of its content."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished stage: its identity, its inputs, its columns, its totals and its parts in order.

    `content_digest` identifies what was kept, `ledger_digest` what was dropped and why. `conserves`
    is False for a stage that derives new rows (counts, edges, scores). `columns` have name, type,
    unit and about; `reason_list` has label, hint and damage for every reason of the stage's closed
    list. `extra` holds the keys that a newer minor format has added, unread and kept.
    """

    stage: str
    stage_version: int
    summary: str = ""
    key: str
    params: Mapping[str, Any]
    inputs: Mapping[str, InputRef]
    conserves: bool
    columns: Sequence[Mapping[str, str]] = ()
    content_digest: str
    ledger_digest: str
    rows_in: int
    rows_kept: int
    rows_dropped: int
    reasons: Mapping[str, int]
    reason_list: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: tuple[Part, ...] = field(repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    format: int | float = FORMAT
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        rows = f"{self.rows_in:,} in, {self.rows_kept:,} kept, {self.rows_dropped:,} dropped"
        name = f"{self.stage} v{self.stage_version}"
        return f"<Manifest of {name}: {rows}, {len(self.parts)} parts, {self.content_digest[:12]}>"

    def label(self, reason: str) -> str:
        """What a person reads for a reason."""
        return str(self.reason_list.get(reason, {}).get("label", reason))

    def damages(self) -> frozenset[str]:
        """The reasons that mean a row was lost to a fault."""
        return frozenset(name for name, facts in self.reason_list.items() if facts.get("damage"))

    def as_json(self) -> dict[str, Any]:
        """The manifest in plain values, the keys of a newer minor format included."""
        record = asdict(self)
        return {**record.pop("extra"), **record}

    def to_json(self) -> str:
        """One JSON object, sorted keys, a newline at the end."""
        return json.dumps(self.as_json(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a manifest back.

        Raises NewerFormat for one that only a later openwit can read, DatasetError for one that is
        damaged.
        """
        try:
            record = json.loads(text)
            _check_format(record.get("format"))
            names = {item.name for item in fields(cls)} - {"extra"}
            own = {name: record[name] for name in names & record.keys()}
            own["parts"] = tuple(Part.from_json(part) for part in own["parts"])
            own["inputs"] = {name: InputRef(**source) for name, source in own["inputs"].items()}
            return cls(**own, extra={name: record[name] for name in record.keys() - names})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise DatasetError(
                f"manifest.json: it is damaged ({what}); delete it and run the recipe again, which "
                "writes it anew from the records of its parts"
            ) from error


def _check_format(written: object) -> None:
    if not isinstance(written, int | float):
        raise DatasetError(
            "manifest.json: it has no format number, so an openwit before format 1 wrote it; "
            "build the dataset again"
        )
    if int(written) > FORMAT:
        raise NewerFormat(
            f"manifest.json: it is of format {written}, and this openwit reads up to {FORMAT}.x; "
            "install a newer openwit"
        )


def load(folder: str | Path) -> Manifest:
    """The manifest of a stage's folder on a local disk.

    Raises FileNotFoundError if the stage is not complete, DatasetError if it cannot be read.
    """
    try:
        return Manifest.from_json((Path(folder) / "manifest.json").read_bytes())
    except DatasetError as error:
        raise type(error)(f"{folder}/{error}") from error


def parquet_table(data: bytes | memoryview, columns: list[str] | None = None) -> pa.Table:
    """The rows of a Parquet file held in memory.

    Read by this thread alone: `pq.read_table` hands the buffer to helpers, and one that lets go of
    it while the interpreter shuts down aborts the process.
    """
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
    return file.read(columns=columns, use_threads=False)
