"""The page on which a build is looked at: one HTML file that opens from disk and loads nothing.

A page is made of panels, and panels of typed pieces (text, figures, tables, charts, cards). What
they show is decided in `jobs.report.panels`. The same pieces give the same bytes.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_UNPRINTABLE = {
    code: "\ufffd"
    for code in (*range(9), 11, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000))
}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a panel."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Figure:
    """A number that stands for itself: in words, what it counts, what to compare it with."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Table:
    """Rows of cells; `align` has one letter per column: l(eft), r(ight, numbers) or c(ode)."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Charts:
    """Charts side by side, made by `jobs.report.charts`."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Markup]


@dataclass(frozen=True)
class Card:
    """One row of data: its text, named facts, its uid in hex, and a JPEG if it has a picture.

    `blank` says why there is no picture; without it no room is left for one.
    """

    text: str
    facts: Sequence[tuple[str, str]] = ()
    uid: str = ""
    picture: bytes | None = field(default=None, repr=False)
    blank: str = ""
    mark: str = ""
    """A word set above the text: what sets this card apart from its neighbours."""

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.picture or b'').decode()}"


@dataclass(frozen=True)
class Cards:
    """Cards side by side; `small` ones show a picture and its text."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]
    small: bool = False


@dataclass(frozen=True)
class Details:
    """Pieces behind a line that opens them (HTML's <details>); `tag` is set apart in that line."""

    kind: ClassVar[str] = "details"
    title: str
    value: str
    note: str
    pieces: Sequence["Piece"]
    tag: str = ""
    opened: bool = False


Piece = Text | Heading | Figures | Table | Charts | Cards | Details


@dataclass(frozen=True)
class Panel:
    """A section of the page; `name` is its anchor."""

    name: str
    title: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class ReportPage:
    """A report: its title, what identifies the build, its headline figures and its panels."""

    title: str
    identity: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    panels: Sequence[Panel]


def render(page: ReportPage) -> str:
    """The page as one HTML document; texts are escaped and control characters made visible."""
    environment = Environment(
        loader=PackageLoader("jobs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html").render(page=page)
    return html.translate(_UNPRINTABLE)
