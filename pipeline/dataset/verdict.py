"""Verdicts: what a rule says of each row, kept or dropped for a reason.

A rule never filters and never raises on bad data. It returns its rows with one more column,
`verdict`, which is null where the row is kept and otherwise holds the reason, the value that
decided, the bound that it was held against, and a word of evidence.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

VERDICT = pa.struct(
    [
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("evidence", pa.string()),
    ]
)

LEDGER_FIELDS = tuple(VERDICT.names)
"""The columns that a dropped row has beside its own."""
RESERVED = frozenset({"verdict", *LEDGER_FIELDS})
"""Names that no stage may give to a column of its own."""

Mask = npt.NDArray[np.bool_]
Values = Sequence[float | None] | npt.NDArray[np.generic] | float | None
Texts = Sequence[str | None] | npt.NDArray[np.object_] | str | None


class Reason(StrEnum):
    """A closed list of reasons, one subclass per stage: `NAME = value, label, hint, damage`.

    `label` is what a report prints, `hint` what a person could do about it, and `damage` is true
    where a row is lost through a fault (undecodable, timed out) and not turned away by choice.
    """

    label: str
    hint: str
    damage: bool

    def __new__(cls, value: str, label: str, hint: str = "", damage: bool = False) -> Self:
        """Make a member whose string value is `value`."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.label, member.hint, member.damage = label, hint, damage
        return member


class Judge:
    """Collects the verdicts of one table; the first reason that a row gets stands."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        rows = table.num_rows
        self._kept = np.ones(rows, dtype=bool)
        self._reason = np.full(rows, None, dtype=object)
        self._value = np.full(rows, np.nan)
        self._threshold = np.full(rows, np.nan)
        self._evidence = np.full(rows, None, dtype=object)

    @property
    def kept(self) -> Mask:
        """Rows with no reason so far, shape (rows,)."""
        return self._kept.copy()

    def drop(
        self,
        where: Mask,
        reason: Reason,
        value: Values = None,
        threshold: Values = None,
        evidence: Texts = None,
    ) -> None:
        """Give `reason` to the rows of the mask that have none yet.

        The mask has one entry per row of the table; `value`, `threshold` and `evidence` are scalars
        or have as many.
        """
        rows = np.flatnonzero(np.asarray(where, dtype=bool) & self._kept)
        self._kept[rows] = False
        self._reason[rows] = reason.value
        _fill(self._value, rows, value)
        _fill(self._threshold, rows, threshold)
        _fill(self._evidence, rows, evidence)

    def table(self) -> pa.Table:
        """The table that was judged, with its `verdict` column (type `VERDICT`)."""
        return self._table.append_column("verdict", self._column())

    def _column(self) -> pa.StructArray:
        fields = [
            pa.array(self._reason, pa.string()),
            pa.array(self._value, pa.float64(), mask=np.isnan(self._value)),
            pa.array(self._threshold, pa.float64(), mask=np.isnan(self._threshold)),
            pa.array(self._evidence, pa.string()),
        ]
        return pa.StructArray.from_arrays(fields, fields=list(VERDICT), mask=pa.array(self._kept))


def _fill(
    target: npt.NDArray[np.generic], rows: npt.NDArray[np.intp], source: Values | Texts
) -> None:
    if source is None:
        return
    if isinstance(source, (str, int, float, np.number)):
        target[rows] = source
    else:
        target[rows] = np.asarray(source, dtype=target.dtype)[rows]
