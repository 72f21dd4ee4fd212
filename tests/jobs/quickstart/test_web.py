"""The mini-web as committed: its files parse, its server replays them, its eval set is apart."""

import hashlib
import http.client
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from PIL import Image

from jobs.quickstart import serve
from jobs.quickstart.serve import ReplayServer, image_files, index

HERE = Path(serve.__file__).parent
HELDOUT = HERE / "heldout/wds_openmoji"
MAX_BYTES = 14_500_000


def records(path: Path) -> Iterator[tuple[WarcRecordType, str, int, bytes]]:
    with path.open("rb") as opened:
        for record in ArchiveIterator(opened):
            status = record.http_headers.status_code if record.is_http else None
            url = record.headers.get("WARC-Target-URI") or ""
            yield record.record_type, url, status or 0, record.reader.read()


@pytest.fixture(scope="module")
def recorded() -> dict[str, tuple[int, bytes]]:
    """Status and body of every plain response among the image records, by URL."""
    rows = (row for path in image_files() for row in records(path))
    return {
        url: (status, body) for kind, url, status, body in rows if kind == WarcRecordType.response
    }


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with ReplayServer() as running:
        yield running


def ask(server: ReplayServer, url: str, method: str = "GET") -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(server.address, timeout=120)
    target = parts.path + ("?" + parts.query if parts.query else "")
    headers = {"Host": parts.netloc, "X-Forwarded-Proto": parts.scheme}
    connection.request(method, target, headers=headers)
    return connection.getresponse()


def follow(server: ReplayServer, url: str, hops: int = 12) -> list[int]:
    statuses = []
    for _ in range(hops):
        answer = ask(server, url)
        statuses.append(answer.status)
        if answer.status not in (301, 302, 308):
            break
        url = urljoin(url, answer.headers["Location"])
    return statuses


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None
    return opened.read()


def test_recorded_statuses_and_bodies_come_back(
    server: ReplayServer, recorded: dict[str, tuple[int, bytes]]
) -> None:
    whole = {url: row for url, row in recorded.items() if "slowline" not in url}
    assert {200, 301, 302, 308, 403, 404, 410, 429, 500, 503} <= {row[0] for row in whole.values()}
    for url in sorted(whole)[::20]:
        answer = ask(server, url)
        assert (answer.status, answer.read()) == whole[url], url


@pytest.mark.parametrize(
    ("host", "header", "value"),
    [
        ("artists.example", "X-Robots-Tag", "noai"),
        ("artists.example", "X-Robots-Tag", "noindex"),
        ("artists.example", "X-Robots-Tag", "otherbot: noindex, noai"),
        ("api.icons.example", "Retry-After", "1"),
        ("vectors.example", "Content-Type", "image/svg+xml"),
    ],
)
def test_headers_come_back(server: ReplayServer, host: str, header: str, value: str) -> None:
    keys = [key for key in server.answers if key[1] == host]
    urls = [f"{scheme}://{name}{target.decode()}" for scheme, name, target in keys]
    assert value in {ask(server, url).headers.get(header) for url in urls}


def test_redirects_lead_somewhere_nowhere_and_round(server: ReplayServer) -> None:
    hops = [key[2].decode() for key in server.answers if key[1] == "go.shortlink.example"]
    starts = [hop for hop in sorted(hops) if hop.count("/") == 2]
    chains = [follow(server, f"https://go.shortlink.example{hop}") for hop in starts]
    assert {len(chain) for chain in chains} == {4, 5, 6, 7, 8, 9}
    assert {chain[-1] for chain in chains} == {200}
    loop = next(hop for hop in hops if hop.endswith("/loop"))
    assert follow(server, f"https://go.shortlink.example{loop}") == [302] * 12
    dead = next(hop for hop in hops if hop.endswith("/old"))
    assert follow(server, f"https://go.shortlink.example{dead}") == [301, 404]


def test_http_may_redirect_to_https_of_the_same_path(server: ReplayServer) -> None:
    both = [
        key for key in server.answers if key[0] == "http" and ("https", *key[1:]) in server.answers
    ]
    assert len(both) > 10
    _, host, target = both[0]
    path = target.decode()
    assert follow(server, f"http://{host}{path}")[-1] == 200
    connection = http.client.HTTPConnection(server.address)
    connection.request("GET", path, headers={"Host": host})
    assert connection.getresponse().status == 200, "without the header, https is meant"


def test_a_cut_body_is_announced_in_full_and_then_the_line_drops(server: ReplayServer) -> None:
    cut = [key for key, row in server.answers.items() if row.length > len(row.body)]
    assert len(cut) == 6
    scheme, host, target = cut[0]
    with pytest.raises(http.client.IncompleteRead):
        ask(server, f"{scheme}://{host}{target.decode()}").read()


