"""The query list of the mini-web: what captions are matched against, as in CLIP's 500K queries.

Names, keywords and titles of the pictures, the words inside them, and common English words of
which most match nothing. All lower case, sorted, each once.
"""

import re
from collections.abc import Iterable, Iterator

from tools.miniweb.sources import Clipart, Emoji

HEAD = (
    "emoji",
    "emojis",
    "icon",
    "face",
    "flag",
    "clip art",
    "clipart",
    "sticker",
    "illustration",
    "drawing",
    "picture",
    "free download",
    "white background",
    "skin tone",
    "emoji icon",
    "public domain",
)
"""Queries that match thousands of captions, so that balancing has something to do."""

WORD = re.compile(r"[^\W\d_](?:[\w'-]*\w)?", re.UNICODE)


def queries(emoji: list[Emoji], clipart: list[Clipart], words: Iterable[str]) -> list[str]:
    """The sorted list; `words` are the common words to add."""
    texts = {*HEAD, *(str(number) for number in range(100))}
    for text in _texts(emoji, clipart):
        whole = " ".join(text.lower().split())
        texts.add(whole)
        texts.update(word for word in WORD.findall(whole) if len(word) > 1)
    texts.update(word.strip().lower() for word in words)
    return sorted(text for text in texts if 2 <= len(text) <= 60 or text.isdigit())


def _texts(emoji: list[Emoji], clipart: list[Clipart]) -> Iterator[str]:
    for one in emoji:
        yield from (one.name, one.category.replace("&", "and"), *one.keywords)
    for picture in clipart:
        yield from (picture.title, *picture.tags)
