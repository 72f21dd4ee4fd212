"""The page of columns: every one in the schema, and which stages add it."""

from collections.abc import Iterable, Sequence

from pipeline.dataset import schema
from pipeline.dataset.column import Column
from pipeline.stage import AnyStage
from tools.reference.markdown import code, codes, page, table

_INTRO = """Every column that a dataset may have. A stage declares the columns that it needs and
adds, a recipe is checked against them, and a manifest records those of its rows."""


def columns_page(stages: Sequence[AnyStage]) -> str:
    """One row per column, in the order of the schema; columns of the stages' own come last."""
    adders: dict[Column, list[str]] = {column: [] for column in _known()}
    for stage in stages:
        for column in stage.adds:
            adders.setdefault(column, []).append(stage.name)
    head = ("column", "type", "unit", "what it holds", "added by")
    return page("Columns", _INTRO, [table(head, map(_row, adders, adders.values()))])


def _known() -> Iterable[Column]:
    return [value for value in vars(schema).values() if isinstance(value, Column)]


def _row(column: Column, stages: Sequence[str]) -> tuple[str, ...]:
    return code(column.name), str(column.type), column.unit, column.about, codes(stages)
