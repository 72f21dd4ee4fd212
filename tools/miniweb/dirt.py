"""The spoiled half of the mini-web: texts that say nothing and addresses that give nothing.

One function per kind of dirt, and `MENU` with how often each kind is met; the shares follow what
crawls of the open web hold. Captions of faulty addresses are good ones, so that only fetching
finds them out.
"""

import html
from collections.abc import Callable

from tools.miniweb import captions
from tools.miniweb.candidates import Picture, english_site, form_of, theme_of
from tools.miniweb.draw import below, pick, sample
from tools.miniweb.web import Candidate, Web

Key = tuple[object, ...]
Text = Callable[[Picture, Key], str | None]
Serve = Callable[[Picture, str, int], object]


def spoil(
    web: Web, found: list[Picture], kind: str, count: int, text: Text, ready: bool = False
) -> None:
    """`count` pictures once more, now with a spoiled text."""
    for one in sample(found, count, kind):
        key = (kind, one.vendor, one.emoji.code)
        site, theme = english_site(*key), theme_of(one.emoji)
        form = "plain-odd" if below(5, *key) == 0 else "plain"
        web.show([Candidate(site, "en", theme, one.url, text(one, key), (kind,), form, ready)])


def _english(one: Picture, key: Key) -> str:
    return captions.english(one.emoji, one.vendor, *key)


def _named_entities(one: Picture, key: Key) -> str:
    text = pick(
        (
            '{text} & "friends"',
            "Caf\u00e9 {text} \u00a9 2026",
            "{text} \u2013 5 \u20ac & up",
            "{text} <small>",
        ),
        *key,
    ).format(text=_english(one, key))
    escaped = html.escape(text)
    names = {"\u00e9": "&eacute;", "\u00a9": "&copy;", "\u2013": "&#8211;", "\u20ac": "&#x20AC;"}
    for letter, entity in names.items():
        escaped = escaped.replace(letter, entity)
    return escaped


def _mojibake_foreign(one: Picture, key: Key) -> str:
    languages = [name for name in ("de", "fr", "es", "pl", "ru", "ja") if name in one.emoji.names]
    if not languages:
        return captions.mojibake(captions.curly(one.emoji, *key))
    return captions.mojibake(captions.foreign(one.emoji, pick(languages, *key), *key))


def spoil_texts(web: Web, found: list[Picture]) -> None:
    """All the ways in which a live picture carries a useless or damaged text."""
    spoil(web, found, "empty-alt", 320, lambda one, key: "")
    spoil(web, found, "missing-alt", 260, lambda one, key: None)
    spoil(web, found, "file-name", 250, lambda one, key: captions.file_name(one.emoji, *key))
    spoil(web, found, "boilerplate", 280, lambda one, key: pick(captions.BOILERPLATE, *key))
    spoil(web, found, "stuffed", 130, lambda one, key: captions.stuffed(one.emoji, *key))
    spoil(web, found, "address-in-text", 80, lambda one, key: captions.contact(one.emoji, *key))
    spoil(web, found, "odd-text", 130, lambda one, key: captions.odd(one.emoji, *key))
    spoil(web, found, "entities", 120, _named_entities, ready=True)
    spoil(web, found, "double-escaped", 80, _named_entities)
    spoil(web, found, "mojibake-foreign", 200, _mojibake_foreign)
    spoil(
        web,
        found,
        "mojibake",
        110,
        lambda one, key: captions.mojibake(captions.curly(one.emoji, *key)),
    )
    spoil(
        web,
        found,
        "mojibake-twice",
        50,
        lambda one, key: captions.mojibake(captions.curly(one.emoji, *key), 2),
    )
    spoil(web, found, "curly", 60, lambda one, key: captions.curly(one.emoji, *key))
    spoil(web, found, "nul-byte", 1, lambda one, key: f"{one.emoji.name}\0 emoji icon")


def addressed(url: str) -> Callable[[Picture, int], str]:
    """A maker of addresses from a pattern with the emoji's code, the vendor and a number."""
    return lambda one, n: url.format(code=one.emoji.code, vendor=one.vendor, n=n)


def serve_as_is(web: Web, one: Picture, url: str, **headers: str) -> None:
    """Let `url` answer with the picture itself, with more headers (`_` stands for `-`)."""
    response = web.responses[one.url]
    more = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    web.answer(url, 200, dict(response.headers)["Content-Type"], response.body, more)


def link(
    web: Web,
    found: list[Picture],
    kind: str,
    count: int,
    address: Callable[[Picture, int], str],
    serve: Serve | None = None,
) -> None:
    """`count` well captioned links to addresses of one kind, served by `serve` (or not at all)."""
    for n, one in enumerate(sample(found, count, kind)):
        key = (kind, one.vendor, one.emoji.code)
        url = address(one, n)
        if serve is not None:
            serve(one, url, n)
        site, theme = english_site(*key), theme_of(one.emoji)
        form = "plain" if url.startswith("data:") else form_of(*key)
        web.show([Candidate(site, "en", theme, url, _english(one, key), (kind,), form)])


