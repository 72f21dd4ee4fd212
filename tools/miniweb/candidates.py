"""The clean half of the mini-web: every picture on its site with a natural caption.

Each drawing of both vendors gets one live address and one English caption; then come second
captions, repeats, other languages, and the pictures' doubles. The spoiled half is `dirt`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.miniweb import captions, pictures
from tools.miniweb.draw import below, pick, pick_weighted, sample, uniform
from tools.miniweb.sources import Clipart, Emoji
from tools.miniweb.web import SITES, Candidate, Web, image_url, media_type

ENGLISH_SITES = {name: site.weight for name, site in SITES.items() if site.languages == ("en",)}
FOREIGN_SITES = {
    language: name
    for name, site in SITES.items()
    for language in site.languages
    if language != "en"
}
FORMS = {
    "plain": 0.58,
    "plain-odd": 0.08,
    "lazy": 0.09,
    "lazy-noscript": 0.02,
    "srcset": 0.07,
    "srcset-only": 0.015,
    "picture": 0.04,
    "figure": 0.045,
    "title": 0.03,
    "aria": 0.015,
    "alt-and-title": 0.015,
}
"""How pages write an image with a caption, by share."""


@dataclass(frozen=True)
class Picture:
    """An emoji's drawing by one vendor, live at `url`."""

    emoji: Emoji
    vendor: str
    url: str
    body: bytes


def form_of(*key: object) -> str:
    """A way to write an image, by share."""
    return pick_weighted(FORMS, "form", *key)


def theme_of(emoji: Emoji) -> str:
    """The emoji's category as a path segment."""
    return emoji.category.lower().replace(" & ", "-").replace(" ", "-")


def english_site(*key: object) -> str:
    """One of the English sites, by weight."""
    return pick_weighted(ENGLISH_SITES, "site", *key)


def encoded(path: Path, suffix: str) -> tuple[bytes, str]:
    """A vendor's drawing in one of the web's formats: (bytes, suffix)."""
    if suffix == "original":
        return path.read_bytes(), "png"
    return pictures.encode(pictures.load(path), suffix), suffix


def add_pictures(web: Web, emoji: list[Emoji]) -> list[Picture]:
    """Both vendors' drawings of every emoji, live, each with one English caption."""
    found = []
    for one in emoji:
        for vendor, path in sorted(one.files.items()):
            key = (vendor, one.code)
            body, suffix = encoded(path, pick_weighted(pictures.FORMATS, "format", *key))
            site, theme = english_site(*key), theme_of(one)
            url = image_url(site, vendor, one.name, one.code, suffix, theme)
            web.answer(url, 200, media_type(suffix), body)
            found.append(Picture(one, vendor, url, body))
            link, kind = _perhaps_moved(web, url, key)
            text = captions.english(one, vendor, *key)
            form = form_of(*key)
            web.show([Candidate(site, "en", theme, link, text, ("clean", kind), form)])
    return found


def _perhaps_moved(web: Web, url: str, key: tuple[object, ...]) -> tuple[str, str]:
    """One picture in twenty is linked by an old address that redirects."""
    draw = uniform("moved", *key)
    if draw < 0.03:
        old = url.replace("://", "://old.", 1)
        return web.redirect(old, url, pick((301, 302, 308), *key)), "redirect"
    if draw < 0.05 and url.startswith("https:"):
        return web.redirect(url.replace("https:", "http:", 1), url), "redirect-to-https"
    return url, "direct"


def add_clipart(web: Web, clipart: list[Clipart], count: int, large: int) -> None:
    """`count` clip arts, most of them at most 128 px, the first `large` ones up to 400 px."""
    for place, one in enumerate(sample(clipart, count, "clipart")):
        longest = 400 if place < large else 64 + 16 * below(4, "size", one.slug)
        suffix = pick(("webp", "webp", "jpg"), "format", one.slug)
        body = pictures.encode(pictures.load(one.file, longest), suffix, quality=65)
        site = pick(("archive", "wiki", "school", "homepage", "blog"), "site", one.slug)
        url = image_url(site, "oca", one.slug, one.slug, suffix, one.folder)
        web.answer(url, 200, media_type(suffix), body)
        text = captions.clipart(one, one.slug)
        kinds = ("clean", "clipart")
        web.show([Candidate(site, "en", one.folder, url, text, kinds, form_of(one.slug))])


def add_variants(web: Web, emoji: list[Emoji], count: int) -> None:
    """Skin tone variants under captions so general that only the head of the queries matches."""
    every = [(one, name, files) for one in emoji for name, files in one.variants]
    for one, name, files in sample(every, count, "variants"):
        vendor = pick(sorted(files), "vendor", name)
        suffix = pick(("webp", "webp", "jpg"), "format", name)
        code = files[vendor].stem
        site, theme = english_site(name), theme_of(one)
        url = image_url(site, vendor, name, code, suffix, theme)
        body, suffix = encoded(files[vendor], suffix)
        web.answer(url, 200, media_type(suffix), body)
        text = captions.generic(name, name)
        kinds = ("clean", "generic-caption")
        web.show([Candidate(site, "en", theme, url, text, kinds, form_of(name))])


