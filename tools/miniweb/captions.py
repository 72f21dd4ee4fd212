"""The texts of the mini-web: natural alt texts in many wordings, and the ways the web spoils them.

Every function takes the real names and a key and gives one text; the same key gives the same text.
Where the text ends up in a page is not known here.
"""

import json
from pathlib import Path

from tools.miniweb.draw import below, pick, pick_weighted, sample, uniform
from tools.miniweb.sources import Clipart, Emoji

VENDOR_STYLE = {"google": "Noto", "twitter": "Twemoji"}

NAMED = (
    "A colourful illustration of {a_name}",
    "A small drawing of {a_name} on a white background",
    "{Name} - cute sticker for your laptop",
    "{Name} sticker, waterproof vinyl, made to last",
    "{Name} icon in colour, free download",
    "Free {name} clipart for teachers",
    "Flat vector icon showing {a_name}",
    "{Name} emoji, as it looks on my phone",
    "This is the {name} emoji, used for {keyword}",
    "{Name} symbol from the {category} set",
    "{Name} | emoji meaning and pictures",
    "What is the {name} emoji used for?",
    "The meaning of the {name} emoji and how to use it",
    "Buy the {name} patch, iron on, 5 cm",
    "{Name} flash card for the classroom",
    "Cartoon {name} with thick outlines",
    "I sent her the {name} emoji yesterday",
    "{Name} reaction image",
    "Emoticon of {a_name} for chat and messages",
    "Cartoon picture of {a_name}, isolated on white",
    "Look at this little {name}!",
    "An emoji icon that shows {a_name} in full colour",
    "Free clip art of {a_name} for teachers and students",
    "Here is the {name} emoji",
    "A picture of {a_name} that you can print",
    "Download this {name} icon for free",
    "A free icon that shows {a_name}",
    "Small icon of {a_name} in the {style} drawing style",
    "{Name}, hand drawn and ready to print",
    "{Name} from the new {category} set",
    "Sticker with {a_name} on it",
    "My favourite emoji is the {name}",
    "Clip art of {a_name} for your school project",
    "Drawing of {a_name}",
    "Illustration of {a_name}",
    "Worksheet picture: {name}, {keyword}",
)
"""Alt texts with the emoji's name, long enough for a language to show."""

SHORT = (
    "{name}",
    "{Name}",
    "{Name} emoji",
    "{Name} emoji, {style} style",
    "{Name} ({keywords})",
    "{Name}: {keywords}",
    "{Name} icon",
    "{Name} clip art",
    "Picture of {a_name}",
    "Cute {name} sticker",
    "{category} emoji: {name}",
    "{style} emoji of {a_name}",
)
"""Alt texts with the name and little else, of which language guessers make anything."""

UNNAMED = (
    "Emoji for {keywords}",
    "A sticker about {keyword} and {keyword2}",
    "Icon for {keyword}, {keyword2} and more",
    "One of the {category} emoji",
)

GENERIC = (
    "Emoji icon",
    "People emoji icon with {tone}",
    "Cute face icon with clip art of people",
    "Emoji of a person with {tone}",
    "Hand and face icons, free to download and use",
    "An icon of a person with {tone}",
    "Free emoji icon set: people and hands",
    "Emoji icon from the people set, free to download",
)

CLIPART = (
    "{Title} clip art",
    "{Title}",
    "Clip art of {a_title}",
    "{Title} - public domain clip art",
    "Free clip art: {title}",
    "{Title} ({tags}) clip art picture",
    "Drawing of {a_title} for your school project",
    "An old illustration of {a_title} from the {folder} folder",
    "{Title}, free picture for {tags}",
)

_BOILERPLATE = (
    "logo, image, photo, Logo, Image, picture, banner, icon, thumbnail, spacer, avatar, arrow, "
    "loading, star, click to enlarge, Click here to view larger image, image not available, "
    "Photo by author, No alt text provided for this image, Profile picture, site logo, Facebook "
    "share icon, Previous, Next page, Read more, Close menu, placeholder image, Image may "
    "contain: text, related posts thumbnail, Your browser does not support images, "
    "advertisement, user avatar, cart, RSS feed"
)
BOILERPLATE = _BOILERPLATE.split(", ")

_STUFFING = (
    "cheap free best buy download online png svg jpg vector icon icons emoji emojis clipart hd "
    "4k wallpaper sticker stickers sale discount top 2026 new cute funny"
)
STUFFING = _STUFFING.split()

PHRASES = json.loads(Path(__file__).with_name("phrases.json").read_text("utf-8"))
"""By language: the title of its pages ("" for the site's own) and caption templates."""


