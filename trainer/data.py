"""A dataset folder as rows with random access: uid, token ids and the encoded image of each.

Reads what the `shard` stage wrote: sidecar Parquet into memory, images from the memory-mapped Arrow
file or, where there is none, from the tar at the sidecar's offsets. Refuses to know about order.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.manifest import DamagedPart, Manifest, Part, load, read_table
from trainer.errors import DatasetError
from trainer.order import Words
from trainer.tokenizer import Ids, encode_batch, truncate

SIDECAR_COLUMNS = ("uid", "tokens", "caption", "image_offset", "image_size")
TOKENS = pa.large_list(pa.uint16())


@dataclass(frozen=True)
class ArrowImages:
    """The `image` column of a memory-mapped Arrow IPC file."""

    column: pa.ChunkedArray

    def __getitem__(self, row: int) -> memoryview:
        """The encoded bytes of a row, not copied."""
        return memoryview(self.column[row].as_buffer())


@dataclass(frozen=True)
class TarImages:
    """Payloads inside a memory-mapped tar, at known offsets."""

    data: mmap.mmap
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]

    def __getitem__(self, row: int) -> bytes:
        """The encoded bytes of a row."""
        start = int(self.offsets[row])
        return self.data[start : start + int(self.sizes[row])]


class Dataset:
    """The pairs of a folder, numbered 0 to N - 1 in the manifest's order of parts.

    `content` is the manifest's digest, `uids` the uids as big-endian words, uint64 (N, 2).
    """

    def __init__(self, folder: Path) -> None:
        manifest = _manifest(folder)
        sidecars = [_sidecar(folder, part) for part in manifest.parts]
        if not sum(map(len, sidecars)):
            raise DatasetError(f"{folder}: it holds no pairs, so there is nothing to train on")
        self.content = manifest.content
        self.uids = np.concatenate([_uid_words(table["uid"]) for table in sidecars])
        parts = zip(manifest.parts, sidecars, strict=True)
        self._images = [_images(folder, part, table) for part, table in parts]
        self._starts = np.cumsum([0, *map(len, sidecars)])
        tokens = pa.chunked_array([_tokens(table) for table in sidecars]).combine_chunks()
        self._tokens = tokens.values.to_numpy()
        self._token_starts = tokens.offsets.to_numpy()

    def __len__(self) -> int:
        return len(self.uids)

    def tokens(self, row: int, context_length: int) -> Ids:
        """Token ids of the row's caption, framed and at most `context_length` long."""
        start, stop = self._token_starts[row : row + 2]
        return truncate(self._tokens[start:stop], context_length)

    def image(self, row: int) -> bytes | memoryview:
        """The encoded image of the row."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._images[part][row - int(self._starts[part])]

    def uid_hex(self, row: int) -> str:
        """The row's uid as people read it."""
        high, low = self.uids[row]
        return f"{int(high):016x}{int(low):016x}"


def _manifest(folder: Path) -> Manifest:
    try:
        return load(folder)
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: it holds no manifest.json, so it is no finished dataset; build it first"
        ) from None


def _sidecar(folder: Path, part: Part) -> pa.Table:
    try:
        table = read_table(folder, part.files["parquet"])
        return table.select([name for name in SIDECAR_COLUMNS if name in table.column_names])
    except (DamagedPart, FileNotFoundError) as error:
        raise DatasetError(f"{folder}: {error}") from error


def _tokens(table: pa.Table) -> pa.Array:
    """`TOKENS` of the rows: as stored, else encoded from the captions."""
    if "tokens" in table.column_names:
        return table["tokens"].cast(TOKENS).combine_chunks()
    return pa.array(encode_batch(table["caption"].to_pylist()), TOKENS)


def _images(folder: Path, part: Part, table: pa.Table) -> ArrowImages | TarImages:
    if "arrow" in part.files:
        return _arrow_images(folder / part.files["arrow"].path, table)
    if "tar" in part.files:
        return _tar_images(folder / part.files["tar"].path, table)
    raise DatasetError(f"{folder}: part {part.index} has neither an Arrow file nor a tar of images")


def _arrow_images(path: Path, table: pa.Table) -> ArrowImages:
    try:
        images = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise DatasetError(
            f"{path}: it cannot be read ({error}); build the dataset again"
        ) from error
    if not images["uid"].equals(table["uid"]):
        raise DatasetError(f"{path}: its uids are not those of the Parquet file beside it")
    return ArrowImages(images["image"])


def _tar_images(path: Path, table: pa.Table) -> TarImages:
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, FileNotFoundError) as error:
        raise DatasetError(
            f"{path}: it cannot be read ({error}); build the dataset again"
        ) from error
    return TarImages(data, table["image_offset"].to_numpy(), table["image_size"].to_numpy())


def _uid_words(uids: pa.ChunkedArray) -> Words:
    chunks: Sequence[Any] = uids.chunks
    data = b"".join(
        chunk.buffers()[1][16 * chunk.offset : 16 * (chunk.offset + len(chunk))].to_pybytes()
        for chunk in chunks
        if len(chunk)
    )
    return np.frombuffer(data, ">u8").reshape(-1, 2).astype(np.uint64)
