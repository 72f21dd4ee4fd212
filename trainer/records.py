"""Frozen records of settings: values of the declared types, read from JSON, documented by field.

The standard library does what pydantic would: a machine that trains has torch and little else.
"""

import ast
import inspect
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Self, get_args, get_type_hints

from trainer.errors import ConfigError


class Record:
    """The base of frozen dataclasses whose fields hold JSON values."""

    def check(self, least: Mapping[str, float]) -> None:
        """ConfigError on a field of another type, not finite, or below its bound in `least`."""
        hints = get_type_hints(type(self))
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            _check_type(field.name, value, hints[field.name])
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{field.name}: {value} is no finite number")
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ConfigError(f"{name}: {value} is less than {bound:g}")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """From JSON's object; ConfigError names fields that are unknown or missing."""
        known = {field.name for field in _fields(cls)}
        if unknown := sorted(set(record) - known):
            raise ConfigError(f"unknown fields {unknown}; the fields are {sorted(known)}")
        if missing := sorted(known - cls.defaults().keys() - set(record)):
            raise ConfigError(f"fields {missing} are required")
        return cls(**record)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of each field that has one."""
        return {field.name: field.default for field in _fields(cls) if field.default is not MISSING}


@cache
def field_docs(record: type) -> dict[str, str]:
    """The text under each field of a record, for those that have one; inherited ones too."""
    docs: dict[str, str] = {}
    for base in reversed(record.__mro__):
        if is_dataclass(base):
            docs |= _own_docs(base)
    return docs


def field_help(record: type) -> str:
    """One line per field, required ones first: name, default and documentation."""
    docs, lines = field_docs(record), []
    for field in sorted(_fields(record), key=lambda field: field.default is not MISSING):
        default = "required" if field.default is MISSING else repr(field.default)
        lines.append(f"  {field.name} ({default})  {docs.get(field.name, '')}".rstrip())
    return "\n".join(lines)


def _own_docs(record: type) -> dict[str, str]:
    body = ast.parse(inspect.getsource(record)).body[0]
    docs: dict[str, str] = {}
    name = ""
    for node in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            docs[name] = " ".join(str(node.value.value).split())
    return docs


def _fields(record: Any) -> tuple[Field[Any], ...]:
    return fields(record)


def _check_type(name: str, value: object, hint: Any) -> None:
    kinds = get_args(hint) or (hint,)
    if all(isinstance(kind, str) for kind in kinds):
        if value not in kinds:
            raise ConfigError(f"{name}: {value!r} is none of {', '.join(kinds)}")
        return
    if type(value) is int and float in kinds:
        return
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds).replace("NoneType", "null")
        raise ConfigError(f"{name}: {value!r} is not a value of type {names}")
