"""What came of a URL: a body, or a reason from a closed list and what decided.

The outcomes of HTTP and of the network are mapped to that list here.
"""

import socket
from dataclasses import dataclass

import aiohttp
from yarl import URL

from curation.fetch.network import AddressRefused
from pipeline.dataset.verdict import Reason

_TEXT = 200
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)
_SERVER_ERRORS = 500


class FetchReason(Reason):
    """Why a URL gave no picture."""

    NOT_FOUND = "not_found", "no longer there (404, 410)"
    FORBIDDEN = "forbidden", "host forbids it (401, 403, 451)"
    RATE_LIMITED = (
        "rate_limited",
        "host asks to slow down (429)",
        "fetch again, lower per_host",
        True,
    )
    SERVER_ERROR = "server_error", "host is failing (5xx)", "fetch again later", True
    OTHER_STATUS = "other_status", "any other status than 200"
    TIMEOUT = "timeout", "took too long", "fetch again, or raise timeout_s", True
    UNKNOWN_HOST = "unknown_host", "no such host name"
    DNS_FAILED = "dns_failed", "name look-up fails", "if many: the resolver is overloaded", True
    CONNECT_FAILED = "connect_failed", "no connection, or a broken one", "fetch again later", True
    TLS_FAILED = "tls_failed", "no trusted TLS connection", "", True
    BAD_ANSWER = "bad_answer", "answer is not proper HTTP", "", True
    REDIRECT_LOOP = "redirect_loop", "redirects without end", "raise max_redirects"
    ADDRESS_REFUSED = "address_refused", "address is not on the public internet"
    PORT_REFUSED = "port_refused", "port is neither 80 nor 443"
    SCHEME_REFUSED = "scheme_refused", "scheme is neither http nor https"
    BAD_URL = "bad_url", "not a proper URL, or one with a password"
    TOO_LARGE = "too_large", "body is too large", "raise max_bytes"
    TRUNCATED_BODY = "truncated_body", "body ends early", "fetch again", True
    EMPTY_BODY = "empty_body", "body is empty"
    NOT_IMAGE = "not_image", "body is no picture of a wanted format", "see formats"
    OPTED_OUT = "opted_out", "host asks that it not be used", "honour_opt_outs decides"


TRANSIENT = {
    FetchReason.TIMEOUT,
    FetchReason.DNS_FAILED,
    FetchReason.CONNECT_FAILED,
    FetchReason.SERVER_ERROR,
    FetchReason.RATE_LIMITED,
}
_STATUS_REASONS = {
    401: FetchReason.FORBIDDEN,
    403: FetchReason.FORBIDDEN,
    451: FetchReason.FORBIDDEN,
    404: FetchReason.NOT_FOUND,
    410: FetchReason.NOT_FOUND,
    429: FetchReason.RATE_LIMITED,
    204: FetchReason.EMPTY_BODY,
}
_FAILURES: tuple[tuple[type[Exception], FetchReason], ...] = (
    (aiohttp.ClientConnectorDNSError, FetchReason.DNS_FAILED),
    (aiohttp.ClientSSLError, FetchReason.TLS_FAILED),
    (aiohttp.ClientPayloadError, FetchReason.TRUNCATED_BODY),
    (aiohttp.ClientConnectionError, FetchReason.CONNECT_FAILED),
    (aiohttp.InvalidURL, FetchReason.BAD_URL),
)


@dataclass(frozen=True)
class Answer:
    """What came of a URL: a body, or a reason with what decided."""

    reason: FetchReason | None = None
    status: int | None = None
    value: float | None = None
    threshold: float | None = None
    evidence: str | None = None
    content_type: str | None = None
    final_url: str | None = None
    body: bytes = b""
    format: str = ""
    retry_after_s: float = 0.0


def status_reason(status: int) -> FetchReason:
    """The reason for any status that is neither 200 nor a redirect."""
    if status in _STATUS_REASONS:
        return _STATUS_REASONS[status]
    return FetchReason.SERVER_ERROR if status >= _SERVER_ERRORS else FetchReason.OTHER_STATUS


def failure(error: aiohttp.ClientError, url: URL) -> Answer:
    """The answer that stands for a request to `url` that failed with `error`."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, AddressRefused):
        return Answer(
            FetchReason.ADDRESS_REFUSED, evidence=clean(f"{host_evidence(url)} is {cause}")
        )
    reason = next((reason for kind, reason in _FAILURES if isinstance(error, kind)), None)
    if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME:
        reason = FetchReason.UNKNOWN_HOST
    evidence = clean(f"{host_evidence(url)}: {type(cause).__name__}")
    return Answer(reason or FetchReason.BAD_ANSWER, evidence=evidence)


def host_evidence(url: URL) -> str:
    """The host of a URL as evidence: in ASCII (IDNA) and clipped; "" where there is none."""
    return clean(url.raw_host or "")


def clean(text: str) -> str:
    """Text for a table, 200 characters at most: headers may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()[:_TEXT]
