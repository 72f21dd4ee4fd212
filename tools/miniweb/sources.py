"""The real material: emoji of three vendors with their names in many languages, and clip art.

It reads the unpacked packages as their publishers ship them and refuses to know what is made of
them. Licences: Noto Emoji images Apache-2.0, Twemoji graphics CC BY 4.0, OpenMoji CC BY-SA 4.0,
CLDR annotations Unicode License V3, Open Clip Art Library public domain.
"""

import html
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_LANGUAGES = (
    "ar bg bn ca cs da de el es et fa fi fr he hi hr hu hy id it ja ka ko lt lv mk mr ms nl no "
    "pl pt ro ru sk sl sr sv sw ta te th tr uk ur vi zh"
)
LANGUAGES = _LANGUAGES.split()
"""CLDR locales whose captions appear in the mini-web."""

TONES = {
    "1F3FB": "light skin tone",
    "1F3FC": "medium-light skin tone",
    "1F3FD": "medium skin tone",
    "1F3FE": "medium-dark skin tone",
    "1F3FF": "dark skin tone",
}

_CLIPART_FOLDERS = (
    "animals buildings containers decorations education electronics food geography/astronomy "
    "office plants recreation/games recreation/holiday recreation/music recreation/party "
    "recreation/sports recreation/toys science tools transportation"
)
CLIPART_FOLDERS = _CLIPART_FOLDERS.split()
"""Folders without logos, portraits of real people or political signs."""

PUBLIC_DOMAIN = "http://web.resource.org/cc/PublicDomain"


@dataclass(frozen=True)
class Emoji:
    """One base emoji: `code` is its unqualified hex name, `files` the vendors' 64 px PNGs."""

    code: str
    text: str
    name: str
    keywords: tuple[str, ...]
    category: str
    subcategory: str
    files: dict[str, Path]
    variants: tuple[tuple[str, dict[str, Path]], ...]
    names: dict[str, str]
    """Short name by language, without English."""
    words: dict[str, tuple[str, ...]]
    """Keywords by language, without English."""


@dataclass(frozen=True)
class Clipart:
    """One picture of the Open Clip Art Library with its own title and tags."""

    slug: str
    title: str
    tags: tuple[str, ...]
    folder: str
    file: Path


@dataclass(frozen=True)
class Annotations:
    """CLDR short names and keywords of one locale, by emoji without variation selectors."""

    path: Path

    @cached_property
    def table(self) -> dict[str, dict[str, list[str]]]:
        """The locale's annotations as CLDR ships them."""
        raw = json.loads(self.path.read_text("utf-8"))["annotations"]["annotations"]
        return {text.replace("\ufe0f", ""): entry for text, entry in raw.items()}

    def name(self, text: str) -> str:
        """The short name ("" if the locale has none)."""
        return (self.table.get(text.replace("\ufe0f", ""), {}).get("tts") or [""])[0]

    def words(self, text: str) -> tuple[str, ...]:
        """The keywords, in CLDR's order."""
        return tuple(self.table.get(text.replace("\ufe0f", ""), {}).get("default") or ())


def annotations(cldr: Path, language: str) -> Annotations:
    """The annotations of one locale of cldr-annotations-full."""
    return Annotations(cldr / "annotations" / language / "annotations.json")


def _spoken(name: str, category: str) -> str:
    """emoji-datasource's name as people say it, for the sequences that CLDR leaves derived."""
    if category == "Flags" and name.endswith(" Flag"):
        return "flag of " + name.removesuffix(" Flag")
    return re.sub(r"\s+", " ", name.lower().replace(":", " "))


def _vendor_files(folders: dict[str, Path], image: str) -> dict[str, Path]:
    paths = {vendor: root / "img" / vendor / "64" / image for vendor, root in folders.items()}
    return {vendor: path for vendor, path in paths.items() if path.exists()}


def _variants(
    entry: dict[str, object], name: str, folders: dict[str, Path]
) -> Iterator[tuple[str, dict[str, Path]]]:
    variations = entry.get("skin_variations")
    if not isinstance(variations, dict):
        return
    for tone, variation in sorted(variations.items()):
        if tone in TONES:
            yield f"{name}: {TONES[tone]}", _vendor_files(folders, variation["image"])


