"""A loopback web server that replays the recorded answers of image hosts.

It answers by (scheme, Host header, path and query) with the recorded status, headers and body, and
404 where nothing was recorded; the fetcher connects every host name to this one address. It
listens on 127.0.0.1 alone.

`https` URLs are asked for over plain http with `X-Forwarded-Proto: https`; where only the other
scheme was recorded, that record answers. It runs in a daemon thread with an event loop of its own:
nothing to pickle, nothing left behind when the owner is killed, and fetching happens in other
processes, so the threads do not compete.

    python -m jobs.quickstart.serve --port 8080 [WARC ...]
"""

import argparse
import asyncio
import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

WEB = Path(__file__).parent / "web"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
MAX_HEADER_BYTES = 256 * 1024
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n"

Key = tuple[str, str, bytes]


@dataclass(frozen=True)
class Replay:
    """One recorded answer; `length` is the announced one, larger than the body if it was cut."""

    head: bytes
    body: bytes
    length: int


def image_files(folder: Path = WEB) -> list[Path]:
    """The committed WARC files with image answers."""
    return sorted(folder.glob("images*.warc.gz"))


def key_of(scheme: str, host: str, target: str) -> Key:
    """The key of an answer: no default port, no %-escapes, hosts in lower case."""
    host = host.lower().removesuffix(":80").removesuffix(":443")
    return scheme, host, unquote_to_bytes(target or "/")


def _key_of_url(url: str) -> Key:
    parts = urlsplit(url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    return key_of(parts.scheme, parts.netloc, target)


def index(paths: Iterable[Path]) -> dict[Key, Replay]:
    """All answers of the WARC files; `revisit` records take the body of the one they refer to."""
    answers: dict[Key, Replay] = {}
    revisits: list[tuple[Key, Replay, Key]] = []
    kinds = WarcRecordType.response | WarcRecordType.revisit
    for path in paths:
        with path.open("rb") as opened:
            for record in ArchiveIterator(opened, record_types=kinds):
                key = _key_of_url(record.headers["WARC-Target-URI"])
                answers[key] = _replay(record)
                earlier = record.headers.get("WARC-Refers-To-Target-URI")
                if earlier is not None:
                    revisits.append((key, answers[key], _key_of_url(earlier)))
    for key, replay, first in revisits:
        answers[key] = replace(replay, body=answers[first].body)
    return answers


def _replay(record: WarcRecord) -> Replay:
    body, http = record.reader.read(), record.http_headers
    length = max(int(http.get("Content-Length") or 0), len(body))
    return Replay(_head(http.status_line or "", http.items()), body, length)


def _head(status_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    kept = [f"{name}: {value}\r\n" for name, value in headers if name.lower() not in HOP_BY_HOP]
    return (status_line + "\r\n" + "".join(kept)).encode("latin-1")


class ReplayServer:
    """Replays WARC files on a free (or given) port of 127.0.0.1 while the `with` block runs.

    `address` is "127.0.0.1:PORT". The files are read when the server is made; entering the block
    raises OSError if the port is taken.
    """

    def __init__(self, paths: Iterable[str | Path] | None = None, port: int = 0) -> None:
        self.answers = index(Path(path) for path in (paths or image_files()))
        self.address = ""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay-server", daemon=True)
        self._failure: OSError | None = None

    def __repr__(self) -> str:
        return f"ReplayServer({len(self.answers)} answers at {self.address or 'no address yet'})"

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _serve(self) -> None:
        try:
            server = await asyncio.start_server(
                self._connection, "127.0.0.1", self._port, limit=MAX_HEADER_BYTES, backlog=1024
            )
        except OSError as error:
            self._failure = error
            self._started.set()
            return
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broken = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        with contextlib.suppress(*broken, asyncio.CancelledError):
            while await self._exchange(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        writer.close()

    async def _exchange(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to be closed."""
        line, *fields = request[:-4].decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target = rest.rpartition(" ")[0]
        split = (field.partition(":") for field in fields)
        headers = {name.lower(): value.strip() for name, _, value in split}
        if method not in ("GET", "HEAD"):
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return False
        scheme = headers.get("x-forwarded-proto", "https")
        answer = self.find(scheme, headers.get("host", ""), target)
        writer.write(answer.head + b"Content-Length: %d\r\n\r\n" % answer.length)
        if method == "GET":
            writer.write(answer.body)
        await writer.drain()
        whole = method == "HEAD" or answer.length == len(answer.body)
        return whole and headers.get("connection", "").lower() != "close"

    def find(self, scheme: str, host: str, target: str) -> Replay:
        """The recorded answer of a URL, or a 404."""
        for tried in (scheme, "http" if scheme == "https" else "https"):
            answer = self.answers.get(key_of(tried, host, target))
            if answer is not None:
                return answer
        return Replay(NOT_FOUND, b"", 0)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="replay recorded image answers on 127.0.0.1")
    parser.add_argument("warcs", nargs="*", type=Path, help="WARC files (default: the mini-web's)")
    parser.add_argument("--port", type=int, default=0, help="default: a free port")
    options = parser.parse_args()
    with ReplayServer(options.warcs or None, options.port) as server:
        print(f"{len(server.answers)} answers at http://{server.address}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
