"""Fetching, against a server on loopback that misbehaves in every way we know of."""

import asyncio
import hashlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from curation.fetch.opt_out import opt_out
from curation.fetch.pool import Fetched, FetchParams, FetchReason, Network, fetch
from tests.support.misbehaving import OTHERS, PICTURE, Handler, MisbehavingServer, serving
from tests.support.tables import pair_uids

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[MisbehavingServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(running: MisbehavingServer) -> MisbehavingServer:
    running.asked.clear()
    running.headers_seen.clear()
    return running


def pairs(urls: list[str], captions: list[str] | None = None) -> pa.Table:
    captions = captions or [f"caption {n}" for n in range(len(urls))]
    return pa.table({"uid": pair_uids(urls, captions), "url": urls, "caption": captions})


def network(server: MisbehavingServer, **settings: Any) -> Network:
    return Network(f"127.0.0.1:{server.server_port}", backoff_s=0.01, **settings)


def get(server: MisbehavingServer, *urls: str, **params: Any) -> Fetched:
    params = {"timeout_s": 60, "retries": 0} | params
    return fetch(pairs(list(urls)), FetchParams(**params), network(server), 3)


def verdict(server: MisbehavingServer, url: str, **params: Any) -> Any:
    return get(server, url, **params).table["verdict"][0].as_py()


A = "http://a.example"
REASONS = [
    (f"{A}/ok", None, None),
    ("https://a.example/ok", None, None),
    (f"{A}:8080/ok#part", None, None),
    (f"{A}/as/png", None, None),
    (f"{A}/as/webp", None, None),
    (f"{A}/as/gif", None, None),
    (f"{A}/to//ok", None, None),
    (f"{A}/to/http://b.example/ok", None, None),
    (f"{A}/count/5", None, None),
    (f"{A}/status/404", "not_found", 404),
    (f"{A}/status/410", "not_found", 410),
    (f"{A}/status/401", "forbidden", 401),
    (f"{A}/status/403", "forbidden", 403),
    (f"{A}/status/451", "forbidden", 451),
    (f"{A}/status/429", "rate_limited", 429),
    (f"{A}/status/500", "server_error", 500),
    (f"{A}/status/503", "server_error", 503),
    (f"{A}/status/206", "other_status", 206),
    (f"{A}/status/402", "other_status", 402),
    (f"{A}/status/300", "other_status", 300),
    (f"{A}/nowhere", "other_status", 302),
    (f"{A}/loop/0", "redirect_loop", 2),
    (f"{A}/count/6", "redirect_loop", 6),
    (f"{A}/html", "not_image", 200),
    (f"{A}/zipped", "not_image", 200),
    (f"{A}/bytes", "not_image", 200),
    (f"{A}/empty", "empty_body", 200),
    (f"{A}/status/204", "empty_body", 204),
    (f"{A}/claims/999999", "truncated_body", None),
    (f"{A}/claims/40", "bad_answer", None),
    (f"{A}/claims/-1", "bad_answer", None),
    (f"{A}/claims/99999999999", "too_large", 99999999999),
    (f"{A}/chunked/cut", "truncated_body", None),
    (f"{A}/chunked/lies", "bad_answer", None),
    (f"{A}/endless", "too_large", None),
    (f"{A}/drip", "timeout", None),
    (f"{A}/drip_header", "timeout", None),
    (f"{A}/late/60", "timeout", None),
    (f"{A}/garbage", "bad_answer", None),
    (f"{A}/flood", "bad_answer", None),
    (f"{A}/hangup", "connect_failed", None),
    ("ftp://a.example/ok", "scheme_refused", None),
    ("file:///etc/passwd", "scheme_refused", None),
    ("data:image/png;base64,AAAA", "scheme_refused", None),
    ("javascript:alert(1)", "scheme_refused", None),
    ("/only/a/path", "scheme_refused", None),
    (f"{A}/to/file:///etc/passwd", "scheme_refused", None),
    (f"{A}/to/ftp://b.example/ok", "scheme_refused", None),
    ("http://", "bad_url", None),
    ("http://[::1", "bad_url", None),
    ("http://a.example:port/", "bad_url", None),
    ("http://user:secret@a.example/ok", "bad_url", None),
    (f"{A}/to/http://user@b.example/ok", "bad_url", None),
    ("http://" + "a" * 64 + ".example/", "bad_url", None),
    ("http://10.0.0.1/ok", "address_refused", None),
    ("http://[::1]/ok", "address_refused", None),
    ("http://[::ffff:169.254.169.254]/ok", "address_refused", None),
    (f"{A}/to/http://169.254.169.254/latest/meta-data", "address_refused", None),
    (f"{A}/to/http://127.0.0.1:1/ok", "address_refused", None),
    (f"{A}/to///192.168.0.1/ok", "address_refused", None),
]


@pytest.mark.parametrize(("url", "reason", "value"), REASONS)
def test_the_verdict(
    server: MisbehavingServer, url: str, reason: str | None, value: float | None
) -> None:
    found = verdict(server, url, max_bytes=1_000_000, timeout_s=0.5 if reason == "timeout" else 60)
    if reason is None:
        assert found is None
    else:
        assert (found["reason"], found["value"]) == (reason, value)
        assert len(found["evidence"] or "") <= 200


ODD = [
    "",
    " ",
    "http:a.example",
    "http:///ok",
    "http://./ok",
    "http://a..example/ok",
    "http://-a-.example/ok",
    "http://a.example:99999/ok",
    "http://a.example:0/ok",
    "http://a.example:-1/ok",
    "http://\u2460\u2461\u2466.0.0.1/ok",
    "http://127\u30020.0.1/ok",
    "http://xn--a/ok",
    "http://[fe80::1%25eth0]/ok",
    "http://[v1.x]/ok",
    "http://a.example\\@b.example/ok",
    "http://a.example#@b.example/ok",
    "http://a\tb/ok",
    "http://a\r\nX-Injected: 1/ok",
    "http://a.example/ok\r\nX-Injected: 1",
    "http://a.example/\0",
    "http://a.example/%zz%",
    "http://a.example/\U0001f600 \u202e?\x7f",
    "http://" + "a." * 200 + "example/ok",
    "HTTP://A.EXAMPLE/" + "x" * 20_000,
    "http://%31%32%37.0.0.1/ok",
    "http://@",
    "http://@/ok",
    "http://a.example%3a80/ok",
    "http://a.example%40b.example/ok",
]


@pytest.mark.parametrize("url", ODD)
def test_an_odd_url_is_a_verdict_be_it_first_or_in_a_redirect(
    server: MisbehavingServer, url: str
) -> None:
    for table in (get(server, url).table, get(server, f"{A}/to/{quote(url, safe='')}").table):
        found = table["verdict"][0].as_py()
        assert found is None or found["reason"] in set(FetchReason)
    assert not any("X-Injected" in headers for headers in server.headers_seen)


def test_secrets_in_a_url_do_not_reach_the_evidence(server: MisbehavingServer) -> None:
    for scheme in ("http", "https", "ftp", "file"):
        assert "secret" not in str(verdict(server, f"{scheme}://user:secret@a.example/ok"))


@pytest.mark.parametrize(("path", "asked"), [("loop/0", 2), ("count/6", 6), ("count/99", 6)])
def test_redirects_are_bounded(server: MisbehavingServer, path: str, asked: int) -> None:
    get(server, f"{A}/{path}")
    assert len(server.asked) == asked


def test_a_slow_server_is_left_at_the_deadline(server: MisbehavingServer) -> None:
    start = time.monotonic()
    get(server, f"{A}/drip", f"{A}/drip_header", f"{A}/late/60", timeout_s=0.5)
    assert time.monotonic() - start < 30


def test_garbage_in_mid_body_ends_at_the_deadline_at_the_latest(server: MisbehavingServer) -> None:
    """Some releases of aiohttp drop the connection here and leave their reader waiting."""
    start = time.monotonic()
    found = verdict(server, f"{A}/chunked_late", timeout_s=0.5)
    assert found["reason"] in ("truncated_body", "bad_answer", "timeout")
    assert time.monotonic() - start < 30


def test_waiting_for_a_slot_costs_a_row_nothing(server: MisbehavingServer) -> None:
    urls = [f"{A}/late/0.2?{n}" for n in range(16)]
    one_by_one = Network(f"127.0.0.1:{server.server_port}", per_host=1)
    table = fetch(pairs(urls), FetchParams(timeout_s=3, retries=0), one_by_one, 0).table
    assert table["verdict"].null_count == 16


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(server: MisbehavingServer, status: int) -> None:
    assert verdict(server, f"{A}/flaky/{status}", retries=2) is None
    server.asked.clear()
    assert verdict(server, f"{A}/flaky/{status}", retries=1)["reason"] != "not_found"
    assert len(server.asked) == 2


@pytest.mark.parametrize("path", ["status/404", "status/403", "html", "robots/noai", "loop/0"])
def test_a_lasting_failure_is_not_tried_again(server: MisbehavingServer, path: str) -> None:
    get(server, f"{A}/{path}", retries=3)
    assert len(server.asked) <= 2
    assert len(set(server.asked)) == len(server.asked)


ROBOTS = [
    ("noai", True),
    ("noimageai", True),
    ("none", True),
    ("noindex", True),
    ("noimageindex", True),
    ("NOAI", True),
    ("index, noai", True),
    ("nofollow , noai", True),
    ("noai, unavailable_after: 25 Jun 2030 15:00:00 PST", True),
    ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", True),
    ("unavailable_after: Wednesday, 25-Jun-30 15:00:00 PST, noai", True),
    ("unavailable_after: Wed, 25 Jun 2030 15:00:00 PST, noai", True),
    ("max-snippet:20, max-image-preview:large, noimageai", True),
    ("openwit: noai", True),
    ("OpenWit: nofollow, noai", True),
    ("otherbot: nofollow, openwit: noai", True),
    ("*: noai", True),
    ("googlebot: noai|noai", True),
    ("nofollow|noindex", True),
    ("all", False),
    ("index, follow", False),
    ("nosnippet, noarchive", False),
    ("googlebot: noindex", False),
    ("googlebot: nofollow, noai", False),
    ("openwit: nofollow, otherbot: noai", False),
    ("otherbot: unavailable_after: 25 Jun 2030 15:00:00 PST", False),
    ("unavailable_after: 25 Jun 2030 15:00:00 PST", False),
    ("max-image-preview:none", False),
    ("noaim", False),
    ("", False),
]


@pytest.mark.parametrize(("lines", "opted_out"), ROBOTS)
def test_x_robots_tag(lines: str, opted_out: bool) -> None:
    found = opt_out({"x-robots-tag": lines.split("|")}, "openwit")
    assert (found is not None) == opted_out


OPT_OUTS = ["robots/noai", "robots/nofollow|noimageai", "tdm/1", "noai_to/x"]


@pytest.mark.parametrize("path", OPT_OUTS)
def test_an_opt_out_is_honoured_with_one_request_and_stores_nothing(
    server: MisbehavingServer, path: str
) -> None:
    got = get(server, f"{A}/{path}", retries=3)
    row = got.table.to_pylist()[0]
    assert row["verdict"]["reason"] == "opted_out"
    assert row["verdict"]["evidence"]
    assert (row["sha256"], row["pool_offset"]) == (None, None)
    assert len(server.asked) == 1
    assert PICTURE not in got.tar


@pytest.mark.parametrize("path", OPT_OUTS)
def test_honouring_can_be_switched_off(server: MisbehavingServer, path: str) -> None:
    assert verdict(server, f"{A}/{path}", honour_opt_outs=False) is None


def test_a_reservation_of_zero_reserves_nothing(server: MisbehavingServer) -> None:
    assert verdict(server, f"{A}/tdm/0") is None


def test_only_wanted_formats_pass(server: MisbehavingServer) -> None:
    assert verdict(server, f"{A}/as/gif", formats=("jpeg",))["reason"] == "not_image"


def test_rows_tell_what_was_fetched_and_where_it_lies(server: MisbehavingServer) -> None:
    got = get(server, f"{A}/to/http://b.example/as/png#part")
    row = got.table.to_pylist()[0]
    assert row["sha256"] == hashlib.sha256(OTHERS["png"]).digest()
    assert (row["http_status"], row["content_type"]) == (200, "image/weird")
    assert row["final_url"] == "http://b.example/as/png"
    assert row["pool_part"] == 3
    end = row["pool_offset"] + row["pool_size"]
    assert got.tar[row["pool_offset"] : end] == OTHERS["png"]
    assert got.tar.startswith(row["uid"].hex().encode() + b".png\0")


def test_the_columns_have_their_types_even_without_rows(server: MisbehavingServer) -> None:
    schema = get(server).table.schema
    assert [schema.field(name).type for name in ("sha256", "http_status", "pool_offset")] == [
        pa.binary(32),
        pa.int16(),
        pa.int64(),
    ]


def test_requests_say_who_we_are_and_ask_for_no_encoding(server: MisbehavingServer) -> None:
    get(server, f"{A}/ok", user_agent="openwit/9 (dataset builders)")
    headers = server.headers_seen[0]
    assert headers["Host"] == "a.example"
    assert headers["User-Agent"] == "openwit/9 (dataset builders)"
    assert headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in headers


def test_a_proxy_in_the_environment_is_ignored(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert verdict(server, f"{A}/ok") is None


def test_rows_of_one_url_share_one_request_and_one_pool_entry(server: MisbehavingServer) -> None:
    table = pairs([f"{A}/ok", f"{A}/as/gif", f"{A}/ok"], ["x", "y", "z"])
    got = fetch(table, FetchParams(), network(server), 0)
    first, _, third = got.table.select(["sha256", "pool_offset", "pool_size"]).to_pylist()
    assert first == third
    assert len(server.asked) == 2


def test_the_pool_does_not_depend_on_the_order_of_completion(server: MisbehavingServer) -> None:
    delays = [0.0, 0.3, 0.1, 0.2, 0.05, 0.15]
    urls = [f"{A}/late/{d}?{n}" for n, d in enumerate(delays)] + [f"{A}/status/404"]
    table = pairs(urls)
    wide = fetch(table, FetchParams(), network(server), 0)
    narrow = fetch(table, FetchParams(), network(server, concurrency=1), 0)
    turned = fetch(table.take(pa.array(range(6, -1, -1))), FetchParams(), network(server), 0)
    assert wide.tar == narrow.tar == turned.tar
    assert wide.table.equals(narrow.table)
    assert turned.table.equals(wide.table.take(pa.array(range(6, -1, -1))))


def test_no_more_requests_to_one_host_than_allowed(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = threading.Condition()
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    kept = Handler.get_ok

    def counted(self: Handler, rest: str) -> None:
        host = self.headers["Host"]
        with met:
            now[host] = now.get(host, 0) + 1
            most[host] = max(most.get(host, 0), now[host])
            met.notify_all()
            met.wait_for(lambda: most[host] >= 3, timeout=20)
        time.sleep(0.03)
        with met:
            now[host] -= 1
        kept(self, rest)

    monkeypatch.setattr(Handler, "get_ok", counted)
    urls = [f"http://{host}.example/ok?{n}" for n in range(12) for host in "ab"]
    fetch(pairs(urls), FetchParams(), network(server, per_host=3), 0)
    assert most == {"a.example": 3, "b.example": 3}


def forbidden_urls(port: int) -> list[str]:
    names = ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "0"]
    names += ["[::ffff:127.0.0.1]", "0177.0.0.1", "127.0.0.1.", "LOCALHOST"]
    return [f"http://{name}/ok" for name in names] + [f"http://127.0.0.1:{port}/ok"]


def test_without_a_replay_nothing_of_ours_is_reached_by_any_spelling(
    server: MisbehavingServer,
) -> None:
    """The proof is an audit of every connect that the process makes."""
    connects = []
    sys.addaudithook(
        lambda event, args: connects.append(args[1]) if event == "socket.connect" else None
    )
    urls = forbidden_urls(server.server_port)
    table = fetch(pairs(urls), FetchParams(retries=0, timeout_s=5), Network(), 0).table
    reasons = {row["reason"] for row in table["verdict"].to_pylist()}
    assert reasons <= {
        "address_refused",
        "port_refused",
        "unknown_host",
        "dns_failed",
        "bad_url",
        "timeout",
    }
    assert server.asked == []
    assert [address for address in connects if address[1] in (80, server.server_port)] == []


def resolves_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Every name resolves to each answer in turn, the last one for good."""
    left = list(answers)

    async def getaddrinfo(self: object, host: str, port: int, **_: Any) -> list[Any]:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def test_a_name_with_one_private_address_among_its_answers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolves_to(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    table = fetch(pairs([f"{A}/ok"]), FetchParams(retries=0), Network(), 0).table
    found = table["verdict"][0].as_py()
    assert found["reason"] == "address_refused"
    assert "10.0.0.1: private" in found["evidence"]


def test_a_url_of_another_port_is_refused() -> None:
    urls = [f"{A}:{port}/ok" for port in (22, 25, 6379, 8080)]
    table = fetch(pairs(urls), FetchParams(), Network(), 0).table
    assert [v["reason"] for v in table["verdict"].to_pylist()] == ["port_refused"] * 4


def test_a_programming_error_is_not_swallowed(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.fetch.download.sniff", lambda data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        get(server, f"{A}/ok")


@pytest.mark.parametrize("connect_to", ["localhost:80", "127.0.0.1", "127.0.0.1:http", ""])
def test_a_replay_address_is_numeric(connect_to: str) -> None:
    with pytest.raises(ValueError, match="ADDRESS:PORT"):
        fetch(pairs([f"{A}/ok"]), FetchParams(), Network(connect_to), 0)


def test_what_counts_as_damage() -> None:
    assert {reason.value for reason in FetchReason if reason.damage} == {
        "rate_limited",
        "server_error",
        "timeout",
        "dns_failed",
        "connect_failed",
        "tls_failed",
        "bad_answer",
        "truncated_body",
    }
