"""The picture rules, reason by reason."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.images.decode import decode_rgb
from curation.images.image_rules import ImageRuleParams, ImageRuleReason, image_rules
from curation.images.perceptual import phash
from tests.support.pictures import BOMBS, KINDS, encode, photo


def judge(*pictures: bytes, **params: Any) -> pa.Table:
    table = pa.table({"position": pa.array(range(len(pictures)), pa.int32())})

    def images(rows: pa.Table) -> list[bytes]:
        return [pictures[n] for n in rows["position"].to_pylist()]

    return image_rules(table, images, ImageRuleParams(**params))


GRAY = Image.new("RGB", (100, 100), "gray")
REASONS = [
    (KINDS["jpeg"], {}, None, None),
    (KINDS["webp"], {}, None, None),
    (b"<html>not found</html>", {}, "undecodable", None),
    (KINDS["jpeg"][:-500], {}, "undecodable", None),
    (KINDS["png"][:4000], {}, "undecodable", None),
    (encode(photo(0, 31, 40)), {}, "too_small", 31),
    (encode(photo(0, 32, 40)), {}, None, None),
    (KINDS["jpeg"], {"min_side": 241}, "too_small", 240),
    (BOMBS["png"], {}, "too_large", 900_000_000),
    (KINDS["jpeg"], {"max_pixels": 76_799}, "too_large", 76_800),
    (KINDS["jpeg"], {"max_pixels": 76_800}, None, None),
    (encode(photo(0, 301, 100)), {}, "too_elongated", 3.01),
    (encode(photo(0, 100, 301)), {}, "too_elongated", 3.01),
    (encode(photo(0, 300, 100)), {}, None, None),
    (encode(GRAY), {}, "low_information", 0),
    (encode(GRAY, "png"), {}, "low_information", 0),
    (encode(GRAY), {"min_deviation": 0}, None, None),
]


@pytest.mark.parametrize(("data", "params", "reason", "value"), REASONS)
def test_the_verdict(
    data: bytes, params: dict[str, Any], reason: str | None, value: float | None
) -> None:
    verdict = judge(data, **params)["verdict"][0].as_py()
    if reason is None:
        assert verdict is None
    else:
        assert (verdict["reason"], verdict["value"]) == (reason, value)


def test_only_damage_counts_as_damage() -> None:
    assert [reason for reason in ImageRuleReason if reason.damage] == [ImageRuleReason.UNDECODABLE]


def test_measures_are_of_the_upright_picture_whatever_the_verdict() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(photo(1), exif=exif)
    row = judge(turned, min_side=1000).to_pylist()[0]
    assert (row["width"], row["height"], row["format"]) == (240, 320, "jpeg")
    assert (int(row["phash"]) ^ phash(decode_rgb(turned, 1 << 30))).bit_count() <= 3
    assert len(row["colours"]) == 48


def test_what_was_not_decoded_has_no_hash() -> None:
    rows = judge(b"text", BOMBS["gif"], KINDS["jpeg"]).to_pylist()
    assert [row["width"] for row in rows] == [None, 65_000, 320]
    assert [row["phash"] is None for row in rows] == [True, True, False]


def test_pictures_are_asked_for_in_bounded_batches_and_stay_in_order() -> None:
    pictures = [encode(photo(0, 40 + n % 7, 40)) for n in range(7)]
    table = pa.table({"position": np.arange(600)})
    asked = []

    def images(rows: pa.Table) -> list[bytes]:
        asked.append(rows.num_rows)
        return [pictures[n % 7] for n in rows["position"].to_pylist()]

    result = image_rules(table, images, ImageRuleParams())
    assert max(asked) <= 256
    assert sum(asked) == 600
    assert result["width"].to_pylist() == [40 + n % 7 for n in range(600)]


def test_no_rows_give_no_rows() -> None:
    assert judge().schema.field("phash").type == pa.uint64()
