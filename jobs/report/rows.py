"""What a report reads of a build: drawn rows, tallies of columns, thumbnails of pictures.

Parts are read one at a time and only for the columns at hand. Rows are drawn by the smallest keyed
hashes of their uids, so the same content always shows the same rows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import simplejpeg

from curation.images.decode import decode_rgb
from curation.images.errors import UndecodableImage
from pipeline.dataset.manifest import Part
from pipeline.dataset.uid import keyed_uniform
from pipeline.stage import Stage
from pipeline.store.result import Result

Row = dict[str, Any]

SEED = 0
MAX_PIXELS = 64_000_000
JPEG_QUALITY = 72
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*:[/\\]*(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)"
_PLACE = ("pool_part", "pool_offset", "pool_size")
_SHOWN = (
    *("uid", "url", "caption", "language", "language_score", "query_ids", "width", "height"),
    *("http_status", *_PLACE, "image_offset", "image_size"),
    *("reason", "value", "threshold", "evidence"),
)


@dataclass(frozen=True)
class Build:
    """The finished stages of a build by name, in order; `line` names those that pass rows on.

    Stages are found by what they are, as their manifests say, never by their names.
    """

    datasets: Mapping[str, Result]
    line: Sequence[str]
    queries: Sequence[str] | None
    catalogue: Mapping[str, Stage]

    def last(self, stage: str) -> Result | None:
        """The last dataset that a stage made."""
        made = [each for each in self.datasets.values() if each.manifest.stage == stage]
        return made[-1] if made else None

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The stage behind every name, as far as the catalogue knows it."""
        made = {name: dataset.manifest.stage for name, dataset in self.datasets.items()}
        return {name: self.catalogue[of] for name, of in made.items() if of in self.catalogue}

    @property
    def candidates(self) -> Result | None:
        """Where the rows began."""
        return self.datasets[self.line[0]] if self.line else None

    @property
    def kept(self) -> Result | None:
        """The pairs that were kept: the shards, or the last list of pairs before any training."""
        pairs = [name for name in self.line if self.datasets[name].manifest.stage != "train"]
        return self.last("shard") or (self.datasets[pairs[-1]] if pairs else None)


def read(dataset: Result, part: Part, suffix: str, columns: Sequence[str]) -> pa.Table:
    """Those of the columns that a part's kept ("parquet") or "dropped" rows have."""
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(dataset.read(part.files[suffix]))))
    return file.read([name for name in columns if name in file.schema_arrow.names])


def tables(dataset: Result, suffixes: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The parts one after the other, kept and/or dropped rows, as far as they have the columns."""
    for part in dataset.manifest.parts:
        for suffix in suffixes:
            if suffix in part.files:
                table = read(dataset, part, suffix, columns)
                if table.num_columns == len(columns):
                    yield table


def tally(columns: Iterable[pa.ChunkedArray]) -> Counter[Any]:
    """How often each value occurs."""
    counts: Counter[Any] = Counter()
    for column in columns:
        found = pc.value_counts(column)
        counts.update(
            dict(
                zip(
                    found.field("values").to_pylist(),
                    found.field("counts").to_pylist(),
                    strict=True,
                )
            )
        )
    return counts


def hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """The host of every URL in small letters; "" where there is none."""
    found = pc.struct_field(pc.extract_regex(urls, _HOST), "host")
    return pc.utf8_lower(pc.fill_null(found, ""))


@dataclass(frozen=True)
class Drawn:
    """A row that was drawn, and the part that it lies in."""

    part: Part
    row: Row


def draw(
    dataset: Result, suffix: str, number: int, by: str | None = None
) -> dict[str, list[Drawn]]:
    """For every value of the column `by` (or ""), the `number` rows with the smallest hashes."""
    picks: dict[str, list[tuple[float, int, int]]] = {}
    columns = ["uid", by] if by else ["uid"]
    for place, part in enumerate(dataset.manifest.parts):
        if suffix not in part.files:
            continue
        for group, coins, rows in _smallest(read(dataset, part, suffix, columns), number, by):
            found = zip(coins.tolist(), [place] * len(rows), rows.tolist(), strict=True)
            picks[group] = sorted([*picks.get(group, []), *found])[:number]
    return _fetch_rows(dataset, suffix, picks)


def _smallest(
    table: pa.Table, number: int, by: str | None
) -> Iterator[tuple[str, npt.NDArray[np.float64], npt.NDArray[np.intp]]]:
    if not table.num_rows:
        return
    coins = keyed_uniform(SEED, "report", table["uid"])
    groups = table[by].to_numpy() if by else np.full(table.num_rows, "", object)
    order = np.argsort(coins, kind="stable")
    for group in sorted(set(groups.tolist())):
        rows = order[groups[order] == group][:number]
        yield group, coins[rows], rows


def _fetch_rows(
    dataset: Result, suffix: str, picks: Mapping[str, Sequence[tuple[float, int, int]]]
) -> dict[str, list[Drawn]]:
    parts, wanted = (
        dataset.manifest.parts,
        sorted({p for each in picks.values() for _, p, _ in each}),
    )
    rows: dict[tuple[int, int], Row] = {}
    for place in wanted:
        indices = sorted({row for each in picks.values() for _, p, row in each if p == place})
        found = read(dataset, parts[place], suffix, _SHOWN).take(pa.array(indices)).to_pylist()
        rows |= {(place, index): row for index, row in zip(indices, found, strict=True)}
    return {
        group: [Drawn(parts[place], rows[place, index]) for _, place, index in each]
        for group, each in picks.items()
    }


def rows_of(dataset: Result, uids: Iterable[bytes]) -> dict[bytes, Drawn]:
    """The kept rows of these uids."""
    wanted = pa.array(sorted(set(uids)), pa.binary(16))
    found: dict[bytes, Drawn] = {}
    for part in dataset.manifest.parts:
        table = read(dataset, part, "parquet", _SHOWN)
        if table.num_rows:
            mine = table.filter(pc.is_in(table["uid"], value_set=wanted))
            found |= {row["uid"]: Drawn(part, row) for row in mine.to_pylist()}
    return found


@dataclass(frozen=True)
class Pictures:
    """Thumbnails of the pictures that a build fetched and packed."""

    pool: Result | None

    def fetched(self, row: Row, side: int) -> bytes | None:
        """The picture of a row that says where in the pool it lies, as a JPEG of at most `side`.

        None if the row has none, or one that cannot be decoded.
        """
        if self.pool is None or row.get("pool_part") is None:
            return None
        part = self.pool.manifest.parts[row["pool_part"]]
        (data,) = self.pool.ranges(part, "tar", [row["pool_offset"]], [row["pool_size"]])
        return thumbnail(data, side)

    def packed(self, shards: Result, drawn: Drawn, side: int) -> bytes | None:
        """The picture of a row of a shard, None if there is no picture to be had."""
        row = drawn.row
        if "tar" not in drawn.part.files or row.get("image_offset") is None:
            return None
        (data,) = shards.ranges(drawn.part, "tar", [row["image_offset"]], [row["image_size"]])
        return thumbnail(data, side)


def thumbnail(data: bytes, side: int) -> bytes | None:
    """A picture as a JPEG whose longer side has at most `side` pixels; None if undecodable."""
    try:
        picture = decode_rgb(data, MAX_PIXELS, side)
    except UndecodableImage:
        return None
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(small), JPEG_QUALITY, "RGB", "420")
    return jpeg
