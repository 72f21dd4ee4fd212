"""HTML pages of the mini-web: candidates laid out as an encyclopaedia, a shop, a forum would.

A page is bytes in its site's charset, with the headers of its answer; some pages lie about the
charset or the language, and some are broken HTML. Pages are grouped by site, language and theme.
"""

import html
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tools.miniweb.captions import PHRASES
from tools.miniweb.draw import below, pick, shuffled, uniform
from tools.miniweb.markup import image, spell
from tools.miniweb.web import SITES, Candidate, Web

SENTENCES = (
    "Here are some more pictures that readers sent us this week.",
    "We redraw every picture by hand, so please be patient with us.",
    "The first sets of these signs came from Japan in the late nineties.",
    "Print the sheet, cut along the lines and let the children sort the cards.",
    "I have no idea who drew this one, but I have used it for years.",
    "All pictures on this page may be used for any purpose.",
    "Orders over twenty euros travel free of charge.",
    "Scroll down for the comments, and be nice to each other.",
    "This article is a stub; you can help by adding a better picture.",
    "My phone shows it a little differently, which puzzled my mother.",
    "The collection has grown since spring and is still not complete.",
    "Last update on a rainy Sunday.",
)
TRAPS = (
    '<!-- <img src="/old/commented-out.png" alt="a picture inside a comment"> -->',
    "<script>document.write('<img src=\"/ads/' + n + '.png\" alt=\"from a script\">');</script>",
    '<script type="text/template"><img src="/t/{{id}}.png" alt="{{ title }}"></script>',
    "<style>.x{background:url(/img/background.png)}</style>",
    '<textarea><img src="/form/sample.png" alt="text, not an image"></textarea>',
)
"""Strings that look like images and are none."""


@dataclass(frozen=True)
class WebPage:
    """A page as it is answered: `shown` are the candidates on it, in their order."""

    url: str
    content_type: str
    body: bytes
    shown: tuple[Candidate, ...]
    dirt: tuple[str, ...]


def _groups(web: Web) -> Iterator[tuple[str, str, str, int, list[Candidate]]]:
    groups: dict[tuple[str, str, str], list[Candidate]] = defaultdict(list)
    for candidate in web.candidates:
        groups[candidate.site, candidate.language, candidate.theme].append(candidate)
    for (site, language, theme), members in sorted(groups.items()):
        rest, number = shuffled(members, site, language, theme), 1
        while rest:
            size = 12 + below(30, "page size", site, language, theme, number)
            yield site, language, theme, number, rest[:size]
            rest, number = rest[size:], number + 1


def write_pages(web: Web) -> list[WebPage]:
    """All pages, ordered by a hash of their address as a crawl meets them."""
    pages = [_page(*group) for group in _groups(web)]
    return shuffled(sorted(pages, key=lambda page: page.url), "crawl order")


def _page(site: str, language: str, theme: str, number: int, shown: list[Candidate]) -> WebPage:
    look = SITES[site]
    url = look.page.format(theme=theme, n=number)
    base, head = url, ""
    if look.layout == "base" and number % 2:
        base = url.rsplit("/", 3)[0] + "/"
        head = f'<base href="{base}">'
    items = []
    for place, one in enumerate(shown):
        key = (url, place)
        src = spell(one.url, base, *key)
        items.append(image(src, one.text, one.form, one.ready, *key))
    layout = look.layout if look.layout in LAYOUTS else "list"
    middle = LAYOUTS[layout](items, url)
    lang, dirt = _said_language(language, url)
    charset, content_type, meta, charset_dirt = _charset(look.charset, url)
    named = PHRASES.get(language, {}).get("title") or look.title
    title = html.escape(f"{named} - {theme.replace('-', ' ')} {number}")
    closing = "" if look.layout == "broken" and number % 2 else "</body></html>"
    text = (
        f"<!DOCTYPE html>\n<html{lang}><head>{meta}{head}<title>{title}</title></head>\n<body>"
        f'<a href="/"><img src="/static/logo.png" alt="logo"></a><h1>{title}</h1>\n'
        f"{middle}\n{_trap(url)}<footer>{_sentence(url, 'foot')}</footer>{closing}\n"
    )
    body = text.encode(charset, "xmlcharrefreplace")
    return WebPage(url, content_type, body, tuple(shown), dirt + charset_dirt)


