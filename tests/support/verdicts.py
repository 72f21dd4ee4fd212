"""Verdicts for tests: stages over a few captions, and what they said of each row."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from pipeline.dataset.params import Params

P = TypeVar("P", bound=Params)
Verdict = dict[str, Any]


class JudgesCaptions(Protocol):
    """A stage of captions, given as texts, with its parameters by name."""

    def __call__(self, *texts: str | None, **params: Any) -> pa.Table:
        """The stage's table."""


def on_captions(stage: Callable[[pa.Table, P], pa.Table], params: type[P]) -> JudgesCaptions:
    """The stage over captions in a table that numbers its rows in the column `row`."""

    def judged(*texts: str | None, **fields: Any) -> pa.Table:
        table = pa.table({"row": range(len(texts)), "caption": pa.array(texts, pa.string())})
        return stage(table, params(**fields))

    return judged


def verdicts(table: pa.Table) -> list[Verdict | None]:
    """The verdict of every row, None where it is kept."""
    values: list[Verdict | None] = table["verdict"].to_pylist()
    return values


def only_verdict(table: pa.Table) -> Verdict | None:
    """The verdict of a table's only row."""
    [verdict] = verdicts(table)
    return verdict


def dropped(table: pa.Table) -> list[Verdict]:
    """The verdicts of the rows that are not kept."""
    return [verdict for verdict in verdicts(table) if verdict]


def reasons(table: pa.Table) -> list[str | None]:
    """The reason of every row, None where it is kept."""
    return [verdict["reason"] if verdict else None for verdict in verdicts(table)]


def uid(number: int) -> bytes:
    """A uid that sorts as its number does."""
    return number.to_bytes(16, "big")
