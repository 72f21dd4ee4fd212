"""Foreign webdatasets: folders of tars that other tools wrote, without a manifest.

The headers of each tar are walked once, which gives a table like the sidecar of our own shards;
with it a foreign tar is read as one of ours. Nothing is unpacked, no link is followed, and nothing
but regular members is read.
"""

import json
import os
import re
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.formats import PICTURE_SUFFIXES
from pipeline.dataset.manifest import digest, digest_of
from pipeline.dataset.read.folder import file_bytes, read_sidecar
from pipeline.dataset.read.shards import (
    Columns,
    Shard,
    checked_uids,
    dataset_repr,
    shard_of,
    tar_images,
)
from pipeline.dataset.uid import UID_TYPE, Words

MEMBER = re.compile(r"((?:.*/|)[^/.]+)[.]([^/]*)")
"""Key and suffix: the suffix begins at the first dot behind the last slash."""
META = re.compile(r"__[^/]*__($|/)")
UID_DIGITS = re.compile(r"[0-9a-f]{32}")
INDEX_VERSION = 3
"""Version of what `index_of` makes of a tar: indexes of other versions are made again."""
INDEX = pa.schema(
    [
        ("uid", UID_TYPE),
        ("caption", pa.string()),
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
    ]
)
FEW = 8


@dataclass(frozen=True)
class IndexedTar:
    """A tar as it was when its index was made."""

    path: Path
    size_bytes: int
    index: Path
    rows: int
    content: str


@dataclass(frozen=True, repr=False)
class TarFolder:
    """The pairs in the `.tar` files of a folder, in the order of their names."""

    path: Path
    content: str
    tars: Sequence[IndexedTar]

    @classmethod
    def at(cls, folder: Path, index_folder: Path) -> Self:
        """By the tars' headers; indexes in `index_folder` of unchanged tars are used again."""
        paths = sorted(folder.glob("*.tar"))
        index_folder.mkdir(parents=True, exist_ok=True)
        jobs = [(path, _index_path(path, index_folder)) for path in paths]
        _make_indexes([job for job in jobs if not job[1].exists()])
        tars = [_indexed(path, index) for path, index in jobs]
        return cls(folder, digest_of([f"{tar.path.name} {tar.content}" for tar in tars]), tars)

    def __repr__(self) -> str:
        return dataset_repr(self, "TarFolder")

    @property
    def sizes(self) -> list[int]:
        """Rows of each tar."""
        return [tar.rows for tar in self.tars]

    def uids(self, index: int) -> Words:
        """The uids of a tar's pairs: as their JSON says, else a hash of the tar's name and key."""
        path = self.tars[index].index
        return checked_uids(path, read_sidecar(path, file_bytes(path), ["uid"]))

    def open(self, index: int, columns: Columns) -> Shard:
        """A tar by its index; captions are tokenised as they are asked for."""
        tar = self.tars[index]
        self._check_size(tar)
        table = read_sidecar(tar.index, file_bytes(tar.index))
        return shard_of(tar.path, table, tar_images(tar.path, table), columns)

    def verify(self) -> None:
        """Check that no tar has changed its size: there are no recorded digests to compare."""
        for tar in self.tars:
            self._check_size(tar)

    def _check_size(self, tar: IndexedTar) -> None:
        size = tar.path.stat().st_size if tar.path.exists() else 0
        if size != tar.size_bytes:
            raise DatasetError(
                f"{tar.path}: it had {tar.size_bytes} bytes when the run began and has {size} now"
            )


def index_of(path: Path) -> pa.Table:
    """The pairs of a tar as a table of `INDEX`; DatasetError if its structure is damaged.

    A pair is an image and a caption of one key: the member .txt, else "caption" in the .json.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            rows = list(_rows(path, tar))
            _check_end(tar)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DatasetError(f"{path}: it is no whole tar ({error}); fetch it again") from error
    whole = [row for row in rows if row is not None]
    if len(whole) < len(rows):
        warnings.warn(
            f"{path}: {len(rows) - len(whole)} of {len(rows)} samples lack an image or a caption "
            "and are left out",
            stacklevel=2,
        )
    return pa.Table.from_pylist(whole, INDEX)


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a damaged or missing header for the end: only zeros may follow the last one."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    size = 0
    while block := tar.fileobj.read(tarfile.RECORDSIZE):
        size += len(block)
        if block.strip(b"\0"):
            raise tarfile.ReadError(f"something lies behind its end at byte {tar.offset}")
    if size < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it has no end mark at byte {tar.offset}")


def _rows(path: Path, tar: tarfile.TarFile) -> Iterator[dict[str, object] | None]:
    """A row for each sample, or None where it lacks an image or a caption."""
    for key, group in groupby(_members(tar), key=lambda member: member[0]):
        members = {suffix.lower(): member for _, suffix, member in group}
        image = next((members[suffix] for suffix in PICTURE_SUFFIXES if suffix in members), None)
        facts = _facts(_payload(tar, members.get("json")))
        text = _payload(tar, members.get("txt"))
        caption = facts.get("caption") if text is None else text.decode(errors="replace")
        if image is None or not isinstance(caption, str):
            yield None
            continue
        uid = str(facts.get("uid"))
        named = bytes.fromhex(uid) if UID_DIGITS.fullmatch(uid) else None
        yield {
            "uid": named
            or blake2b(
                f"{path.name}\0{key}".encode("utf-8", "surrogateescape"), digest_size=16
            ).digest(),
            "caption": caption.encode("utf-8", "replace").decode(),
            "image_offset": image.offset_data,
            "image_size": image.size,
        }


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    for member in tar:
        name = MEMBER.fullmatch(member.name)
        if member.isreg() and not member.issparse() and name and not META.match(member.name):
            yield name[1], name[2], member


def _payload(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes | None:
    file = None if member is None else tar.extractfile(member)
    return None if file is None else file.read()


def _facts(data: bytes | None) -> dict[str, object]:
    try:
        facts = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _index_path(path: Path, index_folder: Path) -> Path:
    """Named after what shows that the tar is unchanged: its path, size and time of change."""
    facts = path.stat()
    state = digest(
        f"{INDEX_VERSION}\0{path.absolute()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()
    )
    return index_folder / f"{path.stem}-{state}.parquet"


def _make_indexes(jobs: Sequence[tuple[Path, Path]]) -> None:
    """Write the indexes, many of them by all cores."""
    if len(jobs) <= FEW:
        for path, index in jobs:
            _make_index(path, index)
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_make_index, path, index) for path, index in jobs]:
            done.result()


def _make_index(path: Path, index: Path) -> None:
    """Written aside and renamed: other processes may be doing the same."""
    aside = index.with_name(f".{index.name}.{uuid4().hex}")
    pq.write_table(index_of(path), aside)
    aside.replace(index)


def _indexed(path: Path, index: Path) -> IndexedTar:
    table = read_sidecar(index, index.read_bytes())
    size = path.stat().st_size
    columns = [json.dumps(table[name].to_pylist()) for name in INDEX.names[1:]]
    content = digest_of([str(size), digest(checked_uids(index, table).tobytes()), *columns])
    return IndexedTar(path, size, index, len(table), content)
