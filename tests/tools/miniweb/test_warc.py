"""WARC files as the generator writes them: read back by a reader that is not ours, and replayed."""

import http.client
from collections.abc import Sequence
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType

from jobs.quickstart.serve import ReplayServer
from tools.miniweb import warc
from tools.miniweb.warc import HttpExchange

PNG = (("Content-Type", "image/png"),)
LONG = bytes(range(256))


def written(path: Path, exchanges: Sequence[HttpExchange]) -> list[tuple[WarcRecordType, str]]:
    """The kinds and URLs of the records."""
    warc.write_images(path, exchanges)
    with path.open("rb") as opened:
        return [
            (record.record_type, record.headers.get("WARC-Target-URI") or "")
            for record in ArchiveIterator(opened)
        ]


def test_a_body_is_stored_once_and_answers_for_all_its_addresses(tmp_path: Path) -> None:
    urls = [f"http://{host}.example/a.png" for host in ("first", "second")]
    path = tmp_path / "images.warc.gz"
    records = written(path, [HttpExchange(url, 200, PNG, LONG) for url in urls])
    assert records == [
        (WarcRecordType.warcinfo, ""),
        (WarcRecordType.response, urls[0]),
        (WarcRecordType.revisit, urls[1]),
    ]
    with ReplayServer([path]) as server:
        connection = http.client.HTTPConnection(server.address, timeout=60)
        for host in ("first", "second"):
            headers = {"Host": f"{host}.example", "X-Forwarded-Proto": "http"}
            connection.request("GET", "/a.png", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, LONG)


def test_short_bodies_and_cut_ones_are_stored_each_time(tmp_path: Path) -> None:
    short = [HttpExchange(f"http://s.example/{n}", 200, PNG, b"short") for n in range(2)]
    cut = [HttpExchange(f"http://c.example/{n}", 200, PNG, LONG, lost=9) for n in range(2)]
    records = written(tmp_path / "images.warc.gz", [*short, *cut])
    assert [kind for kind, _ in records[1:]] == [WarcRecordType.response] * 4


def test_payload_digests_verify(tmp_path: Path) -> None:
    path = tmp_path / "page.warc.gz"
    page = HttpExchange("http://p.example/", 200, (("Content-Type", "text/html"),), b"<p>words")
    path.write_bytes(warc.member(warc.response(page, digests=True)))
    with path.open("rb") as opened:
        # While the iterator stands at the record: its body is gone afterwards.
        assert [record.verify_payload_digest() for record in ArchiveIterator(opened)] == [True]


def test_the_same_exchanges_give_the_same_bytes(tmp_path: Path) -> None:
    exchanges = [HttpExchange("http://a.example/", 200, PNG, LONG)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "images.warc.gz", exchanges)
    one, two = ((tmp_path / name / "images.warc.gz").read_bytes() for name in ("one", "two"))
    assert one == two
