"""Which network addresses a crawler may connect to: public unicast ones and no others.

The list is our own, from the IANA special-purpose registries for IPv4 and IPv6, because
`ipaddress.is_global` lets translated, tunnelled and multicast addresses through. The address to
check is the one that a socket is about to connect to, never a name.
"""

import ipaddress
from collections.abc import Iterator

NOT_NUMERIC = "not a numeric address"

_V4 = {
    "168.63.129.16/32": "cloud metadata",
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local and cloud metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "IETF protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relay anycast",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved or broadcast",
}
_V6 = {
    "2001:2::/48": "benchmarking",
    "2001:10::/28": "ORCHID",
    "2001:20::/28": "ORCHIDv2",
    "2001::/23": "IETF protocol assignments",
    "2001:db8::/32": "documentation",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_DENIED_V4 = tuple((ipaddress.IPv4Network(net), why) for net, why in _V4.items())
_DENIED_V6 = tuple((ipaddress.IPv6Network(net), why) for net, why in _V6.items())


def refusal(address: str) -> str | None:
    """Why `address` may not be connected to, or None where it may.

    Takes the numeric form that a resolver or a socket gives. Anything that is not one (a name,
    an octal or a shortened spelling) is refused, for what it stands for is another parser's
    opinion.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return NOT_NUMERIC
    if isinstance(ip, ipaddress.IPv4Address):
        return _refusal_v4(ip)
    if ip.scope_id is not None:
        return "scoped to one link"
    for how, inner in _embedded(ip):
        why = _refusal_v4(inner)
        if why is not None:
            return f"{how} of {inner}: {why}"
    return _refusal_v6(ip)


def _refusal_v4(ip: ipaddress.IPv4Address) -> str | None:
    return next((why for network, why in _DENIED_V4 if ip in network), None)


def _refusal_v6(ip: ipaddress.IPv6Address) -> str | None:
    if ip.ipv4_mapped is not None or ip in _NAT64:
        return None
    if ip not in _GLOBAL_UNICAST:
        return "not global unicast"
    return next((why for network, why in _DENIED_V6 if ip in network), None)


def _embedded(ip: ipaddress.IPv6Address) -> Iterator[tuple[str, ipaddress.IPv4Address]]:
    if ip.ipv4_mapped is not None:
        yield "IPv4-mapped form", ip.ipv4_mapped
    if ip.sixtofour is not None:
        yield "6to4 form", ip.sixtofour
    if ip.teredo is not None:
        for end in ip.teredo:
            yield "Teredo form", end
    if ip in _NAT64:
        yield "NAT64 form", ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _COMPATIBLE:
        yield "IPv4-compatible form", ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if (int(ip) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE):
        yield "ISATAP form", ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