def test_revisit_records_answer_with_the_first_body(server: ReplayServer) -> None:
    parked = {row.body for key, row in server.answers.items() if key[1].startswith("parked")}
    assert len(parked) == 1, "one placeholder on many hosts"
    assert Image.open(io.BytesIO(parked.pop())).size == (120, 90)


def test_unknown_addresses_and_other_methods(server: ReplayServer) -> None:
    assert ask(server, "http://nowhere.example/x.png").status == 404
    assert ask(server, "http://nowhere.example/x.png", "POST").status == 405
    (scheme, host, target), row = next(iter(server.answers.items()))
    head = ask(server, f"{scheme}://{host}{target.decode()}", "HEAD")
    assert (head.read(), int(head.headers["Content-Length"])) == (b"", row.length)


def test_one_connection_serves_many_hosts(
    server: ReplayServer, recorded: dict[str, tuple[int, bytes]]
) -> None:
    urls = [url for url, row in sorted(recorded.items()) if row[0] == 200 and "slowline" not in url]
    connection = http.client.HTTPConnection(server.address)
    for url in urls[:40]:
        parts = urlsplit(url)
        target = parts.path + ("?" + parts.query if parts.query else "")
        connection.request("GET", target, headers={"Host": parts.netloc})
        assert connection.getresponse().read() == recorded[url][1]
        assert connection.sock is not None, "kept alive"


def test_a_stopped_server_is_gone_and_a_taken_port_is_an_error() -> None:
    with ReplayServer(image_files()) as running:
        port = int(running.address.rpartition(":")[2])
        with pytest.raises(OSError), ReplayServer(image_files(), port=port):
            pass
    with pytest.raises(ConnectionRefusedError):
        ask(running, "http://nowhere.example/")


def test_page_files_parse_and_hold_a_crawl() -> None:
    paths = sorted((HERE / "web").glob("pages-*.warc.gz"))
    assert [path.name for path in paths] == [f"pages-{n:02d}.warc.gz" for n in range(8)]
    kinds: Counter[bool] = Counter()
    urls: list[str] = []
    images = 0
    for path in paths:
        for kind, url, status, body in records(path):
            kinds[kind == WarcRecordType.response] += 1
            if kind == WarcRecordType.response:
                urls.append(url)
                images += body.lower().count(b"<img") * (status == 200)
    assert kinds[False] >= 16, "warcinfo and request records among the responses"
    assert len(urls) == len(set(urls)) and len({urlsplit(url).netloc for url in urls}) >= 20
    assert 9_000 <= images <= 14_000


def test_page_records_have_right_digests() -> None:
    path = HERE / "web/pages-00.warc.gz"
    with path.open("rb") as opened:
        pages = ArchiveIterator(opened, record_types=WarcRecordType.response)
        assert all(record.verify_payload_digest() for record in pages)


def test_committed_data_is_small() -> None:
    files = [
        path for path in HERE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_heldout_set_is_complete() -> None:
    names = (HELDOUT / "classnames.txt").read_text("utf-8").splitlines()
    templates = (HELDOUT / "zeroshot_classification_templates.txt").read_text().splitlines()
    assert len(names) == len(set(names)) >= 1400
    assert len(templates) == 10 and all("{c}" in template for template in templates)
    assert (HELDOUT / "test/nshards.txt").read_text().strip() == "1"
    with tarfile.open(HELDOUT / "test/0.tar") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(member.mtime, member.uid, member.gid) for member in members} == {(0, 0, 0)}
        data = {member.name: content(tar, member) for member in members}
    for place, name in enumerate(names):
        key = f"s{place:07d}"
        assert data[f"{key}.cls"] == str(place).encode()
        assert name.lower() in data[f"{key}.txt"].decode().lower()
    for place in range(0, len(names), 50):
        assert Image.open(io.BytesIO(data[f"s{place:07d}.webp"])).size == (64, 64)
    assert len(data) == 3 * len(names)


def test_heldout_pictures_are_not_in_the_web() -> None:
    with tarfile.open(HELDOUT / "test/0.tar") as tar:
        images = [member for member in tar if member.name.endswith(".webp")]
        heldout = {hashlib.sha256(content(tar, member)).digest() for member in images}
    web = {hashlib.sha256(row.body).digest() for row in index(image_files()).values()}
    assert len(heldout) > 1400 and not heldout & web


def test_queries_are_sorted_and_unique_and_hold_the_class_names() -> None:
    lines = (HERE / "queries.txt").read_text("utf-8").splitlines()
    assert lines == sorted(set(lines)) and len(lines) > 10_000
    names = (HELDOUT / "classnames.txt").read_text("utf-8").lower().splitlines()
    assert len(set(names) - set(lines)) == 0
    assert {"emoji", "icon", "face", "flag", "clip art"} <= set(lines)
