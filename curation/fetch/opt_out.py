"""Whether an answer's headers ask that its content not be used for training.

Reads `X-Robots-Tag` (for everybody, or for our own name) and TDMRep's `tdm-reservation`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

OPT_OUTS = frozenset({"noai", "noimageai", "none", "noindex", "noimageindex"})

_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
# A product name holds no spaces; the "25 Jun 2030 15" before the colon of a date does.
_BOT_NAME = re.compile(r"[A-Za-z*][\w.*/-]*")


def opt_out(headers: Mapping[str, Sequence[str]], bot: str) -> str | None:
    """The header that opts out, as text for evidence, or None. `headers` have lower-case names.

    `bot` is our product name: directives for another one's name are not for us.
    """
    for line in headers.get("x-robots-tag", ()):
        for name, directive in _directives(line):
            if directive in OPT_OUTS and name in ("*", bot.lower()):
                return f"x-robots-tag: {directive}"
    reserved = any(value.strip() == "1" for value in headers.get("tdm-reservation", ()))
    return "tdm-reservation: 1" if reserved else None


def _directives(line: str) -> Iterator[tuple[str, str]]:
    """(bot, directive) pairs in lower case; a bot's name holds for what follows it on its line."""
    bot = "*"
    for item in line.lower().split(","):
        head, colon, tail = (part.strip() for part in item.partition(":"))
        if colon and head not in _WITH_VALUE and _BOT_NAME.fullmatch(head):
            bot, head = head, tail.partition(":")[0].strip()
        yield bot, head
