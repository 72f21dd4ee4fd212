"""How pages write an <img>: the attribute games of the real web, one writer per form.

A writer gets the address as the page spells it and the text, and gives HTML in which a careful
reader finds both again. What the text says is not known here.
"""

import html
from urllib.parse import quote, urljoin, urlsplit

from tools.miniweb.draw import pick, uniform

BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw=="
LAZY = ("data-src", "data-original", "data-lazy-src")


def spell(url: str, base: str, *key: object) -> str:
    """The address as an author would write it on a page at `base`: absolute or relative.

    Whatever is chosen, joining it to `base` gives `url` again.
    """
    if not url.startswith(("http://", "https://")) or len(url) > 2000:
        return url
    there, here = urlsplit(url), urlsplit(base)
    forms = [url, url]
    if there.scheme == here.scheme:
        forms.append("//" + url.split("//", 1)[1])
        if there.netloc == here.netloc:
            rooted = "/" + url.split("//", 1)[1].partition("/")[2]
            forms += [rooted, rooted, _climb(here.path, rooted)]
    wanted = pick(forms, "spell", *key)
    return wanted if urljoin(base, wanted) == url else url


def _climb(page: str, rooted: str) -> str:
    """The path relative to the page's folder, with ../ where needed."""
    folders, target = page.split("/")[1:-1], rooted.split("/")[1:]
    same = 0
    while same < min(len(folders), len(target) - 1) and folders[same] == target[same]:
        same += 1
    return "../" * (len(folders) - same) + "/".join(target[same:])


def _quoted(name: str, text: str | None, ready: bool) -> str:
    if text is None:
        return ""
    return f' {name}="{text if ready else html.escape(text)}"'


def image(src: str, text: str | None, form: str, ready: bool, *key: object) -> str:
    """The HTML of one image in one of the forms of `candidates.FORMS`."""
    address = html.escape(src)
    alt = _quoted("alt", text, ready)
    size = pick(("", "", ' width="64" height="64"', ' class="pic"', ' loading="lazy"'), *key)
    if form.startswith("lazy"):
        return _lazy(address, alt, form, key)
    if form in ("srcset", "srcset-only", "picture"):
        return _responsive(address, alt, form, key)
    if form == "figure":
        inner = text if ready else html.escape(text or "")
        return (
            f'<figure><img src="{address}" alt=""{size}><figcaption>{inner}</figcaption></figure>'
        )
    if form in ("title", "aria"):
        name = "title" if form == "title" else "aria-label"
        return f'<img src="{address}"{_quoted(name, text, ready)}{size}>'
    if form == "alt-and-title":
        return f'<img src="{address}"{alt} title="Click to enlarge"{size}>'
    if form == "plain-odd":
        return _odd(address, text, ready, key)
    return f'<img{size} src="{address}"{alt}>'


def _lazy(address: str, alt: str, form: str, key: tuple[object, ...]) -> str:
    name = pick(LAZY, "lazy", *key)
    blank = pick((f' src="{BLANK}"', ' src="/static/placeholder.gif"', ""), "blank", *key)
    written = f'<img class="lazyload"{blank} {name}="{address}"{alt}>'
    if form == "lazy-noscript":
        written += f'<noscript><img src="{address}"{alt}></noscript>'
    return written


def _responsive(address: str, alt: str, form: str, key: tuple[object, ...]) -> str:
    many = f"{address} 1x, {address} 2x" if uniform("2x", *key) < 0.5 else f"{address} 64w"
    many = many if "," not in address and " " not in address else address
    if form == "srcset-only":
        return f'<img srcset="{many}" sizes="64px"{alt}>'
    if form == "srcset":
        return f'<img src="{address}" srcset="{many}"{alt}>'
    source = f'<source type="image/webp" srcset="{address}">'
    return f'<picture>{source}<img src="{address}"{alt}></picture>'


def _odd(address: str, text: str | None, ready: bool, key: tuple[object, ...]) -> str:
    """Upper case, single quotes, no quotes, a line break inside the tag, XHTML."""
    alt = _quoted("alt", text, ready)
    ways = [
        f'<IMG SRC="{address}" BORDER=0{alt.replace(" alt=", " ALT=")}>',
        f'<img\n   src = "{address}"\n  {alt} />',
        f'<a href="#"><img src="{address}"{alt}/></a>',
    ]
    if text and "'" not in text and not ready and "<" not in text:
        ways.append(f"<img src='{address}' alt='{html.escape(text, quote=False)}'>")
    if text is not None and text.isascii() and text.isalpha():
        bare = quote(address, safe=":/?&=%;~.,_-#+")
        ways.append(f"<img alt={text} src={bare}>" if bare == address else ways[0])
    return pick(ways, "odd", *key)
