"""Datasets read from their folders: ours by the manifest, foreign tars, subsets; damage is told."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.manifest import digest
from pipeline.dataset.read.folder import PairFolder
from pipeline.dataset.read.shards import Columns, PairDataset
from pipeline.dataset.read.webdataset import index_of
from tests.support.folders import Pair, coloured_pairs, pictures, write_dataset
from trainer.data.sources import Source, open_source
from trainer.errors import ConfigError
from trainer.text.tokenizer import encode_batch

Squares = Callable[..., Path]
ALL = Columns()


def pairs_of(dataset: PairDataset) -> list[tuple[str, bytes, list[int]]]:
    """Uid, image and token ids of every pair, in order."""
    found = []
    for index, size in enumerate(dataset.sizes):
        shard = dataset.open(index, ALL)
        assert np.array_equal(shard.uids, dataset.uids(index))
        for row in range(size):
            uid = "{:016x}{:016x}".format(*shard.uids[row].tolist())
            ids = shard.ids(row, 77)
            if ids is None:
                ids = encode_batch([shard.caption(row)], 77)[0]
            found.append((uid, bytes(shard.images[row]), ids.tolist()))
    return found


def expected(pairs: list[Pair]) -> list[tuple[str, bytes, list[int]]]:
    ids = encode_batch([pair.caption for pair in pairs])
    return [
        (pair.uid.hex(), pair.image, some.tolist()) for pair, some in zip(pairs, ids, strict=True)
    ]


def tokens_of(pairs: list[Pair]) -> pa.Array:
    return pa.array(encode_batch([pair.caption for pair in pairs]), pa.list_(pa.uint16()))


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("images", ["arrow", "tar"])
@pytest.mark.parametrize("parts", [1, 3])
def test_rows_are_the_pairs_in_the_order_of_the_parts(
    squares: Squares, images: str, parts: int, stored: bool
) -> None:
    pairs = coloured_pairs(20)
    columns = {"tokens": tokens_of(pairs)} if stored else {}
    dataset = PairFolder.at(squares(20, parts=parts, images=images, columns=columns))
    assert pairs_of(dataset) == expected(pairs)
    dataset.verify()


@pytest.mark.parametrize("images", ["arrow", "tar"])
def test_a_part_may_be_empty(squares: Squares, images: str) -> None:
    dataset = PairFolder.at(squares(2, parts=3, images=images))
    assert pairs_of(dataset) == expected(coloured_pairs(2))


def test_long_captions_are_cut_with_the_end_marker_last(squares: Squares) -> None:
    pairs = coloured_pairs(2)
    stored = PairFolder.at(squares(2, columns={"tokens": tokens_of(pairs)})).open(0, ALL)
    ids = stored.ids(0, 4)
    assert ids is not None and ids.tolist() == encode_batch([pairs[0].caption], 4)[0].tolist()


def test_digests_and_weights_come_where_they_are_asked_for(squares: Squares) -> None:
    digests = pa.array([bytes([index]) * 32 for index in range(4)], pa.binary(32))
    folder = squares(4, columns={"sha256": digests, "weight": pa.array([1.0, 0.5, 2.0, 0.0])})
    shard = PairFolder.at(folder).open(1, Columns(sha256=True, weight=True))
    assert shard.sha256 is not None and shard.weights is not None
    assert [word.to_bytes(8, "little", signed=True)[0] for word in shard.sha256.tolist()] == [2, 3]
    assert shard.weights.tolist() == [2.0, 0.0]
    bare = PairFolder.at(folder).open(1, ALL)
    assert bare.sha256 is None and bare.weights is None


@pytest.mark.parametrize("suffix", ["parquet", "tar"])
def test_a_missing_or_short_file_is_told_before_anything_is_read(
    squares: Squares, suffix: str
) -> None:
    folder = squares(10, images="tar")
    file = folder / "parts" / f"00001.{suffix}"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=rf"00001\.{suffix}: it has \d+ bytes and"):
        PairFolder.at(folder)
    file.unlink()
    with pytest.raises(DatasetError, match=rf"00001\.{suffix}: No such file"):
        PairFolder.at(folder)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_damaged_file_is_told_when_its_shard_is_opened(squares: Squares, suffix: str) -> None:
    folder = squares(10)
    file = folder / "parts" / f"00001.{suffix}"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    dataset = PairFolder.at(folder)
    dataset.open(0, ALL)
    for look in (dataset.verify, lambda: dataset.open(1, ALL)):
        with pytest.raises(DatasetError, match=rf"00001\.{suffix}.*digest"):
            look()


def test_damage_inside_a_tar_is_found_by_verify_and_hurts_no_other_picture(
    squares: Squares,
) -> None:
    folder = squares(10, images="tar")
    file = folder / "parts" / "00001.tar"
    data = bytearray(file.read_bytes())
    data[600] ^= 1
    file.write_bytes(data)
    dataset = PairFolder.at(folder)
    differ = [
        a[0] for a, b in zip(pairs_of(dataset), expected(coloured_pairs(10)), strict=True) if a != b
    ]
    assert len(differ) == 1
    with pytest.raises(DatasetError, match=r"00001\.tar.*digest"):
        dataset.verify()


def test_an_arrow_file_of_other_pairs_is_refused(squares: Squares) -> None:
    folder = squares(10)
    manifest = json.loads((folder / "manifest.json").read_text())
    parts = manifest["parts"]
    parts[0]["files"]["arrow"] = parts[1]["files"]["arrow"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="its uids are not those"):
        PairFolder.at(folder).open(0, ALL)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("image_offset", pa.array([0, 10**9], pa.int64()), "row 1 lies outside"),
        ("image_size", pa.array([-1, 5], pa.int32()), "row 0 lies outside"),
        ("tokens", pa.array([[49406, 49407], [49406, 50_000, 49407]]), "token id 50000"),
        ("tokens", pa.array([[49406, 49407], [-1, 7]]), "no lists of ids"),
        ("tokens", pa.array([[49406, 49407], []], pa.list_(pa.uint16())), "row 1 lacks"),
        ("tokens", pa.array([[49406, 49407], [1, 2]]), "row 1 lacks"),
        ("tokens", pa.array([[49406, 49407], [49406, None, 49407]]), "no lists of ids"),
        ("uid", pa.array(["a", "b"]), "no column uid of 16 bytes"),
        ("caption", pa.array([1, 2]), "caption is of int64"),
        ("sha256", pa.array(["00" * 32] * 2), "sha256 is not of 32 bytes"),
        ("weight", pa.array(["much", "more"]), "weights are no numbers"),
        ("weight", pa.array([1.0, float("nan")]), "weights are negative"),
        ("other", pa.array([1, 2]), "no column weight"),
    ],
)
def test_what_a_sidecar_may_not_say(
    squares: Squares, column: str, values: pa.Array, message: str
) -> None:
    folder = squares(2, parts=1, images="tar", columns={column: values})
    with pytest.raises(DatasetError, match=message):
        PairFolder.at(folder).open(0, Columns(weight=True, sha256=True))


def test_an_arrow_file_that_lacks_images_is_refused(squares: Squares) -> None:
    folder = squares(2, parts=1)
    manifest = json.loads((folder / "manifest.json").read_text())
    ref = manifest["parts"][0]["files"]["arrow"]
    table = pa.ipc.open_file((folder / ref["path"]).read_bytes()).read_all()
    for broken in (
        table.drop_columns("image"),
        table.set_column(
            table.column_names.index("image"), "image", pa.nulls(2, table["image"].type)
        ),
    ):
        with pa.ipc.new_file(str(folder / ref["path"]), broken.schema) as writer:
            writer.write_table(broken)
        data = (folder / ref["path"]).read_bytes()
        ref |= {"digest": digest(data), "size_bytes": len(data)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(DatasetError, match="lacks the column uid or image"):
            PairFolder.at(folder).open(0, ALL)


@pytest.mark.parametrize("place", ["../secret.parquet", "/etc/passwd", "parts/../../x"])
def test_a_manifest_that_points_out_of_its_folder_is_refused(squares: Squares, place: str) -> None:
    folder = squares(2)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"][0]["files"]["parquet"]["path"] = place
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="is not below its folder"):
        PairFolder.at(folder)


@pytest.mark.parametrize("text", ["{", "3", '"x"', '{"format": 1, "parts": [{"files": []}]}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json: it is damaged"):
        PairFolder.at(tmp_path)


def test_a_tar_that_shrinks_while_it_is_read_is_no_bad_image(squares: Squares) -> None:
    folder = squares(6, parts=1, images="tar")
    shard = PairFolder.at(folder).open(0, ALL)
    os.truncate(folder / "parts" / "00000.tar", 1000)
    with pytest.raises(DatasetError, match="row 5: the file has become shorter"):
        shard.images[5]


def test_folders_that_are_no_datasets_are_refused_with_what_to_do(
    squares: Squares, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"build it first"):
        open_source(Source(tmp_path), tmp_path)
    with pytest.raises(DatasetError, match=r"it holds no pairs"):
        open_source(Source(squares(0)), tmp_path)
    with pytest.raises(DatasetError, match=r"there is no such folder"):
        open_source(Source(tmp_path / "mistyped"), tmp_path)


def test_sources_are_read_from_json() -> None:
    assert Source.from_json("a/b") == (Source(Path("a/b")),)
    assert Source.from_json([{"path": "a", "weight": 2, "subset": "s.npy"}, "b"]) == (
        Source(Path("a"), 2.0, Path("s.npy")),
        Source(Path("b")),
    )
    wrongs: tuple[object, ...] = (
        {"path": "a", "wieght": 2},
        {"path": "a", "weight": 0},
        {"path": "a", "weight": 10**400},
        {"path": "a", "subset": ""},
        {"path": 3},
        "",
        [],
        7,
        None,
    )
    for wrong in wrongs:
        with pytest.raises(ConfigError, match="dataset"):
            Source.from_json(wrong)


def chosen_as(form: str, pairs: list[Pair], folder: Path) -> Path:
    """A list of uids in one of the forms that subsets take."""
    uids = [pair.uid for pair in pairs]
    if form == "folder":
        return write_dataset(folder / "chosen", pairs, parts=3)
    if form == "parquet":
        pq.write_table(pa.table({"uid": pa.array(uids, pa.binary(16))}), folder / "some.parquet")
        return folder / "some.parquet"
    words = [(int(uid.hex()[:16], 16), int(uid.hex()[16:], 16)) for uid in uids]
    np.save(folder / "some.npy", np.array(words, np.dtype("u8,u8")))
    return folder / "some.npy"


@pytest.mark.parametrize("form", ["folder", "parquet", "npy"])
@pytest.mark.parametrize("stored", [True, False])
def test_a_subset_holds_the_pairs_that_are_listed_in_any_form(
    form: str, stored: bool, tmp_path: Path
) -> None:
    pairs = pictures(30)
    columns = {"tokens": tokens_of(pairs)} if stored else {}
    folder = write_dataset(tmp_path / "all", pairs, parts=4, images="tar", columns=columns)
    some = [pairs[index] for index in (29, 3, 4, 17, 25)]
    strangers = [Pair(bytes(16), pairs[0].image, ""), Pair(bytes([255] * 16), pairs[0].image, "")]
    chosen = chosen_as(form, some + strangers, tmp_path)
    subset = open_source(Source(folder, subset=chosen), tmp_path / "index")
    assert pairs_of(subset) == expected([pair for pair in pairs if pair in some])
    again = open_source(Source(folder, subset=chosen), tmp_path / "other")
    assert subset.content == again.content != PairFolder.at(folder).content
    other_form = chosen_as("npy" if form == "folder" else "folder", some + strangers, tmp_path)
    assert subset.content == open_source(Source(folder, subset=other_form), tmp_path).content


def test_a_subset_of_nothing_is_refused(squares: Squares, tmp_path: Path) -> None:
    folder = squares(4)
    chosen = chosen_as("npy", pictures(3), tmp_path)
    with pytest.raises(DatasetError, match="none of its 3 uids is in"):
        open_source(Source(folder, subset=chosen), tmp_path)
    for form in ("folder", "parquet", "npy"):
        (tmp_path / form).mkdir()
        with pytest.raises(DatasetError, match="it lists no uid"):
            open_source(Source(folder, subset=chosen_as(form, [], tmp_path / form)), tmp_path)
    np.save(tmp_path / "ints.npy", np.arange(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name, message in (
        ("ints.npy", "not u8,u8"),
        ("objects.npy", "cannot be read"),
        ("no.txt", "a subset is"),
        ("no.parquet", "No such file"),
    ):
        with pytest.raises(DatasetError, match=message):
            open_source(Source(folder, subset=tmp_path / name), tmp_path)


def write_foreign(folder: Path, pairs: list[Pair], per_tar: int = 5) -> Path:
    """As the webdataset package writes it: captions as .txt, or as "caption" in the .json."""
    wds = pytest.importorskip("webdataset")
    folder.mkdir()
    for first in range(0, len(pairs), per_tar):
        with wds.TarWriter(str(folder / f"{first:05d}.tar")) as writer:
            for index, pair in enumerate(pairs[first : first + per_tar], start=first):
                sample: dict[str, Any] = {"__key__": f"sub.d/{index:06d}", "jpg": pair.image}
                facts = {"uid": pair.uid.hex(), "width": 48}
                if index % 2:
                    sample |= {"txt": pair.caption, "json": {**facts, "caption": "not this one"}}
                else:
                    sample |= {"json": {**facts, "caption": pair.caption}}
                writer.write(sample)
    return folder


def test_a_foreign_webdataset_holds_the_pairs_that_webdataset_reads(tmp_path: Path) -> None:
    pairs = pictures(12)
    folder = write_foreign(tmp_path / "foreign", pairs)
    dataset = open_source(Source(folder), tmp_path / "index")
    assert pairs_of(dataset) == expected(pairs)
    wds = pytest.importorskip("webdataset")
    peer = wds.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=False)
    assert [sample["jpg"] for sample in peer] == [image for _, image, _ in pairs_of(dataset)]
    dataset.verify()


def test_indexes_are_used_again_until_a_tar_changes(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "foreign", pictures(12))
    first = open_source(Source(folder), tmp_path / "index")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()}
    again = open_source(Source(folder), tmp_path / "index")
    assert again.content == first.content
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()}
    write_foreign(tmp_path / "other", list(reversed(pictures(12))))
    changed = folder / "00005.tar"
    changed.write_bytes((tmp_path / "other" / "00005.tar").read_bytes() + bytes(10240))
    with pytest.raises(DatasetError, match=r"00005\.tar: it had"):
        first.open(1, ALL)
    assert open_source(Source(folder), tmp_path / "index").content != first.content


def test_many_tars_are_indexed_by_several_processes_alike(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "foreign", pictures(10), per_tar=1)
    assert pairs_of(open_source(Source(folder), tmp_path / "index")) == expected(pictures(10))


def test_nothing_but_regular_members_with_a_key_is_looked_at(tmp_path: Path) -> None:
    image, path = pictures(1)[0].image, tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("a.jpg", image),
            ("a.TXT", b"a caption"),
            ("__meta__/x.jpg", image),
            ("noend", b"?"),
            (".hidden.jpg", image),
            ("b.seg.png", image),
            ("b.txt", b"no image"),
            ("c.webp", image),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("d.jpg")
            member.type, member.linkname = kind, "a.jpg"
            tar.addfile(member)
    with pytest.warns(UserWarning, match="2 of 3 samples lack"):
        table = index_of(path)
    assert table["caption"].to_pylist() == ["a caption"]
    again = tmp_path / "renamed.tar"
    again.write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match="2 of 3"):
        assert index_of(again)["uid"] != table["uid"]


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_tar_that_is_cut_or_damaged_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "foreign", pictures(5))
    tar = folder / "00000.tar"
    data = tar.read_bytes()
    with tarfile.open(tar) as members:
        headers = [member.offset for member in members]
    ends = headers[-1] + 512 + 512  # of a last member that is shorter than a block
    damaged = {
        "in a payload": data[:3000],
        "at a header": data[: headers[4]],
        "in a header": data[: headers[4] + 100],
        "before the end": data[:ends],
        "a header's bit": _flipped(data, headers[4] + 3),
        "zeros for a header": data[: headers[4]] + bytes(512) + data[headers[4] + 512 :],
        "two tars": data + data,
        "two tars far apart": data + bytes(3 << 20) + data,
    }
    for index, (how, bytes_) in enumerate(damaged.items()):
        tar.write_bytes(bytes_)
        with pytest.raises(DatasetError, match=r"00000\.tar: it is no whole tar"):
            open_source(Source(folder), tmp_path / f"index-{index}")
            pytest.fail(how)


def test_one_odd_sample_does_not_end_a_foreign_dataset(tmp_path: Path) -> None:
    image, path = pictures(1)[0].image, tmp_path / "odd.tar"
    members = {
        "a.jpg": image,
        "a.json": b'{"caption": "half an emoji \\ud83d"}',
        "b.jpg": image,
        "b.json": b"[" * 200_000,
        "c\udce9.jpg": image,
        "c\udce9.txt": b"caf\xe9",
    }
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.warns(UserWarning, match="1 of 3 samples lack"):
        table = index_of(path)
    assert table["caption"].to_pylist() == ["half an emoji ?", "caf\ufffd"]
