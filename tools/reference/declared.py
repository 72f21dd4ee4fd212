"""What a stage declares of its columns, files and sides.

The only module here that knows how a `Stage` spells its declarations.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.dataset.schema import Column
from pipeline.stage import Stage


@dataclass(frozen=True)
class SideText:
    """A further input: the input or stage that it is by default, and a sentence on it."""

    default: str
    about: str


@dataclass(frozen=True)
class Declared:
    """Columns that a stage needs and adds, suffixes of the files it writes, and its sides."""

    needs: tuple[Column, ...]
    adds: tuple[Column, ...]
    files: tuple[str, ...]
    sides: dict[str, SideText]


def declared(stage: Stage) -> Declared:
    """The declarations of one stage."""
    # On the branch that declares columns this is `stage.needs`, `stage.adds` and `stage.files`.
    values: dict[str, Any] = {name: getattr(stage, name, ()) for name in ("needs", "adds", "files")}
    return Declared(**values, sides={name: _side(spec) for name, spec in stage.sides.items()})


def _side(spec: Any) -> SideText:
    # On that branch a side is never a string.
    return SideText(spec, "") if isinstance(spec, str) else SideText(spec.default, spec.about)
