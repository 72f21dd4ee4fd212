"""Make the mini-web's committed files from unpacked packages; the same inputs, the same bytes.

    python -m tools.miniweb.make_miniweb --google DIR --twitter DIR --openmoji DIR --cldr DIR \
        --openclipart DIR --words FILE [--out jobs/quickstart] [--truth FILE]

DIRs are the unpacked npm packages emoji-datasource-google and emoji-datasource-twitter 16.0.0,
openmoji 17.0.0 and cldr-annotations-full 48.2.0, and /usr/share/openclipart of Debian's
openclipart-png and openclipart-svg 0.18. The words are common English ones, one per line
(jobs/quickstart/README.md says how to get them). It needs Pillow with WebP, and rsvg-convert.
"""

import argparse
import html
import json
from pathlib import Path
from urllib.parse import urlsplit

from tools.miniweb import candidates, dirt, faults, heldout, sources, warc
from tools.miniweb.draw import below
from tools.miniweb.pages import WebPage, write_pages
from tools.miniweb.queries import queries
from tools.miniweb.sources import Clipart, Emoji
from tools.miniweb.web import Web

QUICKSTART = Path(__file__).parents[2] / "jobs" / "quickstart"
PAGE_FILES = 8


def make_web(emoji: list[Emoji], clipart: list[Clipart]) -> Web:
    """Pictures, captions and dirt, in the shares that jobs/quickstart/README.md lists."""
    web = Web()
    pictures = candidates.add_pictures(web, emoji)
    candidates.add_clipart(web, clipart, count=480, large=24)
    candidates.add_variants(web, emoji, count=320)
    candidates.add_second_captions(web, pictures, count=650)
    candidates.add_repeats(web, count=330)
    candidates.add_foreign(web, pictures, count=1600)
    candidates.add_doubles(web, pictures, count=300)
    candidates.add_addresses(web, pictures, count=360)
    dirt.spoil_texts(web, pictures)
    dirt.refuse(web, pictures)
    dirt.mislead(web, pictures)
    faults.break_pictures(web, pictures)
    _add_robots(web)
    return web


def _add_robots(web: Web) -> None:
    rules = {
        "http://noentry.example": "User-agent: *\nDisallow: /private/\n",
        "http://upload.picturepedia.example": "User-agent: *\nCrawl-delay: 1\nAllow: /\n",
        "http://cdn1.fastpix.example": "User-agent: badbot\nDisallow: /\n",
    }
    for host, text in rules.items():
        web.answer(f"{host}/robots.txt", 200, "text/plain", text.encode())


def write_page_files(pages: list[WebPage], folder: Path) -> None:
    """pages-00 ... pages-07.warc.gz: a warcinfo, then the pages, some with their requests."""
    for number in range(PAGE_FILES):
        path = folder / f"pages-{number:02d}.warc.gz"
        with path.open("wb") as out:
            out.write(warc.member(warc.warcinfo(path.name, "isPartOf: OW-MINI-2026-20")))
            for place, page in enumerate(pages[number::PAGE_FILES]):
                if place % 16 == 0:
                    out.write(warc.member(_request(page.url)))
                out.write(warc.member(warc.response(_exchange(page), digests=True)))
            out.write(warc.member(warc.response(_no_page(number), digests=True)))


def _request(url: str) -> bytes:
    parts = urlsplit(url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    return warc.request(url, parts.netloc, target)


def _exchange(page: WebPage) -> warc.HttpExchange:
    headers: tuple[tuple[str, str], ...] = (("Content-Type", page.content_type),)
    if below(5, "packed", page.url) == 0:
        headers += (("X-Crawler-Content-Encoding", "gzip"),)
    return warc.HttpExchange(page.url, 200, headers, page.body)


def _no_page(number: int) -> warc.HttpExchange:
    """Records of a crawl that hold no page: errors, moved pages, other media types."""
    kinds = (
        (404, "text/html", b"<h1>Not found</h1><img src='/404.png' alt='a lost astronaut'>"),
        (301, "text/html", b""),
        (200, "application/pdf", b"%PDF-1.4\n%%EOF\n"),
        (200, "text/plain", b'<img src="/plain.png" alt="an image tag in plain text">'),
        (200, "text/html", b""),
        (200, "application/json", b'{"html": "<img src=/j.png alt=json>"}'),
        (500, "text/html", b"<img src='/oops.png' alt='our server is on fire'>"),
        (200, "application/xhtml+xml", b'<html xmlns="http://www.w3.org/1999/xhtml"/>'),
    )
    status, kind, body = kinds[number % len(kinds)]
    headers: tuple[tuple[str, str], ...] = (("Content-Type", kind),)
    if status == 301:
        headers += (("Location", "https://www.picturepedia.example/"),)
    return warc.HttpExchange(f"http://misc.example/{number}", status, headers, body)


def write_truth(web: Web, pages: list[WebPage], path: Path) -> None:
    """One JSON line per candidate: where it is, what it links, which dirt it carries."""
    with path.open("w", encoding="utf-8") as out:
        for page in pages:
            for one in page.shown:
                answer = web.responses.get(one.url.split("#")[0])
                row = {
                    "page_url": page.url,
                    "url": one.url,
                    "text": html.unescape(one.text) if one.text and one.ready else one.text,
                    "kinds": one.kinds,
                    "form": one.form,
                    "language": one.language,
                    "page_dirt": page.dirt,
                    "status": answer.status if answer else None,
                }
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="make the mini-web from unpacked packages")
    for name in ("google", "twitter", "openmoji", "cldr", "openclipart", "words"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=QUICKSTART, help="folder to write to (default: the quickstart)"
    )
    parser.add_argument("--truth", type=Path, help="also write the ground truth here")
    write_all(parser.parse_args())


def write_all(options: argparse.Namespace) -> None:
    """Read the packages and write the pages, the answers, the queries and the held-out set."""
    emoji = sources.load_emoji(options.google, options.twitter, options.cldr)
    clipart = sources.load_clipart(options.openclipart)
    web = make_web(emoji, clipart)
    pages = write_pages(web)
    folder = options.out / "web"
    folder.mkdir(parents=True, exist_ok=True)
    write_page_files(pages, folder)
    exchanges = [
        warc.HttpExchange(url, answer.status, answer.headers, answer.body, answer.lost)
        for url, answer in sorted(web.responses.items())
    ]
    warc.write_images(folder / "images.warc.gz", exchanges)
    lines = queries(emoji, clipart, options.words.read_text("utf-8").split())
    (options.out / "queries.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    num_classes = heldout.write(emoji, options.openmoji, options.out / "heldout/wds_openmoji")
    if options.truth:
        write_truth(web, pages, options.truth)
    print(
        f"{len(emoji)} emoji, {len(clipart)} clip arts, {len(pages)} pages, "
        f"{len(web.candidates)} candidates, {len(exchanges)} answers, {len(lines)} queries, "
        f"{num_classes} held-out classes"
    )


if __name__ == "__main__":
    main()
