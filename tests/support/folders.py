"""Datasets in the `shard` stage's layout and evaluation sets in clip-benchmark's, by hand."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.dataset.manifest import FileRef, Manifest, Part, digest, digest_of


@dataclass(frozen=True)
class Pair:
    """A pair to write: its uid, encoded image and caption."""

    uid: bytes
    image: bytes
    caption: str


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def coloured_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Squares of distinct colours with captions that number them; uids ascend."""
    rng = np.random.default_rng(seed)
    pairs = []
    for index in range(count):
        pixels = np.full((40, 40, 3), rng.integers(0, 256, 3), np.uint8)
        pairs.append(Pair(index.to_bytes(16, "big"), png(pixels), f"square number {index}"))
    return pairs


def pictures(count: int, size: tuple[int, int] = (48, 40)) -> list[Pair]:
    """Random pictures as JPEGs with captions that number them; uids are hashes."""
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(count):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        out = io.BytesIO()
        small.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=95)
        uid = hashlib.blake2b(str(index).encode(), digest_size=16).digest()
        pairs.append(Pair(uid, out.getvalue(), f"picture number {index}, of many colours"))
    return pairs


def write_dataset(
    folder: Path,
    pairs: Sequence[Pair],
    *,
    parts: int = 2,
    images: str = "arrow",
    columns: Mapping[str, pa.Array] | None = None,
) -> Path:
    """A finished `shard` folder holding `pairs` in order, images in "arrow" or in "tar" files.

    `columns` stand in the sidecars beside uid, caption and the images' places.
    """
    (folder / "parts").mkdir(parents=True)
    per_part = -(-len(pairs) // parts)
    written = []
    for index in range(parts):
        first = index * per_part
        extra = {name: column[first : first + per_part] for name, column in (columns or {}).items()}
        some = pairs[first : first + per_part]
        written.append(_write_part(folder, index, some, images, extra))
    manifest = Manifest(
        stage="shard",
        stage_version=1,
        key="0" * 32,
        params={},
        inputs={},
        conserves=True,
        content_digest=digest_of([part.content_digest for part in written]),
        ledger_digest=digest(b""),
        rows_in=len(pairs),
        rows_kept=len(pairs),
        rows_dropped=0,
        reasons={},
        parts=tuple(written),
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


def _write_part(
    folder: Path, index: int, pairs: Sequence[Pair], images: str, columns: Mapping[str, pa.Array]
) -> Part:
    name = f"parts/{index:05d}"
    tar, offsets = _tar(pairs)
    uids = pa.array([pair.uid for pair in pairs], pa.binary(16))
    table = pa.table(
        {
            "uid": uids,
            "caption": [pair.caption for pair in pairs],
            "image_offset": pa.array(offsets, pa.int64()),
            "image_size": pa.array([len(pair.image) for pair in pairs], pa.int32()),
            **columns,
        }
    )
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    files = {"parquet": parquet.getvalue()}
    files[images] = tar if images == "tar" else _arrow(uids, pairs)
    refs = {}
    for suffix, data in files.items():
        (folder / f"{name}.{suffix}").write_bytes(data)
        refs[suffix] = FileRef(f"{name}.{suffix}", digest(data), len(data))
    return Part(index, len(pairs), len(pairs), 0, {}, refs)


def _tar(pairs: Sequence[Pair]) -> tuple[bytes, list[int]]:
    out = io.BytesIO()
    offsets = []
    with tarfile.open(fileobj=out, mode="w") as tar:
        for pair in pairs:
            offsets.append(tar.offset + 512)
            member = tarfile.TarInfo(f"{pair.uid.hex()}.png")
            member.size = len(pair.image)
            tar.addfile(member, io.BytesIO(pair.image))
    return out.getvalue(), offsets


def _arrow(uids: pa.Array, pairs: Sequence[Pair]) -> bytes:
    table = pa.table(
        {"uid": uids, "image": pa.array([pair.image for pair in pairs], pa.large_binary())}
    )
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return out.getvalue()


def write_eval_set(
    folder: Path,
    samples: Sequence[tuple[bytes, str]],
    *,
    classes: Sequence[str] = (),
    templates: Sequence[str] = (),
) -> Path:
    """clip-benchmark's webdataset layout: (image, text of the .cls or .txt member) a sample."""
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "nshards.txt").write_text("2\n")
    if classes:
        (folder / "classnames.txt").write_text("\n".join(classes) + "\n")
        templates_file = folder / "zeroshot_classification_templates.txt"
        templates_file.write_text("\n".join(templates) + "\n")
    else:
        (folder / "dataset_type.txt").write_text("retrieval\n")
    half = -(-len(samples) // 2)
    for shard in range(2):
        with tarfile.open(folder / "test" / f"{shard}.tar", "w") as tar:
            for index in range(shard * half, min(len(samples), (shard + 1) * half)):
                image, text = samples[index]
                members = {"png": image, "cls" if classes else "txt": text.encode()}
                for suffix, data in members.items():
                    member = tarfile.TarInfo(f"s{index:07d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder
