"""Shards: three faces of the same pairs, the same bytes every time."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import webdataset
from PIL import Image

from curation.images.decode import decode_rgb
from curation.pack.arrow import ARROW
from curation.pack.shard import PackParams, pack
from pipeline.dataset.schema import SIDECAR
from pipeline.dataset.uid import UID_TYPE
from tests.support.pictures import encode, photo

START, END = 49406, 49407


def plain(width: int, height: int, seed: int = 0) -> bytes:
    return encode(photo(seed, width, height), quality=80)


PICTURES = [
    plain(640, 480),
    plain(300, 200, 1),
    encode(photo(2, 500, 900), "png"),
    b"<html>",
    encode(photo(3, 64, 64).convert("L")),
    encode(photo(4, 300, 280), "webp"),
    plain(640, 480)[:-300],
]
STORED = [(341, 256), (300, 200), (256, 461), None, (64, 64), (274, 256), None]


def table_of(count: int) -> pa.Table:
    draw = np.random.default_rng(5)
    return pa.table(
        {
            "uid": pa.array([draw.bytes(16) for _ in range(count)], UID_TYPE),
            "url": [f"http://example.org/{n}?a=b&c=\u00e9" for n in range(count)],
            "caption": [f'A "caption" no. {n}, \u732b' for n in range(count)],
            "language": ["en"] * count,
            "width": pa.array([1] * count, pa.int32()),
            "height": pa.array([1] * count, pa.int32()),
            "sha256": pa.array([hashlib.sha256(b"%d" % n).digest() for n in range(count)]).cast(
                pa.binary(32)
            ),
            "query_ids": pa.array([[n] for n in range(count)], pa.list_(pa.uint32())),
        }
    )


def tokens_of(count: int) -> list[npt.NDArray[np.uint16]]:
    return [np.array([START, *range(n), END], np.uint16) for n in range(count)]


TABLE = table_of(len(PICTURES))
TOKENS = tokens_of(len(PICTURES))
PACKED = pack(TABLE, PICTURES, TOKENS, PackParams())
GOOD = [n for n, size in enumerate(STORED) if size]
IN_ORDER = sorted(GOOD, key=lambda n: TABLE["uid"][n].as_py())


def rows() -> list[dict[str, Any]]:
    packed: list[dict[str, Any]] = PACKED.table.to_pylist()
    return packed


def payload(row: dict[str, Any], kind: str) -> bytes:
    """The bytes in the tar that the row points at: "image", "text" or "json"."""
    offset, size = row[f"{kind}_offset"], row[f"{kind}_size"]
    return PACKED.tar[offset : offset + size]


def test_rows_stay_in_place_and_keep_the_columns_that_are_not_replaced() -> None:
    kept = ["uid", "url", "caption", "language", "query_ids"]
    assert PACKED.table.select(kept).equals(TABLE.select(kept))
    for column in SIDECAR:
        assert PACKED.table.schema.field(column.name).type == column.type


def test_what_cannot_be_decoded_is_a_verdict_and_nowhere_else() -> None:
    assert [row["verdict"] and row["verdict"]["reason"] for row in rows()] == [
        None if size else "undecodable" for size in STORED
    ]
    assert [row["key"] for row in rows() if row["verdict"]] == [None, None]


def test_the_shorter_side_comes_down_to_the_size_and_nothing_is_enlarged() -> None:
    assert [(r["width"], r["height"]) if r["key"] else None for r in rows()] == STORED
    for row in rows():
        if row["key"]:
            data = payload(row, "image")
            with Image.open(io.BytesIO(data)) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
                assert image.size == (row["width"], row["height"])


def test_pictures_look_as_before() -> None:
    for n in GOOD:
        row = rows()[n]
        data = payload(row, "image")
        size = row["width"], row["height"]
        source = Image.fromarray(decode_rgb(PICTURES[n], 1 << 30)).resize(size)
        assert np.abs(decode_rgb(data, 1 << 30).astype(int) - np.asarray(source)).mean() < 4


def test_a_plain_small_jpeg_is_kept_byte_for_byte() -> None:
    row = rows()[1]
    assert payload(row, "image") == PICTURES[1]


def with_segment(marker: int, body: bytes) -> bytes:
    length = (len(body) + 2).to_bytes(2, "big")
    return PICTURES[1][:2] + bytes([0xFF, marker]) + length + body + PICTURES[1][2:]


@pytest.mark.parametrize(
    "data",
    [
        with_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0GPS: at home"),
        with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0 at home"),
        with_segment(0xED, b"Photoshop 3.0\0 at home"),
        with_segment(0xFE, b"at home"),
        PICTURES[1] + b"PK\x03\x04 at home",
    ],
    ids=["exif", "xmp", "iptc", "comment", "trailer"],
)
def test_what_a_picture_carries_along_is_left_behind(data: bytes) -> None:
    assert b"at home" in data
    packed = pack(TABLE.slice(0, 1), [data], TOKENS[:1], PackParams())
    assert packed.table["verdict"][0].as_py() is None
    assert b"at home" not in packed.tar
    assert b"at home" not in packed.arrow


def test_places_and_digests_are_those_of_the_payloads() -> None:
    for n in GOOD:
        row, source = rows()[n], TABLE.slice(n, 1).to_pylist()[0]
        image = payload(row, "image")
        assert hashlib.sha256(image).digest() == row["sha256"]
        assert row["source_sha256"] == source["sha256"]
        text = payload(row, "text")
        assert text.decode() == source["caption"]
        facts = payload(row, "json")
        with Image.open(io.BytesIO(PICTURES[n])) as original:
            size = original.size
        assert json.loads(facts) == {
            "uid": source["uid"].hex(),
            "url": source["url"],
            "caption": source["caption"],
            "language": "en",
            "width": row["width"],
            "height": row["height"],
            "original_width": size[0],
            "original_height": size[1],
            "sha256": row["sha256"].hex(),
        }
        assert list(json.loads(facts)) == sorted(json.loads(facts))


def test_webdataset_reads_the_pairs_in_the_order_of_uids(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(PACKED.tar)
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == [
        TABLE["uid"][n].as_py().hex() for n in IN_ORDER
    ]
    for n, sample in zip(IN_ORDER, samples, strict=True):
        assert {"jpg", "json", "txt"} <= set(sample)
        assert sample["txt"].decode() == TABLE["caption"][n].as_py()


def test_the_arrow_file_holds_the_same_pairs() -> None:
    arrow = pa.ipc.open_file(PACKED.arrow).read_all()
    assert arrow.schema == ARROW
    assert arrow["uid"].to_pylist() == [TABLE["uid"][n].as_py() for n in IN_ORDER]
    for n, row in zip(IN_ORDER, arrow.to_pylist(), strict=True):
        place = rows()[n]
        image = payload(place, "image")
        assert row["image"] == image
        assert row["caption"] == TABLE["caption"][n].as_py()
        assert row["tokens"] == TOKENS[n].tolist() == place["tokens"]


def test_record_batches_are_bounded() -> None:
    count = 1500
    packed = pack(table_of(count), [PICTURES[1]] * count, tokens_of(count), PackParams())
    reader = pa.ipc.open_file(packed.arrow)
    sizes = [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)]
    assert sizes == [1024, 476]


def test_the_order_of_rows_changes_no_byte() -> None:
    order = np.random.default_rng(0).permutation(len(PICTURES))
    again = pack(
        TABLE.take(pa.array(order)),
        [PICTURES[n] for n in order],
        [TOKENS[n] for n in order],
        PackParams(),
    )
    assert again.tar == PACKED.tar
    assert again.arrow == PACKED.arrow
    assert again.table.equals(PACKED.table.take(pa.array(order)))


def test_no_rows_give_an_empty_shard_that_opens() -> None:
    packed = pack(TABLE.slice(0, 0), [], [], PackParams())
    assert pa.ipc.open_file(packed.arrow).read_all().num_rows == 0
    assert packed.table.num_rows == 0
