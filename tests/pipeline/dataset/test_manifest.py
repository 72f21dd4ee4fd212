"""Manifests: what is written is read back, newer ones are kept or refused, damage is one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.errors import DamagedFile, DatasetError, Exit, NewerFormat
from pipeline.dataset.manifest import FORMAT, FileRef, InputRef, Manifest, Part, digest, load

FILE = FileRef("parts/00000-ab.parquet", "ab" * 16, 7)
MANIFEST = Manifest(
    stage="match",
    stage_version=3,
    summary="Match captions",
    key="k" * 32,
    params={"mode": "normalized"},
    inputs={"upstream": InputRef("dedup", "d" * 32), "queries": InputRef("words", "e" * 32)},
    conserves=True,
    columns=[{"name": "uid", "type": "fixed_size_binary[16]", "unit": "", "about": "Who."}],
    content_digest="c" * 32,
    ledger_digest="f" * 32,
    rows_in=5,
    rows_kept=4,
    rows_dropped=1,
    reasons={"no_query": 1},
    reason_list={
        "no_query": {"label": "none of the queries", "hint": "", "damage": False},
        "lost": {"label": "lost on the way", "hint": "again", "damage": True},
    },
    parts=(Part(0, 5, 4, 1, {"no_query": 1}, {"parquet": FILE}),),
    provenance={"source": {"curation.queries.match": "00"}},
)


def test_a_manifest_is_read_back_as_it_was() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert json.loads(MANIFEST.to_json())["format"] == FORMAT == 1


def test_it_explains_its_reasons_without_the_code_that_gave_them() -> None:
    assert MANIFEST.label("no_query") == "none of the queries"
    assert MANIFEST.label("renamed_since") == "renamed_since"
    assert MANIFEST.damages() == {"lost"}
    assert (
        repr(MANIFEST) == "<Manifest of match v3: 5 in, 4 kept, 1 dropped, 1 parts, cccccccccccc>"
    )


def test_keys_of_a_newer_minor_format_are_kept() -> None:
    record = {**json.loads(MANIFEST.to_json()), "format": 1.2, "signature": {"by": "somebody"}}
    newer = Manifest.from_json(json.dumps(record))
    assert newer.rows_kept == MANIFEST.rows_kept
    assert newer.extra == {"signature": {"by": "somebody"}}
    assert json.loads(newer.to_json()) == record


def test_a_newer_major_format_is_refused_in_one_line(tmp_path: Path) -> None:
    record = {**json.loads(MANIFEST.to_json()), "format": 2}
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(
        NewerFormat, match=r"is of format 2, and this openwit reads up to 1\.x"
    ) as e:
        load(tmp_path)
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)
    assert e.value.exit_code == Exit.USER_ERROR


@pytest.mark.parametrize("left_out", ["format", "parts", "rows_in", "content_digest", "inputs"])
def test_a_manifest_that_lacks_a_key_is_damaged_not_a_defect(left_out: str) -> None:
    record = json.loads(MANIFEST.to_json())
    del record[left_out]
    with pytest.raises(DatasetError, match=r"manifest\.json") as caught:
        Manifest.from_json(json.dumps(record))
    assert "\n" not in str(caught.value)


@given(st.integers(0, len(MANIFEST.to_json().encode()) * 8 - 1))
def test_a_flipped_bit_is_another_manifest_or_one_line(bit: int) -> None:
    data = bytearray(MANIFEST.to_json().encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
        assert Manifest.from_json(bytes(data)) is not None
    except DatasetError as error:
        assert "manifest.json" in str(error)


def test_a_file_that_was_changed_names_its_folder_digest_and_the_way_out() -> None:
    ref = FileRef("parts/0.parquet", digest(b"written"), 7)
    ref.check(b"written", "store/match/k")
    with pytest.raises(DamagedFile) as caught:
        ref.check(b"wriTten", "store/match/k")
    message = str(caught.value)
    assert message.startswith("store/match/k/parts/0.parquet: damaged in storage")
    assert ref.digest in message and digest(b"wriTten") in message
    assert "delete store/match/k and run the recipe again" in message


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "parts/../../x"])
def test_a_file_outside_its_folder_is_refused(path: str) -> None:
    record = json.loads(MANIFEST.to_json())
    record["parts"][0]["files"]["parquet"]["path"] = path
    with pytest.raises(DatasetError, match="is not below its folder"):
        Manifest.from_json(json.dumps(record))