def load_emoji(google: Path, twitter: Path, cldr: Path) -> list[Emoji]:
    """All base emoji that both vendors draw, in Unicode's order, with unique English names."""
    folders = {"google": google, "twitter": twitter}
    entries = json.loads((google / "emoji.json").read_text("utf-8"))
    english = annotations(cldr, "en")
    others = {language: annotations(cldr, language) for language in LANGUAGES}
    found: dict[str, Emoji] = {}
    for entry in sorted(entries, key=lambda entry: entry["sort_order"]):
        text = "".join(chr(int(part, 16)) for part in entry["unified"].split("-"))
        name = english.name(text) or _spoken(entry["name"], entry["category"])
        files = _vendor_files(folders, entry["image"])
        if entry["category"] == "Component" or len(files) < 2 or name in found:
            continue
        found[name] = Emoji(
            code=entry["unified"].replace("-FE0F", "").lower(),
            text=text,
            name=name,
            keywords=english.words(text) or tuple(entry["short_name"].split("_")),
            category=entry["category"],
            subcategory=entry["subcategory"],
            files=files,
            variants=tuple(_variants(entry, name, folders)),
            names={key: table.name(text) for key, table in others.items() if table.name(text)},
            words={key: table.words(text) for key, table in others.items() if table.words(text)},
        )
    return list(found.values())


OTHERS_MARKS = re.compile(
    r"porcinet|winnie|pokemon|mario|disney|mickey|simpson|garfield|snoopy|lego|toyota|ferrari|"
    r"porsche|volkswagen|bmw|honda|subaru|ford|nintendo|playstation|coca|pepsi|cola|symbol|theme|"
    r"hang|gallows|ammo|bullet|icons?$|clip ?art|roadsign|"
    r"swastika|nazi|nude|gun|rifle|pistol|cigar|marijuana",
    re.IGNORECASE,
)
"""Titles left out: other people's marks, series names that name no picture, touchy matter."""

IDLE_TAGS = {"hash", "unsorted", "architetto francesco rollandin"}


def _clean_title(title: str) -> str:
    title = html.unescape(title).replace("_", " ")
    title = re.sub(r"(Architetto|Francesco|Rollandin)\b", " ", title)
    return re.sub(r"\s+", " ", title).strip()


def _modest(png: Path, longest: int = 3000) -> bool:
    """Whether the file is there and a PNG of at most `longest` pixels per side."""
    if not png.exists():
        return False
    with png.open("rb") as opened:
        header = opened.read(24)
    return header[:4] == b"\x89PNG" and max(struct.unpack(">II", header[16:24])) <= longest


def load_clipart(root: Path) -> list[Clipart]:
    """Public-domain pictures with a title of letters, one per title, sorted by path.

    `root` is the folder that holds openclipart's `svg` (metadata) and `png` (pixels).
    """
    found: dict[str, Clipart] = {}
    for folder in CLIPART_FOLDERS:
        for svg in sorted((root / "svg" / folder).rglob("*.svg")):
            text = svg.read_text("utf-8", errors="replace")
            head = text[: text.find("</metadata>")]
            title = _clean_title("".join(re.findall(r"<dc:title>([^<]*)", head)[:1]))
            inner = svg.relative_to(root / "svg")
            png = (root / "png" / inner).with_suffix(".png")
            plain = re.fullmatch(r"[A-Za-z][A-Za-z ,'-]{3,50}", title)
            tags = [tag.strip() for tag in re.findall(r"<rdf:li>([^<]*)", head)]
            marked = OTHERS_MARKS.search(title) or {"logo", "kawai", "mascot"} & set(tags)
            if PUBLIC_DOMAIN not in head or not plain or marked or not _modest(png):
                continue
            tags = [tag for tag in tags if re.fullmatch("[a-z ]+", tag) and tag not in IDLE_TAGS]
            found.setdefault(
                title.lower(),
                Clipart(
                    slug=svg.stem.lower(),
                    title=title,
                    tags=tuple(dict.fromkeys(tags)),
                    folder=inner.parts[0],
                    file=png,
                ),
            )
    return list(found.values())