def _said_language(language: str, url: str) -> tuple[str, tuple[str, ...]]:
    draw = uniform("lang", url)
    if draw < 0.15:
        return "", ()
    if draw < 0.25:
        wrong = "en" if language != "en" else pick(("de", "fr", "zh-CN"), "wrong", url)
        return f' lang="{wrong}"', ("wrong-lang",)
    return f' lang="{language}"', ()


def _charset(charset: str, url: str) -> tuple[str, str, str, tuple[str, ...]]:
    """(codec, Content-Type, <meta>, dirt) of a page."""
    if charset == "claims-utf-8":
        meta = '<meta charset="utf-8">'
        return "iso-8859-1", "text/html; charset=utf-8", meta, ("false-charset",)
    if charset == "utf-8":
        said = pick(("text/html; charset=utf-8", "text/html;charset=UTF-8", "text/html"), url)
        return "utf-8", said, '<meta charset="utf-8">', ()
    if below(3, "charset", url) == 0:
        meta = f'<meta http-equiv="Content-Type" content="text/html; charset={charset}">'
        return charset, "text/html", meta, ("charset-in-meta",)
    return charset, f"text/html; charset={charset}", "", ("charset-in-header",)


def _trap(url: str) -> str:
    return pick(TRAPS, "trap", url) + "\n" if uniform("trapped", url) < 0.15 else ""


def _sentence(*key: object) -> str:
    return pick(SENTENCES, "sentence", *key)


def _figures(items: list[str], url: str) -> str:
    rows = [f"<section>{item}</section>" for item in items]
    return f"<p>{_sentence(url, 1)} {_sentence(url, 2)}</p>\n" + "\n".join(rows)


def _cards(items: list[str], url: str) -> str:
    cards = []
    for place, item in enumerate(items):
        price = f"{1 + below(20, 'price', url, place)}.{below(100, 'cents', url, place):02d} EUR"
        cards.append(f'<div class="card">{item}<span>{price}</span><button>Add</button></div>')
    return '<div class="grid">' + "\n".join(cards) + f"</div><p>{_sentence(url)}</p>"


def _article(items: list[str], url: str) -> str:
    parts = [f"<p>{_sentence(url, place)} {item}</p>" for place, item in enumerate(items)]
    return "<article>" + "\n".join(parts) + "</article>"


def _table(items: list[str], url: str) -> str:
    rows = [
        "<td>" + "</td><td>".join(items[at : at + 4]) + "</td>" for at in range(0, len(items), 4)
    ]
    return '<table border="1"><tr>' + "</tr>\n<tr>".join(rows) + "</tr></table>"


def _posts(items: list[str], url: str) -> str:
    posts = []
    for place, item in enumerate(items):
        who = f"user{below(400, 'user', url, place)}"
        avatar = f'<img class="avatar" src="/avatars/{who}.png" alt="user avatar">'
        face = avatar if place % 6 == 0 else ""
        posts.append(f'<div class="post">{face}<b>{who}</b> {_sentence(url, place)} {item}</div>')
    return "\n".join(posts)


def _list(items: list[str], url: str) -> str:
    return "<ul>" + "\n".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _broken(items: list[str], url: str) -> str:
    """Tables in tables, tags never closed, closed twice or crossing each other."""
    written = ["<center><table><tr><td><table><tr>"]
    for place, item in enumerate(items):
        opening = pick(
            ("<td>", "<td><b><i>", "</td></td><td>", "<p><font size=7>", "<li>"), url, place
        )
        written.append(
            opening + item + pick(("", "</b></i>", "</p></div>", "<br><hr>"), place, url)
        )
    return "\n".join(written) + "</table><a href='x.html>lost quote</a><p>the end"


LAYOUTS = {
    "figures": _figures,
    "cards": _cards,
    "article": _article,
    "table": _table,
    "posts": _posts,
    "list": _list,
    "broken": _broken,
}
