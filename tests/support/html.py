"""Pages as tests look at them: their tags, attributes, texts and pictures."""

import base64
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Start tags with their attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Document(HTMLParser):
    """A page as text, and by panel: its text, its pictures; plus every tag and attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.panels: dict[str, str] = {"": ""}
        self.pictures: dict[str, list[bytes]] = {}
        self._panel = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        values = {name: value or "" for name, value in attrs}
        if tag == "section":
            self._panel = values["id"]
            self.panels[self._panel] = ""
        if tag == "img":
            data = base64.b64decode(values["src"].split(",", 1)[1])
            self.pictures.setdefault(self._panel, []).append(data)

    def handle_data(self, data: str) -> None:
        self.panels[self._panel] += data + "\n"