REFUSALS = (
    ("not-found-page", 30, "https://cdn2.fastpix.example/r/{n}.png", 404),
    ("forbidden", 110, "https://i.nohotlink.example/{code}{n}.png", 403),
    ("gone", 40, "https://oldphotos.example/{code}.{n}.jpg", 410),
    ("server-error", 35, "http://flaky.example/img.php?id={n}", 500),
    ("unavailable", 10, "http://flaky.example/busy/{n}.png", 503),
    ("too-many", 30, "https://api.icons.example/v1/{code}/{n}", 429),
)
"""Kind, count, address and status of answers that refuse."""

OPT_OUTS = (
    ("noai", 20, "https://artists.example/{n}/{code}.webp", "noai"),
    ("noimageai", 10, "https://artists.example/{n}/{code}.webp?b", "noimageai, noarchive"),
    ("noindex", 12, "https://artists.example/{n}/{code}.webp?i", "noindex"),
    ("bot-tag", 12, "https://artists.example/{n}/{code}.webp?g", "otherbot: noindex, noai"),
)
"""Kind, count, address and X-Robots-Tag of pictures that are there; the last is for another bot."""


def refuse(web: Web, found: list[Picture]) -> None:
    """Dead links, refusals, server errors, robots.txt and opt-outs."""
    page = b"<!doctype html><title>%d</title><h1>%d</h1><p>The server said no.</p>"

    def status(code: int) -> Serve:
        more = (("Retry-After", "1"),) if code == 429 else ()
        return lambda one, url, n: web.answer(url, code, "text/html", page % (code, code), more)

    def tagged(value: str) -> Serve:
        return lambda one, url, n: serve_as_is(web, one, url, X_Robots_Tag=value)

    link(web, found, "dead", 320, addressed("http://lost-images.example/{n}/{code}-{vendor}.jpg"))
    for kind, count, address, code in REFUSALS:
        link(web, found, kind, count, addressed(address), status(code))
    for kind, count, address, value in OPT_OUTS:
        link(web, found, kind, count, addressed(address), tagged(value))
    closed = addressed("https://noentry.example/private/{n}/{code}.png")
    link(web, found, "robots-txt", 50, closed, lambda one, url, n: serve_as_is(web, one, url))


def mislead(web: Web, found: list[Picture]) -> None:
    """Redirects, schemes and addresses that lead astray, and addresses that nobody may ask."""
    hop = "https://go.shortlink.example/{n}/{code}"

    def chain(one: Picture, url: str, n: int) -> None:
        steps = [f"{url}/step{step}" for step in range(2 + n % 6)]
        for here, there in zip([url, *steps], [*steps, one.url], strict=True):
            web.redirect(here, there, 302)

    def loop(one: Picture, url: str, n: int) -> None:
        web.redirect(url, url + "/round", 302)
        web.redirect(url + "/round", url, 302)

    link(web, found, "redirect-chain", 12, addressed(hop), chain)
    link(web, found, "redirect-loop", 3, addressed(hop + "/loop"), loop)
    link(
        web,
        found,
        "redirect-to-dead",
        20,
        addressed(hop + "/old"),
        lambda one, url, n: web.redirect(url, url.replace("go.shortlink", "lost-images")),
    )

    def relative(one: Picture, url: str, n: int) -> None:
        web.redirect(url, f"../../direct/{n}")
        serve_as_is(web, one, f"https://artists.example/direct/{n}")

    relatives = "https://artists.example/r/{n}/{code}"
    link(web, found, "redirect-relative", 10, addressed(relatives), relative)
    _tempt(web, found)


def _tempt(web: Web, found: list[Picture]) -> None:
    """Addresses that must not be asked: inside hosts, other schemes, endless ones."""
    inside = (
        "http://127.0.0.1/{code}.png",
        "http://169.254.169.254/latest/{n}.png",
        "http://localhost:8265/api/{n}.png",
        "http://[::1]/{code}.png",
    )
    for n, url in enumerate(inside):
        link(web, found[n::5], "private-address", 3, addressed(url))
    schemes = (
        "file:///etc/{code}.png",
        "ftp://ftp.oldarchive.example/{code}.gif",
        "javascript:void({n})",
        "about:blank#{n}",
        "blob:https://x.example/{code}",
        "http:///no-host/{code}.png",
        "http://exa mple.example/{code}.png",
        "cid:{code}",
    )
    for n, url in enumerate(schemes):
        link(web, found[n::9], "bad-address", 5, addressed(url))
    tiny = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    link(web, found, "data-uri", 30, lambda one, n: tiny)
    long = "https://cdn1.fastpix.example/{code}.png?token=" + "a7" * 1100
    link(web, found, "long-url", 1, addressed(long), lambda one, url, n: serve_as_is(web, one, url))
    longer = "https://cdn1.fastpix.example/{code}.png?state=" + "b6" * 50_000
    link(web, found[7:], "long-url", 1, addressed(longer))
    user = "https://guest:secret@cdn2.fastpix.example/{code}.png"
    link(web, found, "user-in-url", 3, addressed(user))