def add_second_captions(web: Web, found: list[Picture], count: int) -> None:
    """Other English captions for pictures that have one, mostly on other sites."""
    for one in sample(found, count, "second"):
        key = ("second", one.vendor, one.emoji.code)
        text = captions.english(one.emoji, one.vendor, *key)
        site = english_site(*key)
        kinds = ("clean", "second-caption")
        theme = theme_of(one.emoji)
        web.show([Candidate(site, "en", theme, one.url, text, kinds, form_of(*key))])


def add_repeats(web: Web, count: int) -> None:
    """The same address with the same caption on other pages, once to three times more."""
    for one in sample(list(web.candidates), count, "repeats"):
        for turn in range(pick((1, 1, 1, 2, 3), "turns", one.url)):
            theme = pick(("popular", "new", "sitemap", one.theme), "theme", turn, one.url)
            kinds = ("repeat", *one.kinds[1:])
            site, language = one.site, one.language
            web.show([Candidate(site, language, theme, one.url, one.text, kinds, "plain")])


def add_foreign(web: Web, found: list[Picture], count: int) -> None:
    """Captions in some 45 other languages, a few of them on pages that say another language."""
    named = [one for one in found if one.emoji.names]
    weights = {"de": 9.0, "fr": 9.0, "es": 8.0, "ru": 8.0, "ja": 8.0, "it": 5.0, "pt": 5.0}
    for one in sample(named, count, "foreign"):
        key = ("foreign", one.vendor, one.emoji.code)
        shares = {language: weights.get(language, 1.0) for language in sorted(one.emoji.names)}
        language = pick_weighted(shares, "language", *key)
        site = FOREIGN_SITES.get(language, "worldwords")
        url = one.url
        if uniform("own", *key) < 0.15:
            url = _double(web, one, site, key)
        text = captions.foreign(one.emoji, language, *key)
        kinds = ("foreign", f"language-{language}")
        web.show([Candidate(site, language, language, url, text, kinds, form_of(*key))])


def add_doubles(web: Web, found: list[Picture], count: int) -> None:
    """Re-encoded and resized near-duplicates on other hosts, with English captions."""
    for one in sample(found, count, "doubles"):
        key = ("double", one.vendor, one.emoji.code)
        site, theme = english_site(*key), theme_of(one.emoji)
        url = _double(web, one, site, key)
        text = captions.english(one.emoji, one.vendor, *key)
        kinds = ("clean", "near-duplicate")
        web.show([Candidate(site, "en", theme, url, text, kinds, form_of(*key))])


def _double(web: Web, one: Picture, site: str, key: tuple[object, ...]) -> str:
    image = pictures.load(one.emoji.files[one.vendor])
    suffix = pick(("webp", "webp", "jpg"), "format", *key)
    body = pictures.encode(pictures.lookalike(image, below(5, *key)), suffix, quality=60)
    name = one.emoji.name + "-copy"
    code = one.emoji.code + "-x"
    url = image_url(site, one.vendor, name, code, suffix, theme_of(one.emoji))
    return web.answer(url, 200, media_type(suffix), body)


ADDRESS_WAYS: dict[str, Callable[[str], str]] = {
    "utm": lambda url: _query(url, "utm_source=feed&utm_medium=rss&utm_campaign=spring"),
    "version": lambda url: _query(url, "v=3"),
    "session": lambda url: _query(url, "PHPSESSID=8f3a2c1b9d"),
    "fragment": lambda url: url + "#main",
    "scheme": lambda url: "http" + url[5:] if url.startswith("https") else "https" + url[4:],
    "www": lambda url: (
        url.replace("://www.", "://", 1) if "://www." in url else url.replace("://", "://www.", 1)
    ),
    "port": lambda url: _with_port(url),
    "case": lambda url: _upper_host(url),
    "mirror": lambda url: "https://mirror.picsave.example/" + url.split("://", 1)[1],
}
"""Other addresses of the same bytes."""


def _query(url: str, extra: str) -> str:
    return url + ("&" if "?" in url else "?") + extra


def _with_port(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}:{443 if scheme == 'https' else 80}/{path}"


def _upper_host(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme.upper()}://{host.title()}/{path}"


def add_addresses(web: Web, found: list[Picture], count: int) -> None:
    """The same picture under another address; half of them with the caption it has elsewhere."""
    for one in sample(found, count, "addresses"):
        key = ("address", one.vendor, one.emoji.code)
        way = pick(sorted(ADDRESS_WAYS), *key)
        url = ADDRESS_WAYS[way](one.url)
        if way in ("utm", "version", "session", "www", "mirror"):
            response = web.responses[one.url]
            web.responses[url] = response
        again = uniform("again", *key) < 0.5
        text_key = (one.vendor, one.emoji.code) if again else key
        text = captions.english(one.emoji, one.vendor, *text_key)
        kinds = ("clean", "other-address", f"address-{way}")
        site, theme = english_site(*key), theme_of(one.emoji)
        web.show([Candidate(site, "en", theme, url, text, kinds, form_of(*key))])
