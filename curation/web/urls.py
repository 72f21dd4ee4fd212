"""One spelling for the many that an image's address has, so that equal images meet under one key.

The key is for comparing, not for fetching: it ignores the difference between http and https, a
leading `www.` and tracking parameters, which is right for nearly all hosts and by no standard. The
rest is the normalization of RFC 3986, 6.2.2.
"""

import re
from urllib.parse import unquote_to_bytes

import idna
import pyarrow as pa

CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
"""What the URL standard strips from both ends of an address."""

_SPLIT = re.compile(r"(?i)^(https?):[/\\]{2,}([^/\\?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?$", re.DOTALL)
_TRACKING = re.compile(
    r"(?i)(?:utm_[^=]*|fbclid|gclid|gclsrc|dclid|gbraid|wbraid|msclkid|yclid|twclid|ttclid|igshid|igsh"
    r"|mc_cid|mc_eid|_ga|_gl|_hsenc|_hsmi|mkt_tok|oly_anon_id|oly_enc_id|vero_id|s_cid)(?:=|$)"
)
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~!$'()*+,;=:@-][A-Za-z0-9_~!$'()*+,;=:@.-]*)+/?")
_ESCAPE_OR_OTHER = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DROPPED_SPACE = re.compile(r"[\t\r\n]")
_NOT_IN_A_HOST = re.compile(r"[\x00-\x20/\\?#@\[\]%:]")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:\[\]]*)(?::([0-9]*))?$")


def canonical_url(url: str) -> str:
    """The comparison key of an address; one without http(s) or a host is only stripped of blanks.

    Never raises; the key of a key is the key itself.
    """
    url = _DROPPED_SPACE.sub("", url.strip(CONTROL_OR_SPACE))
    parts = _SPLIT.match(url)
    if parts is None:
        return url
    _, authority, path, query = parts.groups()
    user, at, host = authority.rpartition("@")
    host = _host(host)
    if not host:
        return url
    path = _path(path.replace("\\", "/"))
    kept = [pair for pair in (query or "").split("&") if pair and not _TRACKING.match(pair)]
    tail = "?" + _escaped("&".join(kept)) if kept else ""
    return f"http://{_escaped(user)}{at}{host}{path}{tail}"


def canonical_urls(urls: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`canonical_url` of every entry, nulls kept: a string array of the same length."""
    # Parsing addresses is sequential work on characters: row by row, once per distinct address.
    if isinstance(urls, pa.ChunkedArray):
        urls = urls.combine_chunks()
    encoded = urls.dictionary_encode()
    keys = pa.array(map(canonical_url, encoded.dictionary.to_pylist()), pa.string())
    return keys.take(encoded.indices)


def _host(host: str) -> str:
    """The host, and its port unless that is a default one; empty for what is no host and port."""
    parts = _HOST.match(host)
    if parts is None:
        return ""
    name, port = parts.groups()
    name = name.lower() if name.startswith("[") else _name(name)
    port = (port or "").lstrip("0")
    return name if port in ("", "80", "443") else f"{name}:{port}"


def _name(name: str) -> str:
    decoded = unquote_to_bytes(name).decode("utf-8", "replace") if "%" in name else name
    if not _NOT_IN_A_HOST.search(decoded):
        name = decoded
    name = _bare(name.lower())
    if not name.isascii():
        name = _ascii_host(name)
    return _bare(_escaped(name).lower())


def _bare(name: str) -> str:
    """Without the root's dot (any of IDNA's dots) and `www.`, unless that is all but a suffix."""
    name = name.rstrip(".\u3002\uff0e\uff61")
    while name.startswith("www.") and "." in name[4:]:
        name = name[4:]
    return name


def _ascii_host(name: str) -> str:
    try:
        return idna.encode(name, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return name


def _path(path: str) -> str:
    if _PLAIN.fullmatch(path):
        return path
    segments: list[str] = []
    parts = _escaped(path).split("/")[1:] or [""]
    for part in parts:
        if part == "..":
            del segments[-1:]
        elif part != ".":
            segments.append(part)
    if parts[-1] in (".", ".."):
        segments.append("")
    return "/" + "/".join(segments)


def _escaped(text: str) -> str:
    """Percent-encoded as RFC 3986 has it: unreserved characters plain, hex digits in capitals."""
    return _ESCAPE_OR_OTHER.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    text = match[0]
    if len(text) == 3:
        byte = int(text[1:], 16)
        return chr(byte) if byte in _UNRESERVED else text.upper()
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
