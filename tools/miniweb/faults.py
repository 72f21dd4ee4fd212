"""Pictures that are not what they say: placeholders, pixels, banners, broken and odd files.

The addresses answer 200; only opening the bytes tells. Kin to `dirt`, which spoils texts and
addresses.
"""

import io

from PIL import Image

from tools.miniweb import pictures
from tools.miniweb.candidates import Picture
from tools.miniweb.dirt import Serve, addressed, link, serve_as_is
from tools.miniweb.draw import digest
from tools.miniweb.web import Web

BANNERS = ((970, 90), (2000, 100), (728, 90), (468, 60), (120, 600))


def break_pictures(web: Web, found: list[Picture]) -> None:
    """All kinds of answers that are no training picture, or an unusual one."""
    nothing = pictures.missing_picture()
    hosts = [f"parked{n}.example" for n in range(12)] + ["img.expired-host.example"]
    link(
        web,
        found,
        "placeholder",
        140,
        lambda one, n: f"http://{hosts[n % len(hosts)]}/{one.emoji.code}/{n}.jpg",
        lambda one, url, n: web.answer(url, 200, "image/png", nothing),
    )
    tracker = "https://pixel.trackomatic.example/t.gif?site={vendor}&id={n}"
    link(web, found, "tracker", 120, addressed(tracker), _fixed(web, "image/gif", pictures.pixel()))
    link(
        web,
        found,
        "banner",
        40,
        addressed("https://ads.bannerworks.example/{n}.png"),
        lambda one, url, n: web.answer(
            url, 200, "image/png", pictures.banner(BANNERS[n % len(BANNERS)], n * 9)
        ),
    )
    page = b"<!doctype html><html><title>Sign in</title><form>Please sign in</form></html>"
    link(
        web,
        found,
        "html-as-png",
        25,
        addressed("https://login.example/{n}.png"),
        _fixed(web, "image/png", page),
    )
    colours = ("#e4572e", "#17bebb", "#ffc914", "#76b041")
    link(
        web,
        found,
        "svg",
        40,
        addressed("https://vectors.example/{n}/{code}.svg"),
        lambda one, url, n: web.answer(url, 200, "image/svg+xml", pictures.svg(colours[n % 4])),
    )
    _broken_files(web, found)
    _odd_files(web, found)


def _fixed(web: Web, kind: str, body: bytes) -> Serve:
    return lambda one, url, n: web.answer(url, 200, kind, body)


def _image(one: Picture) -> Image.Image:
    return pictures.load(one.emoji.files[one.vendor])


def _broken_files(web: Web, found: list[Picture]) -> None:
    def cut(one: Picture, url: str, n: int) -> None:
        body = pictures.encode(_image(one), "jpg")
        half = body[: len(body) // 2]
        web.answer(url, 200, "image/jpeg", half, lost=len(body) - len(half) if n % 2 else 0)

    def noise(one: Picture, url: str, n: int) -> None:
        web.answer(url, 200, "image/jpeg", digest("noise", url, size=64) * 8)

    link(web, found, "truncated", 12, addressed("http://slowline.example/{n}/{code}.jpg"), cut)
    link(web, found, "noise", 6, addressed("http://slowline.example/noise/{n}.jpg"), noise)
    empty = "http://slowline.example/empty/{n}.gif"
    link(web, found, "empty-body", 6, addressed(empty), _fixed(web, "image/gif", b""))
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000), 1).save(bomb, "PNG", optimize=True)
    big = "https://ads.bannerworks.example/poster/{n}.png"
    link(web, found, "bomb", 2, addressed(big), _fixed(web, "image/png", bomb.getvalue()))


def _odd_files(web: Web, found: list[Picture]) -> None:
    def typed(kind: str) -> Serve:
        return lambda one, url, n: web.answer(url, 200, kind, web.responses[one.url].body)

    odd = "https://files.oddserver.example/{n}/{code}"
    link(web, found, "wrong-type", 12, addressed(odd + ".jpg"), typed("text/plain"))
    link(web, found, "wrong-type", 12, addressed(odd + ".webp"), typed("application/octet-stream"))
    link(web, found, "no-type", 6, addressed(odd), typed(""))

    def saved(mode: str, kind: str, **options: object) -> Serve:
        def serve(one: Picture, url: str, n: int) -> None:
            out = io.BytesIO()
            image = pictures.flat(_image(one)).convert(mode)
            image.save(out, kind, **options)
            web.answer(url, 200, f"image/{kind.lower()}", out.getvalue())

        return serve

    link(
        web, found, "cmyk-jpeg", 4, addressed(odd + "/cmyk.jpg"), saved("CMYK", "JPEG", quality=70)
    )
    link(web, found, "grey-jpeg", 6, addressed(odd + "/grey.jpg"), saved("L", "JPEG", quality=70))
    link(web, found, "bmp", 2, addressed(odd + "/w.bmp"), saved("P", "BMP"))

    def animated(one: Picture, url: str, n: int) -> None:
        out, image = io.BytesIO(), pictures.flat(_image(one)).quantize(16)
        image.save(out, "GIF", save_all=True, append_images=[image.rotate(20)], duration=200)
        web.answer(url, 200, "image/gif", out.getvalue())

    link(web, found, "animated-gif", 8, addressed(odd + "/spin.gif"), animated)
    host = "b\u00fccherei.example".encode("idna").decode()
    link(
        web,
        found,
        "idn-host",
        6,
        lambda one, n: f"http://b\u00fccherei.example/{n}/{one.emoji.code}.png",
        lambda one, url, n: serve_as_is(web, one, f"http://{host}/{n}/{one.emoji.code}.png"),
    )
