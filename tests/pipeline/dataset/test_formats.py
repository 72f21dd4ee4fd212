"""One table of picture formats, and every list that is derived from it."""

import io
import tarfile
from pathlib import Path

from PIL import Image

from curation.images import header
from pipeline.dataset.formats import PICTURE_FORMATS, PICTURE_SUFFIXES, WEB_FORMATS
from pipeline.dataset.read.webdataset import index_of
from trainer.data import images
from trainer.evaluate import sets


def encoded(name: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, name)
    return out.getvalue()


def test_no_name_or_suffix_stands_twice() -> None:
    names = [format.name for format in PICTURE_FORMATS]
    assert len(set(names)) == len(names)
    assert len(set(PICTURE_SUFFIXES)) == len(PICTURE_SUFFIXES)


def test_what_is_fetched_is_recognised_and_written_under_the_canonical_suffix() -> None:
    assert header.FORMATS == ("jpeg", "png", "webp", "gif")
    assert [format.suffix for format in WEB_FORMATS] == ["jpg", "png", "webp", "gif"]
    for format in WEB_FORMATS:
        assert header.sniff(encoded(format.name)) == format.name


def test_training_decodes_every_format_of_the_table() -> None:
    assert images.FORMATS == ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    Image.init()
    assert set(images.FORMATS) <= set(Image.OPEN)


def test_suffixes_agree_with_pillows() -> None:
    Image.init()
    for format in PICTURE_FORMATS:
        assert {Image.EXTENSION[f".{suffix}"] for suffix in format.suffixes} == {
            format.name.upper()
        }


def test_evaluation_sets_take_all_suffixes_in_clip_benchmarks_order() -> None:
    assert sets.IMAGE_SUFFIXES[:4] == ("webp", "png", "jpg", "jpeg")
    assert sorted(sets.IMAGE_SUFFIXES) == sorted(PICTURE_SUFFIXES)


def test_web_formats_come_first() -> None:
    assert PICTURE_FORMATS[: len(WEB_FORMATS)] == WEB_FORMATS


def test_a_foreign_tar_and_an_evaluation_set_may_hold_any_of_them(tmp_path: Path) -> None:
    (tmp_path / "set/test").mkdir(parents=True)
    (tmp_path / "set/dataset_type.txt").write_text("retrieval\n")
    (tmp_path / "set/test/nshards.txt").write_text("1\n")
    path = tmp_path / "set/test/0.tar"
    with tarfile.open(path, "w") as tar:
        for suffix in PICTURE_SUFFIXES:
            for member, data in ((suffix, b"a picture"), ("txt", b"a caption")):
                header = tarfile.TarInfo(f"of-{suffix}.{member}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    assert len(index_of(path)) == len(PICTURE_SUFFIXES)
    samples = list(sets.read_set(tmp_path / "set").samples())
    assert [sample.key for sample in samples] == [f"of-{suffix}" for suffix in PICTURE_SUFFIXES]
