"""The web as data: sites, the answers of their image hosts, and candidates on their pages.

A candidate is one <img> that a page will hold; a response is what a URL answers. Which dirt they
carry is decided elsewhere and noted here only as words for the ground truth.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

from tools.miniweb.draw import digest, pick, uniform
from tools.miniweb.pictures import TYPES

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Site:
    """A site: where its pages and its pictures live and how its pages look.

    `page` and `image` are URL patterns; `layout` names a renderer of `pages`.
    """

    page: str
    image: str
    layout: str
    title: str
    languages: tuple[str, ...] = ("en",)
    charset: str = "utf-8"
    weight: float = 1.0


SITES = {
    "encyclopaedia": Site(
        "https://www.picturepedia.example/wiki/{theme}_{n}",
        "https://upload.picturepedia.example/thumb/{h}/{vendor}_{slug}.{ext}",
        "figures",
        "Picturepedia, the picture encyclopaedia",
        weight=2.0,
    ),
    "shop": Site(
        "https://shop.tinytreasures.example/catalogue/{theme}/page-{n}.html",
        "https://cdn.tinytreasures.example/i/{code}-{vendor}.{ext}",
        "cards",
        "Tiny Treasures gift shop",
        weight=1.5,
    ),
    "blog": Site(
        "http://blog.dailyglyph.example/2026/04/{theme}-{n}/",
        "http://blog.dailyglyph.example/wp-content/uploads/2026/04/{slug}-{vendor}.{ext}",
        "article",
        "The Daily Glyph",
        weight=1.5,
    ),
    "stickers": Site(
        "https://stickers.glueandgrin.example/c/{theme}/{n}",
        "https://media.glueandgrin.example/{vendor}/{slug}.{ext}",
        "cards",
        "Glue & Grin stickers",
        weight=1.5,
    ),
    "archive": Site(
        "http://clipart.oldarchive.example/{theme}/index{n}.html",
        "http://clipart.oldarchive.example/{theme}/thumbs/{vendor}/{code}.{ext}",
        "table",
        "The Old Clip Art Archive",
    ),
    "school": Site(
        "http://www.hillside-school.example/teachers/{theme}/sheet{n}.htm",
        "http://www.hillside-school.example/pictures/{slug}_{vendor}.{ext}",
        "base",
        "Hillside School - teaching pictures",
        charset="iso-8859-1",
    ),
    "forum": Site(
        "https://forum.pixelpub.example/viewtopic.php?t={n}&cat={theme}",
        "https://cdn1.fastpix.example/{h}{code}{vendor}.{ext}",
        "posts",
        "Pixel Pub forum",
        weight=1.2,
    ),
    "glyphs": Site(
        "https://glyphbook.example/{theme}/{n}",
        "https://glyphbook.example/assets/{vendor}/64/{code}.{ext}",
        "list",
        "Glyphbook",
        weight=1.2,
    ),
    "gifs": Site(
        "http://www.gifbin.example/browse/{theme}?page={n}",
        "http://i.gifbin.example/{h}/{slug}~{vendor}.{ext}",
        "list",
        "GifBin",
    ),
    "news": Site(
        "https://www.harbourgazette.example/style/{theme}/{n}.html",
        "https://img.harbourgazette.example/{h}/{vendor}-{slug}.{ext}?w=64&q=75",
        "article",
        "Harbour Gazette",
    ),
    "travel": Site(
        "https://flags-and-flights.example/{theme}/{n}/",
        "https://flags-and-flights.example/media/{slug}({vendor}).{ext}",
        "figures",
        "Flags and Flights",
        weight=0.7,
    ),
    "homepage": Site(
        "http://oldhomepage.example/~anna/{theme}{n}.html",
        "http://oldhomepage.example/~anna/pics/my%20{slug}%20{vendor}.{ext}",
        "broken",
        "Anna's picture page",
        weight=0.4,
    ),
    "wiki": Site(
        "https://wiki.drawings.example/index.php?title={theme}&page={n}",
        "https://wiki.drawings.example/images/{h}/{slug}_{vendor}.{ext}",
        "table",
        "Drawings Wiki",
    ),
    "spam": Site(
        "http://www.best-free-icons.example/{theme}-icons-download-{n}.html",
        "http://www.best-free-icons.example/dl/{slug}-{vendor}-free-icon.{ext}",
        "list",
        "BEST FREE ICONS download 2026",
        weight=0.7,
    ),
    "bilderbuch": Site(
        "https://www.bilderbuch.example/seite/{n}",
        "https://www.bilderbuch.example/bilder/{slug}-{vendor}.{ext}",
        "cards",
        "Bilderbuch",
        ("de",),
    ),
    "vrac": Site(
        "http://images-en-vrac.example/page/{n}",
        "http://images-en-vrac.example/photos/{code}_{vendor}.{ext}",
        "list",
        "Images en vrac",
        ("fr",),
        charset="claims-utf-8",
    ),
    "kartinki": Site(
        "http://kartinki.example/{theme}/razdel{n}.html",
        "http://kartinki.example/img/{code}{vendor}.{ext}",
        "table",
        "Kartinki",
        ("ru", "uk"),
        charset="windows-1251",
    ),
    "emaji": Site(
        "https://emaji.example/p/{n}",
        "https://img.emaji.example/{vendor}/{code}.{ext}",
        "cards",
        "Emaji",
        ("ja",),
        charset="shift_jis",
    ),
    "dibujos": Site(
        "https://dibujos.example/{theme}/galeria/{n}",
        "https://dibujos.example/archivos/{slug}_{vendor}.{ext}",
        "figures",
        "Dibujos",
        ("es", "pt", "it", "ca"),
    ),
    "worldwords": Site(
        "https://worldwords.example/{theme}/{n}",
        "https://static.worldwords.example/{vendor}/{code}.{ext}",
        "list",
        "World Words",
        weight=0.0,
    ),
}


@dataclass(frozen=True)
class Response:
    """What a URL answers; `lost` bytes of the body never arrived although they were announced."""

    status: int
    headers: Headers
    body: bytes
    lost: int = 0


@dataclass(frozen=True)
class Candidate:
    """One <img> on a page of `site`: the picture's URL and the text that goes with it.

    `form` says how the page writes it (see `pages`), `ready` that the text is HTML already.
    """

    site: str
    language: str
    theme: str
    url: str
    text: str | None
    kinds: tuple[str, ...]
    form: str = "plain"
    ready: bool = False


@dataclass
class Web:
    """Everything that exists: candidates in the order of their making, responses by URL."""

    candidates: list[Candidate] = field(default_factory=list)
    responses: dict[str, Response] = field(default_factory=dict)

    def answer(
        self, url: str, status: int, kind: str, body: bytes, more: Headers = (), lost: int = 0
    ) -> str:
        """Let `url` answer with a body of media type `kind`; returns the URL."""
        headers = ((("Content-Type", kind),) if kind else ()) + more + _server_headers(url)
        self.responses[url] = Response(status, headers, body, lost)
        return url

    def redirect(self, url: str, target: str, status: int = 301) -> str:
        """Let `url` redirect to `target`; returns the URL."""
        self.responses[url] = Response(status, (("Location", target),), b"")
        return url

    def show(self, candidates: Iterable[Candidate]) -> None:
        """Put candidates on pages."""
        self.candidates.extend(candidates)


def _server_headers(url: str) -> Headers:
    server = pick(("nginx", "Apache", "cloudfront", ""), "server", url.split("/")[2])
    headers: Headers = (("Server", server),) if server else ()
    if uniform("etag", url) < 0.3:
        headers += (("ETag", f'"{digest("etag", url, size=4).hex()}"'),)
    return headers


def image_url(site: str, vendor: str, slug: str, code: str, suffix: str, theme: str) -> str:
    """The address that a site gives a picture, percent-encoded."""
    name = quote(slug.lower().replace(" ", "-"), safe="-_.~'(),!")
    return SITES[site].image.format(
        vendor=vendor,
        slug=name,
        code=code,
        ext=suffix,
        theme=theme,
        h=digest("path", site, vendor, code, slug, size=2).hex(),
    )


def media_type(suffix: str) -> str:
    """The media type of a file suffix."""
    return TYPES[suffix]
