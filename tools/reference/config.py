"""The page of a training run's file: the fields of `TrainConfig` and `RunConfig`."""

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

from tools.reference.markdown import as_type, as_value, code, page, table
from trainer.config import RunConfig, TrainConfig
from trainer.records import field_docs

_INTRO = """The fields of the one file that `python -m trainer.train CONFIG.json` reads, beside
`dataset`, `workdir` and `start` (`python -m trainer.train --help`). In a recipe, the first group
are parameters of the stage `train`, and the second stand under `execution`."""


def config_page() -> str:
    """Both records, field by field."""
    parts = []
    for record, title in ((TrainConfig, "What is trained"), (RunConfig, "How it is run")):
        about = (record.__doc__ or "").strip()
        head = ("field", "type", "default", "what it says")
        parts += [f"## {title}", about, table(head, _rows(record))]
    return page("Training configuration", _INTRO, parts)


def _rows(record: Any) -> Iterator[tuple[str, str, str, str]]:
    hints, docs = get_type_hints(record), field_docs(record)
    for field in fields(record):
        kind = as_type(hints[field.name])
        yield code(field.name), kind, _default(field), docs.get(field.name, "")


def _default(field: Field[Any]) -> str:
    return "required" if field.default is MISSING else code(as_value(field.default))
