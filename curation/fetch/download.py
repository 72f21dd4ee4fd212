"""One URL into bytes or a reason, over a guarded network.

Every connection goes to an address that was checked, every redirect is checked like a first
request, and size, time and the number of hops are bounded.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import aiohttp
from pydantic import Field
from yarl import URL

from curation.fetch.addresses import NOT_NUMERIC, refusal
from curation.fetch.answers import (
    TRANSIENT,
    Answer,
    FetchReason,
    clean,
    failure,
    host_evidence,
    status_reason,
)
from curation.fetch.network import Network, end_point, guarded_session, route
from curation.fetch.opt_out import opt_out
from curation.images.header import FORMATS, sniff
from pipeline.dataset.params import Params

_PORTS = (80, 443)
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 64 * 1024
_MAX_WAIT_S = 10.0
_TEXT = 200
_MAGIC = 32
_NO_URL = "the address cannot be parsed"
_OK = 200


class FetchParams(Params):
    """How much is requested, for how long, and what is accepted."""

    timeout_s: float = Field(30.0, gt=0)
    """Seconds for one attempt, from the first look-up to the last byte, redirects included."""
    connect_timeout_s: float = Field(5.0, gt=0)
    """Seconds for one connection."""
    max_bytes: int = Field(20 * 1024 * 1024, ge=1)
    """Bytes of a body."""
    max_redirects: int = Field(5, ge=0)
    """Redirects followed in one attempt."""
    retries: int = Field(2, ge=0)
    """Further attempts after a time-out, a failed look-up or connection, a 5xx or a 429."""
    user_agent: str = Field("openwit/1.0", pattern=r"^[A-Za-z][\w.-]*(/[ -~]*)?$")
    """Sent with every request; the part before the slash is our name in X-Robots-Tag."""
    honour_opt_outs: bool = True
    """Leave out what X-Robots-Tag or TDMRep reserve."""
    formats: tuple[str, ...] = FORMATS
    """Formats accepted, judged by the first bytes and not by what the server says."""


async def download_all(urls: Iterable[str], params: FetchParams, network: Network) -> list[Answer]:
    """The answer of every URL, in the order of `urls`, whichever completes first."""
    # Look-ups block a thread each; the default pool has a handful and one slow zone would fill it.
    pool = ThreadPoolExecutor(network.concurrency)
    asyncio.get_running_loop().set_default_executor(pool)
    async with guarded_session(network, params.user_agent, params.connect_timeout_s) as session:
        downloader = _Downloader(session, params, network)
        return await asyncio.gather(*map(downloader.get, urls))


class _Downloader:
    """Attempts, hops and their limits, for the URLs of one session."""

    def __init__(
        self, session: aiohttp.ClientSession, params: FetchParams, network: Network
    ) -> None:
        self._session = session
        self._params = params
        self._network = network
        self._bot = params.user_agent.partition("/")[0]
        self._slots = asyncio.Semaphore(network.concurrency)
        self._hosts: defaultdict[str | None, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(network.per_host)
        )

    async def get(self, text: str) -> Answer:
        """The answer of one URL, after as many attempts as it takes and is allowed."""
        for attempt in range(self._params.retries):
            answer = await self._attempt(text)
            if answer.reason not in TRANSIENT:
                return answer
            wait_s = max(self._network.backoff_s * 2**attempt, answer.retry_after_s)
            await asyncio.sleep(min(wait_s, _MAX_WAIT_S))
        return await self._attempt(text)

    async def _attempt(self, text: str) -> Answer:
        url = _parse(text)
        if url is None:
            return Answer(FetchReason.BAD_URL, evidence=_NO_URL)
        left_s = self._params.timeout_s
        seen: set[URL] = set()
        while url not in seen and len(seen) <= self._params.max_redirects:
            seen.add(url)
            refused = _refused(url, self._network.connect_to)
            if refused is not None:
                return refused
            outcome, took_s = await self._hop(url, left_s)
            if isinstance(outcome, Answer):
                return outcome
            url, left_s = outcome, max(left_s - took_s, 0)
        limit = self._params.max_redirects
        return Answer(FetchReason.REDIRECT_LOOP, None, len(seen), limit, clean(str(url)))

    async def _hop(self, url: URL, left_s: float) -> tuple[Answer | URL, float]:
        """One request: an answer, or where it redirects to; and the seconds it took."""
        target, headers = route(url, self._network.connect_to)
        loop = asyncio.get_running_loop()
        # The clock starts once a slot is free: a long queue is no fault of the host's.
        async with self._hosts[url.raw_host], self._slots:
            start = loop.time()
            try:
                async with (
                    asyncio.timeout(left_s),
                    self._session.get(target, headers=headers, allow_redirects=False) as response,
                ):
                    outcome = await self._read(url, response)
            except TimeoutError:
                limit = self._params.timeout_s
                return Answer(FetchReason.TIMEOUT, threshold=limit, evidence=host_evidence(url)), 0
            except aiohttp.ClientError as error:
                return failure(error, url), 0
            return outcome, loop.time() - start

    async def _read(self, url: URL, response: aiohttp.ClientResponse) -> Answer | URL:
        status, headers = response.status, response.headers
        kind = clean(headers.get("Content-Type", "").partition(";")[0].strip().lower())
        met = Answer(None, status, final_url=str(url), content_type=kind, value=status)
        moved = status in _REDIRECTS and "Location" in headers
        if self._params.honour_opt_outs and (moved or status == _OK):
            fields = {name.lower(): headers.getall(name) for name in headers}
            wish = opt_out(fields, self._bot)
            if wish is not None:
                return replace(met, reason=FetchReason.OPTED_OUT, evidence=wish)
        if moved:
            return _moved(url, headers["Location"], met)
        if status != _OK:
            wait_s = _retry_after_s(headers.get("Retry-After", ""))
            reason = status_reason(status)
            return replace(met, reason=reason, evidence=host_evidence(url), retry_after_s=wait_s)
        return await self._body(response, met)

    async def _body(self, response: aiohttp.ClientResponse, met: Answer) -> Answer:
        limit = self._params.max_bytes
        size = response.content_length
        too_large = replace(met, reason=FetchReason.TOO_LARGE, value=size, threshold=limit)
        if size is not None and size > limit:
            return too_large
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > limit:
                return too_large
        if not body:
            return replace(met, reason=FetchReason.EMPTY_BODY)
        # An encoding that we did not ask for is not undone: it may be a bomb, and it is no picture.
        format = sniff(bytes(body[:_MAGIC]))
        if format not in self._params.formats:
            evidence = f"{met.content_type}, begins {bytes(body[:8]).hex()}"[:_TEXT]
            return replace(met, reason=FetchReason.NOT_IMAGE, evidence=evidence)
        return replace(met, body=bytes(body), format=format, value=None)


def _refused(url: URL, connect_to: str | None) -> Answer | None:
    """Why a URL is not requested at all, be it the first or a redirect's; None if it is."""
    if url.scheme not in ("http", "https"):
        return Answer(FetchReason.SCHEME_REFUSED, evidence=clean(url.scheme))
    if url.user is not None or url.password is not None or not _resolvable(url.raw_host):
        return Answer(FetchReason.BAD_URL, evidence=host_evidence(url))
    if connect_to is not None and (url.raw_host, url.port) == end_point(connect_to):
        return None
    if connect_to is None and url.port not in _PORTS:
        return Answer(FetchReason.PORT_REFUSED, value=url.port, evidence=host_evidence(url))
    why = refusal(url.raw_host or "")
    if why in (None, NOT_NUMERIC):
        return None
    return Answer(FetchReason.ADDRESS_REFUSED, evidence=f"{url.raw_host}: {why}"[:_TEXT])


def _parse(text: str, base: URL | None = None) -> URL | None:
    """The URL, joined to `base`; None if it cannot be parsed or is ambiguous.

    An ambiguous one parses to another host once it is normalized: the host that was checked would
    not be the one that is connected to.
    """
    # The parser looks for brackets in hosts that are not there, hence the IndexError.
    try:
        url = URL(text) if base is None else base.join(URL(text))
        url = url.with_fragment(None)
        again = URL(str(url))
        same = (url.raw_host, url.port, url.user) == (again.raw_host, again.port, again.user)
    except (ValueError, IndexError):
        return None
    return url if same else None


def _resolvable(host: str | None) -> bool:
    try:
        return bool(host) and bool(str(host).encode("idna"))
    except UnicodeError:
        return False


def _moved(url: URL, location: str, met: Answer) -> Answer | URL:
    target = _parse(location, url)
    if target is None:
        return replace(met, reason=FetchReason.BAD_URL, evidence=_NO_URL)
    return target


def _retry_after_s(text: str) -> float:
    """Seconds asked for; the date form gives 0, for it needs a clock that the host agrees with."""
    return float(text) if text.isdecimal() else 0.0