def article(name: str) -> str:
    """The name with the article that English wants before it."""
    bare = name.startswith(("flag of", "keycap", "men ", "women ", "people ")) or name.endswith("s")
    if bare or name[:1].isupper():
        return name
    return ("an " if name[:1].lower() in "aeiou" else "a ") + name


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def english(emoji: Emoji, vendor: str, *key: object) -> str:
    """An English alt text; all but one in twenty contain the emoji's name."""
    words = [word for word in emoji.keywords if word.isalpha()] or [emoji.name]
    keywords = sample(words, 4, "keywords", *key)
    shares = {NAMED: 0.83, SHORT: 0.12, UNNAMED: 0.05}
    templates = pick_weighted(shares, "named", *key)
    return pick(templates, "template", *key).format(
        name=emoji.name,
        Name=_capital(emoji.name),
        a_name=article(emoji.name),
        style=VENDOR_STYLE[vendor],
        category=emoji.category.replace("&", "and"),
        keyword=keywords[0],
        keyword2=keywords[-1],
        keywords=", ".join(keywords),
    )


def generic(variant_name: str, *key: object) -> str:
    """A caption that thousands of pictures share: only the head of the query list matches it."""
    tone = variant_name.rpartition(": ")[2]
    return pick(GENERIC, "generic", *key).format(tone=tone)


def clipart(picture: Clipart, *key: object) -> str:
    """An English caption around the artist's own title and tags."""
    title = picture.title[:1].lower() + picture.title[1:]
    tags = sample(picture.tags or (picture.folder,), 3, "tags", *key)
    return pick(CLIPART, "clipart", *key).format(
        Title=_capital(picture.title),
        title=title,
        a_title=article(title),
        tags=", ".join(tags),
        folder=picture.folder,
    )


def foreign(emoji: Emoji, language: str, *key: object) -> str:
    """The name in another language: bare, in a phrase, or with its keywords."""
    name, words = emoji.names[language], emoji.words.get(language, ())
    draw = uniform("foreign", *key)
    if language in PHRASES and draw < 0.5:
        return str(pick(PHRASES[language]["captions"], "phrase", *key)).format(name=name)
    if words and draw < 0.85:
        return f"{name}, {', '.join(sample(words, 4, 'words', *key))}"
    return f"{name} emoji" if draw < 0.9 else name


def mojibake(text: str, times: int = 1) -> str:
    """UTF-8 read as cp1252, as often as asked; bytes that cp1252 lacks come through as C1."""
    for _ in range(times):
        data = text.encode("utf-8")
        text = "".join(
            bytes([byte]).decode("cp1252") if _in_cp1252(byte) else chr(byte) for byte in data
        )
    return text


def _in_cp1252(byte: int) -> bool:
    return byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)


def curly(emoji: Emoji, *key: object) -> str:
    """An English caption with typographic marks, the part of English that mojibake spoils."""
    return pick(
        (
            "The \u201c{name}\u201d emoji \u2013 it\u2019s cute",
            "{Name} \u2013 this year\u2019s favourite sticker",
            "Caf\u00e9 sign with the \u201c{name}\u201d picture",
            "{Name} emoji\u2026 what\u2019s it for?",
            "{Name} sticker \u2014 only 2 \u20ac",
        ),
        "curly",
        *key,
    ).format(name=emoji.name, Name=_capital(emoji.name))


def file_name(emoji: Emoji, *key: object) -> str:
    """An alt that is a file's or a camera's name."""
    number = below(9000, "file", *key) + 1000
    return pick(
        (
            f"IMG_{number}.jpg",
            f"{emoji.code}.png",
            f"DSC0{number}.JPG",
            f"image{number}.png",
            f"screenshot_2026-04-{number % 28 + 1:02d}.png",
            f"{emoji.name.replace(' ', '_')}_{number}x{number}.png",
            f"DSCN{number}",
            f"{number}",
        ),
        "form",
        *key,
    )


def stuffed(emoji: Emoji, *key: object) -> str:
    """Keywords for search engines instead of a caption."""
    words = [*emoji.name.split(), *emoji.keywords, *STUFFING]
    count = 25 + below(60, "count", *key)
    return " ".join(pick(words, "stuffed", i, *key) for i in range(count))


def contact(emoji: Emoji, *key: object) -> str:
    """An alt that holds an address."""
    slug = emoji.name.replace(" ", "-")
    return pick(
        (
            f"http://www.best-free-icons.example/{slug}.html",
            f"{emoji.name} by www.pixelpub.example",
            f"Mail to webmaster@hillside-school.example for the {emoji.name} picture",
            f"https://fastpix.example/d?i={slug}&ref=alt",
            f"{emoji.name} picture (c) anna.miller@oldhomepage.example",
        ),
        "contact",
        *key,
    )


def odd(emoji: Emoji, *key: object) -> str:
    """Too short, too long, repeated or without letters."""
    return pick(
        (
            "x",
            "-",
            "...",
            "!!!!!!!!!!!!!!",
            emoji.text,
            emoji.text * 6,
            "a b",
            "12345 67890",
            "haha " * 40,
            f"{emoji.name} " * 30,
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            f"{emoji.name.upper()}!!! {emoji.name.upper()}!!!",
            "&nbsp;",
            "   ",
            f"{article(emoji.name)} and then " * 60,
        ),
        "odd",
        *key,
    )
