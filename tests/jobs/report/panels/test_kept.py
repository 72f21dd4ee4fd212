"""Kept pairs: each beside its own picture."""

import io

import numpy as np
from PIL import Image

from jobs.report.rows import draw
from tests.support.html import Document
from tests.support.reports import COLOURS, ReportedBuild


def test_kept_pairs_stand_beside_their_own_pictures(built: ReportedBuild, page: Document) -> None:
    drawn = draw(built.datasets["shard"], "parquet", 48)[""]
    assert len(drawn) == len(page.pictures["kept"]) == 48
    for each, picture in zip(drawn, page.pictures["kept"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        assert max(pixels.shape) == 160
        number = int(each.row["url"].rsplit("/", 1)[1].split(".")[0])
        wanted = list(COLOURS.values())[number % 3]
        assert np.abs(pixels[80, 40].astype(int) - wanted).max() < 12
        assert each.row["uid"].hex() in page.panels["kept"]
