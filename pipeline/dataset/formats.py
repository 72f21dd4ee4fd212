"""The picture formats that datasets hold: their names, and the suffixes of their files.

Every list of formats or suffixes elsewhere is derived from this table.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureFormat:
    """A format by its name in lower case (Pillow's is the same in upper case)."""

    name: str
    suffixes: tuple[str, ...]
    """What files of the format end in, without the dot; the first is canonical."""

    @property
    def suffix(self) -> str:
        """The suffix that files are written under."""
        return self.suffixes[0]


WEB_FORMATS = (
    PictureFormat("jpeg", ("jpg", "jpeg")),
    PictureFormat("png", ("png",)),
    PictureFormat("webp", ("webp",)),
    PictureFormat("gif", ("gif",)),
)
"""What pages show in all browsers: what is fetched from the web unless a recipe asks for less."""

PICTURE_FORMATS = (
    *WEB_FORMATS,
    PictureFormat("bmp", ("bmp",)),
    PictureFormat("tiff", ("tif", "tiff")),
)
"""What datasets that others built may hold besides, and what training and evaluation decode."""

PICTURE_SUFFIXES = tuple(suffix for format in PICTURE_FORMATS for suffix in format.suffixes)
"""The suffixes of all formats; of several pictures in one sample the first in this order counts."""
