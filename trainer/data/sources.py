"""Sources as a person names them, and the datasets behind them.

A source is a folder, its weight beside others and perhaps a subset. Whether the folder is one of
ours or holds foreign tars is seen from its files.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.read.folder import PairFolder
from pipeline.dataset.read.shards import PairDataset
from pipeline.dataset.read.subset import Subset
from pipeline.dataset.read.webdataset import TarFolder
from trainer.errors import ConfigError

FIELDS = {"path", "weight", "subset"}


@dataclass(frozen=True)
class Source:
    """Where pairs come from, how often beside other sources, and which of them, if not all."""

    path: Path
    weight: float = 1.0
    subset: Path | None = None

    @classmethod
    def from_json(cls, value: object) -> tuple[Self, ...]:
        """From a path, an object with a `path`, or a list of those; ConfigError on all else."""
        if isinstance(value, list) and value:
            return tuple(source for item in value for source in cls.from_json(item))
        record = {"path": value} if isinstance(value, str) else value
        if not isinstance(record, Mapping) or not {"path"} <= set(record) <= FIELDS:
            raise ConfigError(
                f"dataset: {json.dumps(value, default=str)} is no path, no object of path, weight "
                "and subset, and no list of those"
            )
        path, weight, subset = record["path"], record.get("weight", 1.0), record.get("subset")
        if not isinstance(path, str) or not isinstance(subset, str | None) or "" in (path, subset):
            raise ConfigError(
                f"dataset: {json.dumps(value, default=str)}: paths are strings, not empty"
            )
        if type(weight) not in (int, float) or not 0 < weight <= sys.float_info.max:
            raise ConfigError(f"dataset: the weight {weight!r} is no number above zero")
        return (cls(Path(path), float(weight), None if subset is None else Path(subset)),)


def open_source(source: Source, index_folder: Path) -> PairDataset:
    """The dataset of a source; DatasetError if files are missing or it holds no pairs.

    Indexes that have to be made are kept in `index_folder`.
    """
    dataset: PairDataset
    if (source.path / "manifest.json").exists():
        dataset = PairFolder.at(source.path)
    elif any(source.path.glob("*.tar")):
        dataset = TarFolder.at(source.path, index_folder)
    elif not source.path.is_dir():
        raise DatasetError(f"{source.path}: there is no such folder")
    else:
        raise DatasetError(
            f"{source.path}: it holds neither a manifest.json nor any .tar, so it is no finished "
            "dataset; build it first"
        )
    if not any(dataset.sizes):
        raise DatasetError(f"{source.path}: it holds no pairs, so there is nothing to train on")
    return Subset.of(dataset, source.subset, index_folder) if source.subset else dataset
