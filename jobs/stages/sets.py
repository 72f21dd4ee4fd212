"""Evaluation sets that installed packages bring along.

A package names a folder in clip-benchmark's layout by the entry point `openwit.sets`: a path, or a
function that returns one. A recipe takes it as an input: `heldout: set:NAME`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from pipeline.dataset.errors import UserError

GROUP = "openwit.sets"
PREFIX = "set:"


def set_folder(name: str) -> Path:
    """The folder of an installed set; UserError if there is none, or it is no folder."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise UserError(f"{PREFIX}{name}: no installed package brings this set; there are: {known}")
    loaded = points[name].load()
    folder = Path(loaded() if callable(loaded) else loaded)
    if not folder.is_dir():
        raise UserError(f"{PREFIX}{name}: {folder} is no folder; mend {points[name].value}")
    return folder


def expanded(inputs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Input patterns of a recipe with the folders of installed sets in place of their names."""
    return {
        name: tuple(
            f"{set_folder(pattern.removeprefix(PREFIX))}/**"
            if pattern.startswith(PREFIX)
            else pattern
            for pattern in patterns
        )
        for name, patterns in inputs.items()
    }
