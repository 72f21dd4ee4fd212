"""Virtual subsets: those of a dataset's pairs whose uids are listed.

The list is a folder with a manifest (any stage's output), a Parquet file with a column `uid`, or
DataComp's `.npy`. Images are not copied: a subset is row numbers of each shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.manifest import digest, digest_of
from pipeline.dataset.read.folder import file_bytes, read_manifest, read_sidecar
from pipeline.dataset.read.shards import Columns, PairDataset, Shard, checked_uids, dataset_repr
from pipeline.dataset.uid import Ints, Words

PAIR_OF_WORDS = np.dtype("u8,u8")
NO_UIDS = np.empty((0, 2), np.uint64)
Keys = npt.NDArray[np.bytes_]
"""Uids as strings of 16 bytes, which numpy sorts as such."""


@dataclass(frozen=True, repr=False)
class Subset:
    """Chosen rows of a dataset; shards are the dataset's, without the other rows."""

    dataset: PairDataset
    content: str
    sizes: Sequence[int]
    index: Path
    """Row numbers of all shards, one after another, int32, as a `.npy`."""

    @classmethod
    def of(cls, dataset: PairDataset, chosen: Path, index_folder: Path) -> Self:
        """By the uids at `chosen`; DatasetError if they cannot be read or none is there."""
        keys = np.unique(_keys(_uids(chosen)))
        if not len(keys):
            raise DatasetError(f"{chosen}: it lists no uid, so there is nothing to train on")
        rows = [_rows_among(dataset.uids(shard), keys) for shard in range(len(dataset.sizes))]
        if not any(map(len, rows)):
            raise DatasetError(
                f"{chosen}: none of its {len(keys)} uids is in {dataset.path}; is it a subset of "
                "another dataset?"
            )
        content = digest_of([dataset.content, "subset", digest(keys.tobytes())])
        index = index_folder / f"subset-{content}.npy"
        index_folder.mkdir(parents=True, exist_ok=True)
        _save(index, np.concatenate(rows).astype(np.int32))
        return cls(dataset, content, [len(some) for some in rows], index)

    def __repr__(self) -> str:
        return dataset_repr(self, "Subset")

    @property
    def path(self) -> Path:
        """The dataset's folder."""
        return self.dataset.path

    def uids(self, index: int) -> Words:
        """The chosen uids of a shard."""
        return self.dataset.uids(index)[self._rows(index)]

    def open(self, index: int, columns: Columns) -> Shard:
        """The shard with the chosen rows only."""
        return self.dataset.open(index, columns).take(self._rows(index))

    def verify(self) -> None:
        """Verify the whole dataset."""
        self.dataset.verify()

    def _rows(self, index: int) -> Ints:
        first = sum(self.sizes[:index])
        try:
            rows = np.load(self.index, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise DatasetError(f"{self.index}: {error.strerror}; start the run again") from error
        return np.array(rows[first : first + self.sizes[index]], np.int64)


def _uids(chosen: Path) -> Words:
    if chosen.is_dir():
        files = [chosen / part.files["parquet"].path for part in read_manifest(chosen).parts]
        return np.concatenate([NO_UIDS, *(_parquet_uids(file) for file in files)])
    if chosen.suffix == ".parquet":
        return _parquet_uids(chosen)
    if chosen.suffix == ".npy":
        return _datacomp_uids(chosen)
    raise DatasetError(
        f"{chosen}: a subset is a folder with a manifest.json, a .parquet with a column uid, or a "
        ".npy of uids"
    )


def _parquet_uids(path: Path) -> Words:
    return checked_uids(path, read_sidecar(path, file_bytes(path), ["uid"]))


def _datacomp_uids(path: Path) -> Words:
    """DataComp's format: an array of pairs of uint64, the two halves of the uid's hex digits."""
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: it cannot be read ({error})") from error
    if array.dtype != PAIR_OF_WORDS or array.ndim != 1:
        raise DatasetError(f"{path}: it holds {array.dtype} of shape {array.shape}, not u8,u8 (N,)")
    return array.view(np.uint64).reshape(-1, 2)


def _keys(uids: Words) -> Keys:
    return np.frombuffer(uids.astype(">u8").tobytes(), "S16")


def _rows_among(uids: Words, keys: Keys) -> Ints:
    """Rows whose uid is among the sorted keys."""
    own = _keys(uids)
    nearest = np.searchsorted(keys, own).clip(max=len(keys) - 1)
    return np.flatnonzero(keys[nearest] == own)


def _save(path: Path, rows: npt.NDArray[np.int32]) -> None:
    """Written aside and renamed: other processes may be doing the same."""
    aside = path.with_name(f".{path.stem}-{uuid4().hex}.npy")
    np.save(aside, rows, allow_pickle=False)
    aside.replace(path)
