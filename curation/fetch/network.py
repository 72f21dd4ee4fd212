"""A network that reaches public addresses and nothing else.

The check sits where sockets are made, so it holds for every connection, whatever a name resolves to
the second time.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import aiohttp.abc
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from curation.fetch.addresses import NOT_NUMERIC, refusal

SocketFactory = Callable[[aiohttp.AddrInfoType], socket.socket]


@dataclass(frozen=True)
class Network:
    """How the network is reached; never part of a result's identity."""

    connect_to: str | None = None
    """"127.0.0.1:PORT": every host is reached there over plain http, for replays and proxies."""
    concurrency: int = 64
    """Requests in flight."""
    per_host: int = 8
    """Requests in flight to one host."""
    backoff_s: float = 0.5
    """Wait before the first further attempt; doubled for each one after it, 10 s at most."""


class AddressRefused(OSError):
    """A host that resolves to an address which may not be connected to."""


def guarded_session(
    network: Network, user_agent: str, connect_timeout_s: float
) -> aiohttp.ClientSession:
    """A session without cookies or proxies that connects to checked addresses only.

    Bodies come as they were sent. Made inside a running event loop; a refused address surfaces as
    the `os_error` of aiohttp's connection errors.
    """
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(),
        socket_factory=_guarded_sockets(network.connect_to),
        limit=0,
        # Hosts are many and rarely asked twice: idle connections would use up the descriptors.
        keepalive_timeout=2,
        ttl_dns_cache=300,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        headers={
            "User-Agent": user_agent,
            "Accept": "image/*",
            "Accept-Encoding": "identity",
        },
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def route(url: URL, connect_to: str | None) -> tuple[URL, dict[str, str]]:
    """The URL to request in place of `url`, and the headers that name the host it stands for."""
    if connect_to is None:
        return url, {}
    host, port = end_point(connect_to)
    target = url.with_scheme("http").with_host(host).with_port(port)
    host_header = url.host_port_subcomponent or ""
    return target, {"Host": host_header, "X-Forwarded-Proto": url.scheme}


def _guarded_sockets(connect_to: str | None) -> SocketFactory:
    """Makes sockets for checked addresses only, the last thing before every connect."""
    exempt = None if connect_to is None else end_point(connect_to)

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if address[:2] != exempt:
            _check_address(str(address[0]))
        return socket.socket(family, kind, protocol)

    return make


def _check_address(address: str) -> None:
    why = refusal(address)
    if why is not None:
        raise AddressRefused(f"{address}: {why}")


def end_point(connect_to: str) -> tuple[str, int]:
    """Address and port of `connect_to`; ValueError where it is not of that form."""
    host, _, port = connect_to.rpartition(":")
    if refusal(host) == NOT_NUMERIC or not port.isdecimal():
        raise ValueError(f"connect_to is ADDRESS:PORT with a numeric address, not {connect_to!r}")
    return host, int(port)


class _CheckedResolver(ThreadedResolver):
    """Refuses a host if any of its addresses may not be connected to."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        results = await super().resolve(host, port, family)
        for result in results:
            _check_address(result["host"])
        return results
