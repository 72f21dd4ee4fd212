"""The text of a recipe: YAML, read strictly, that knows on which line each field stands.

What the fields mean is not decided here; an error names file, line, field, value and what would be
allowed.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import RecipeError

Model = TypeVar("Model", bound=BaseModel)


class RecipeFile:
    """The text of a recipe: knows on which line a field stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            self.content = yaml.safe_load(self._text)
            self._tree = yaml.compose(self._text)
        except FileNotFoundError:
            raise RecipeError(f"{path}: there is no such recipe; check the path") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        self._refuse_repeated_keys(self._tree, ())

    def error(self, field: tuple[str | int, ...], what: str) -> RecipeError:
        """An error at a field, with its line."""
        where = ".".join(str(step) for step in field) or "the recipe"
        return RecipeError(f"{self.path}:{self._line(field)}: {where}: {what}")

    def validated(self, model: type[Model], value: Any, field: tuple[str | int, ...]) -> Model:
        """`value` as `model`, or the first error in words."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise self.error((*field, *first["loc"]), _in_words(first, model)) from None

    def _line(self, field: tuple[str | int, ...]) -> int:
        node, line = self._tree, 1
        for step in field:
            if isinstance(node, yaml.MappingNode):
                entries = [(key, value) for key, value in node.value if key.value == str(step)]
                if not entries:
                    break
                key, node = entries[0]
                line = key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def _refuse_repeated_keys(self, node: Any, field: tuple[str | int, ...]) -> None:
        """YAML keeps the last of two equal keys silently; a stage would vanish unnoticed."""
        if not isinstance(node, yaml.MappingNode):
            return
        keys: set[str] = set()
        for key, value in node.value:
            if key.value in keys:
                what = (
                    f"{key.value} stands here twice; give the second stage another name with `use`"
                )
                raise RecipeError(f"{self.path}:{key.start_mark.line + 1}: {what}")
            keys.add(key.value)
            self._refuse_repeated_keys(value, (*field, key.value))


def _in_words(error: Any, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"no such field; {allowed(str(error['loc'][-1]), sorted(model.model_fields))}"
    if error["type"] == "value_error":  # a check of a whole stage, which names the field itself
        return str(error["ctx"]["error"])
    value = repr(error["input"])
    shown = "" if error["type"] == "missing" else f" (given: {value[:80]})"
    return f"{error['msg']}{shown}"


def allowed(given: str, names: list[str]) -> str:
    """What a mistaken name may have meant, and what there is."""
    close = difflib.get_close_matches(given, names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}allowed: {', '.join(names) or 'none'}"
