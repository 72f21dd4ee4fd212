"""The learning bench for a terminal: one line per lambda, and its differences to lambda 0."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def learning_tables(result: Mapping[str, Any]) -> list[Table]:
    """Means over seeds, then differences within seeds; scores with their 95 % intervals."""
    lambdas: Mapping[str, Mapping[str, Any]] = result["lambdas"]
    seeds = len(result["seeds"])
    values = _table(f"means of {seeds} seeds", lambdas)
    differences = _table("differences to lambda 0 of the same seed", lambdas)
    for name, row in lambdas.items():
        values.add_row(name, *[_cell(mean["value"], mean["interval"]) for mean in row.values()])
        if float(name):
            cells = [_cell(mean["more"], mean["more_interval"], "+") for mean in row.values()]
            differences.add_row(name, *cells)
    return [values, differences]


def _table(title: str, lambdas: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("lambda", *next(iter(lambdas.values()))):
        table.add_column(name, justify="right")
    return table


def _cell(value: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    """Scores in percent, readings as they are."""
    if interval is None:
        return f"{value:{sign}.3f}"
    low, high = (100 * bound for bound in interval)
    return f"{100 * value:{sign}.1f} % ({low:{sign}.1f} .. {high:{sign}.1f})"
