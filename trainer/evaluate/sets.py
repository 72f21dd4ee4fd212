"""Evaluation sets: clip-benchmark's folders of tars, read with the standard library.

A folder has `classnames.txt` and `zeroshot_classification_templates.txt`, or `dataset_type.txt`
that says "retrieval", and shards `test/0.tar`, `test/1.tar`, ... of images with a `.cls` or `.txt`
each. Nothing is unpickled and no path inside a tar is opened.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.formats import PICTURE_SUFFIXES

IMAGE_SUFFIXES = tuple(dict.fromkeys(("webp", "png", *PICTURE_SUFFIXES)))
"""In clip-benchmark's order, which decides where a sample holds several pictures."""

Task = Literal["zeroshot_classification", "zeroshot_retrieval"]
MEMBERS: dict[Task, str] = {"zeroshot_classification": "cls", "zeroshot_retrieval": "txt"}
"""The member that a task needs beside a sample's image."""


@dataclass(frozen=True)
class Sample:
    """An encoded image with the index of its class, its captions, or both."""

    key: str
    image: bytes
    label: int = -1
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvalSet:
    """A set on disk: its tasks, classes and prompt templates."""

    folder: Path
    tasks: tuple[Task, ...]
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    """Prompts with `{c}` where the class's name goes."""
    shards: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder's name without `wds_`."""
        return self.folder.name.removeprefix("wds_")

    def samples(self) -> Iterator[Sample]:
        """Every sample, in the shards' order; DatasetError names the shard that is damaged."""
        for shard in self.shards:
            try:
                for key, members in _groups(shard):
                    yield self._sample(key, members)
            except (tarfile.TarError, EOFError, ValueError) as error:
                raise DatasetError(f"{shard}: {error}; get the set again") from error

    def digest(self) -> str:
        """SHA-256 over names and bytes of everything that a score depends on, as 64 hex digits."""
        out = hashlib.sha256(repr((self.tasks, self.classes, self.templates)).encode())
        for shard in self.shards:
            with shard.open("rb") as file:
                out.update(hashlib.file_digest(file, "sha256").digest())
        return out.hexdigest()

    def _sample(self, key: str, members: dict[str, bytes]) -> Sample:
        images = [members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members]
        wanted = [MEMBERS[task] for task in self.tasks]
        if not images or not all(member in members for member in wanted):
            raise ValueError(
                f"sample {key} needs an image and .{' and .'.join(wanted)}, "
                f"and has {sorted(members)}"
            )
        lines = members.get("txt", b"").decode().split("\n")
        captions = tuple(line.strip() for line in lines if line.strip())
        if "zeroshot_classification" not in self.tasks:
            return Sample(key, images[0], captions=captions)
        label = int(members["cls"])
        if not 0 <= label < len(self.classes):
            raise ValueError(f"sample {key} has class {label} of {len(self.classes)}")
        return Sample(key, images[0], label, captions)


def read_set(folder: Path, split: str = "test") -> EvalSet:
    """The set in `folder`; DatasetError if it is not in the layout.

    A set of classes whose first sample also has captions can be evaluated both ways.
    """
    kind = _lines(folder / "dataset_type.txt", default=["classification"])[0]
    number = _lines(folder / split / "nshards.txt")[0]
    if not re.fullmatch("[0-9]{1,6}", number):
        raise DatasetError(f"{folder / split}/nshards.txt: {number!r} is no number of shards")
    count = int(number)
    shards = tuple(folder / split / f"{index}.tar" for index in range(count))
    if missing := [shard.name for shard in shards if not shard.exists()]:
        raise DatasetError(f"{folder / split}: nshards.txt says {count}, but {missing} are missing")
    if kind == "retrieval":
        return EvalSet(folder, ("zeroshot_retrieval",), (), (), shards)
    if kind != "classification":
        raise DatasetError(f"{folder}: dataset_type.txt says {kind!r}, which is not evaluated here")
    classes = _lines(folder / "classnames.txt")
    if "" in classes:
        raise DatasetError(
            f"{folder / 'classnames.txt'}: line {classes.index('') + 1} is empty; a label is the "
            "number of its line"
        )
    templates = list(filter(None, _lines(folder / "zeroshot_classification_templates.txt")))
    tasks: tuple[Task, ...] = ("zeroshot_classification",)
    if "txt" in _first(shards):
        tasks = (*tasks, "zeroshot_retrieval")
    return EvalSet(folder, tasks, tuple(classes), tuple(templates), shards)


def _first(shards: tuple[Path, ...]) -> dict[str, bytes]:
    """The members of the first sample; a damaged shard is reported when it is read."""
    try:
        return next((members for shard in shards for _, members in _groups(shard)), {})
    except (tarfile.TarError, EOFError):
        return {}


def _lines(path: Path, default: list[str] | None = None) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().split("\n")]
    except FileNotFoundError:
        if default is not None:
            return default
        raise DatasetError(f"{path}: this file is missing; is the folder in wds layout?") from None
    if not any(lines):
        raise DatasetError(f"{path}: this file is empty")
    return lines


def _groups(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Adjacent members of the same name up to the first dot after the last slash (webdataset)."""
    key, members = "", dict[str, bytes]()
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            this = f"{folder}/{stem}" if folder else stem
            if this != key and members:
                yield key, members
                members = {}
            key = this
            members[suffix.lower()] = file.read()
    if members:
        yield key, members
