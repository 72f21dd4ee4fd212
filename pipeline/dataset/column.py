"""A column as a stage declares it: its name, type, unit and a sentence on it.

Tables get their columns through `put`, so that a stage that runs again replaces its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column: what it is called, how it is stored, what it holds and in which unit."""

    name: str
    type: pa.DataType
    about: str
    unit: str = ""

    @property
    def field(self) -> pa.Field:
        """The same as Arrow has it."""
        return pa.field(self.name, self.type)

    def as_json(self) -> dict[str, str]:
        """The same in plain values, as manifests record it."""
        return {
            "name": self.name,
            "type": str(self.type),
            "unit": self.unit,
            "about": self.about,
        }


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """The columns as an Arrow schema, in order."""
    return pa.schema([column.field for column in columns])


def put(table: pa.Table, values: Mapping[Column, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """The table with these columns; one that it has already is replaced where it stands.

    So a stage that runs a second time leaves one column of each name. Raises TypeError where values
    are not of the column's type.
    """
    for column, array in values.items():
        if array.type != column.type:
            raise TypeError(f"column {column.name} is of {column.type}, not of {array.type}")
        place = table.schema.get_field_index(column.name)
        if place < 0:
            table = table.append_column(column.field, array)
        else:
            table = table.set_column(place, column.field, array)
    return table
