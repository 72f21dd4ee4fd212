"""The tar: the same bytes as the standard tools make, whoever asks and whenever."""

import io
import tarfile

import pytest

from curation.pack.tar import TarWriter

MEMBERS = {
    "a.jpg": b"",
    "b.json": b"{}",
    "c.txt": b"x" * 511,
    "d.txt": b"x" * 512,
    "e.txt": bytes(70_000),
    f"{'long' * 24}/{'name' * 20}.txt": b"ustar keeps a prefix",
    "h\u00e9.txt": b"not ASCII",
    f"w{'ide' * 100}.txt": b"needs PAX",
}


def write(members: dict[str, bytes]) -> tuple[bytes, dict[str, int]]:
    tar = TarWriter()
    offsets = {name: tar.add(name, data) for name, data in sorted(members.items())}
    return tar.finish(), offsets


def test_is_byte_for_byte_what_tarfile_writes() -> None:
    oracle = io.BytesIO()
    with tarfile.open(fileobj=oracle, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(MEMBERS.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert write(MEMBERS)[0] == oracle.getvalue()


def test_headers_name_no_owner_no_time_and_no_pax() -> None:
    data, _ = write({name: MEMBERS[name] for name in ("a.jpg", "b.json", "c.txt")})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}
    assert facts == {(0, 0, 0, "", "", 0o644)}
    assert b"PaxHeader" not in data


def test_offsets_point_at_the_payloads() -> None:
    data, offsets = write(MEMBERS)
    for name, payload in MEMBERS.items():
        assert data[offsets[name] : offsets[name] + len(payload)] == payload


@pytest.mark.parametrize("name", ["b", "a", "B", ""])
def test_names_that_do_not_ascend_are_refused(name: str) -> None:
    tar = TarWriter()
    tar.add("b", b"")
    with pytest.raises(ValueError, match="ascending"):
        tar.add(name, b"")
