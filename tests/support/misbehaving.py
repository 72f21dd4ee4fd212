"""A server on loopback that misbehaves in every way we know of: one path, one behaviour."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.support.pictures import encode, photo

PICTURE = encode(photo(0, 40, 30))
OTHERS = {kind: encode(photo(1, 40, 30), kind) for kind in ("png", "webp", "gif")}


class Handler(BaseHTTPRequestHandler):
    """`/ok` answers with a picture, `/late/3` after 3 seconds, and so on."""

    protocol_version = "HTTP/1.1"
    server: "MisbehavingServer"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.headers["Host"], self.path))
        self.server.headers_seen.append(dict(self.headers))
        name, _, rest = unquote(self.path.partition("?")[0]).strip("/").partition("/")
        with contextlib.suppress(ConnectionError):
            getattr(self, f"get_{name}", self.get_other)(rest)

    def answer(self, status: int = 200, body: bytes = PICTURE, **headers: str | list[str]) -> None:
        self.send_response(status)
        fields: dict[str, str | list[str]] = {
            "Content-Type": "image/jpeg",
            "Content-Length": str(len(body)),
        }
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in fields.items():
            for line in value if isinstance(value, list) else [value]:
                self.send_header(name, line)
        self.end_headers()
        self.wfile.write(body)

    def raw(self, data: bytes) -> None:
        self.wfile.write(data)
        self.close_connection = True

    def get_other(self, rest: str) -> None:
        self.answer(404, b"")

    def get_ok(self, rest: str) -> None:
        self.answer()

    def get_as(self, rest: str) -> None:
        self.answer(body=OTHERS[rest], Content_Type="IMAGE/Weird; charset=utf-8")

    def get_status(self, rest: str) -> None:
        self.answer(int(rest), b"" if rest == "204" else b"sorry")

    def get_late(self, rest: str) -> None:
        time.sleep(float(rest))
        self.answer(body=PICTURE + rest.encode())

    def get_flaky(self, rest: str) -> None:
        times = self.server.asked.count((self.headers["Host"], self.path))
        self.answer(200 if times > 2 else int(rest), PICTURE, Retry_After="0")

    def get_robots(self, rest: str) -> None:
        self.answer(X_Robots_Tag=rest.replace("_", " ").split("|"))

    def get_tdm(self, rest: str) -> None:
        self.answer(tdm_reservation=rest)

    def get_to(self, rest: str) -> None:
        self.answer(302, b"", Location=rest)

    def get_noai_to(self, rest: str) -> None:
        self.answer(302, b"", Location="http://b.example/ok", X_Robots_Tag="noai")

    def get_loop(self, rest: str) -> None:
        self.answer(301, b"", Location=f"/loop/{1 - int(rest)}")

    def get_count(self, rest: str) -> None:
        left = int(rest)
        self.answer(307, b"", Location=f"/count/{left - 1}") if left else self.answer()

    def get_nowhere(self, rest: str) -> None:
        self.answer(302, b"")

    def get_html(self, rest: str) -> None:
        self.answer(body=b"<html>not found</html>")

    def get_zipped(self, rest: str) -> None:
        self.answer(body=b"\x1f\x8b\x08" + bytes(60), Content_Encoding="gzip")

    def get_empty(self, rest: str) -> None:
        self.answer(body=b"")

    def get_claims(self, rest: str) -> None:
        self.raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + rest.encode() + b"\r\n\r\n" + PICTURE)

    def get_chunked(self, rest: str) -> None:
        self.raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n"
            + PICTURE[:64]
            + b"\r\n"
            + (b"" if rest == "cut" else b"zz\r\n")
        )

    def get_chunked_late(self, rest: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        time.sleep(0.1)
        self.raw(b"zz\r\n")

    def get_endless(self, rest: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE)
        while True:
            self.wfile.write(bytes(1 << 16))

    def get_drip(self, rest: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n\xff\xd8\xff")
        for _ in range(600):
            self.wfile.write(b"\0")
            time.sleep(0.1)

    def get_drip_header(self, rest: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(600):
            self.wfile.write(b"a")
            time.sleep(0.1)

    def get_garbage(self, rest: str) -> None:
        self.raw(b"\x00\x01SSH-2.0\r\n\r\n")

    def get_flood(self, rest: str) -> None:
        self.raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n")

    def get_bytes(self, rest: str) -> None:
        self.raw(b"HTTP/1.1 200 OK\r\nContent-Type: \xff\xfe\r\nContent-Length: 1\r\n\r\nx")

    def get_hangup(self, rest: str) -> None:
        self.raw(b"")


class MisbehavingServer(ThreadingHTTPServer):
    """Keeps what it was asked: (host, path) of every request, and their headers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.headers_seen: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that clients end are expected; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving() -> Iterator[MisbehavingServer]:
    """The server, in a thread of its own."""
    with MisbehavingServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
