"""The panel on queries: how often each one occurs before and after balancing."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from jobs.report import charts
from jobs.report.charts import Axis, ReferenceLine, Series, share
from jobs.report.counts import Counts, QueryCounts
from jobs.report.page import Charts, Figure, Figures, Panel, Table
from jobs.report.view import BuildView

TOP = 20
_RANKS = 120


def queries_panel(view: BuildView) -> Panel | None:
    """Figures, the rank/count plot and the most frequent queries."""
    counts = view.query_counts
    if counts is None:
        return None
    series = [Series(name, _ranked(numbers)) for name, numbers in counts.series().items()]
    rules = [ReferenceLine(f"t = {counts.t:,}", counts.t)] if counts.t is not None else []
    x, y = Axis("rank of the query", log=True), Axis("pairs of the query", log=True)
    plot = charts.lines("Pairs of each query, the most frequent first", series, x, y, rules)
    return Panel(
        "queries",
        "Queries",
        [_figures(counts), Charts([plot, _mass(counts)]), _top(counts, view.queries)],
    )


def _ranked(counts: Counts) -> list[tuple[float, float]]:
    """Counts above 0 from the largest."""
    ordered = np.sort(counts[counts > 0])[::-1]
    return [(float(rank), float(ordered[rank - 1])) for rank in _ranks(len(ordered))]


def _mass(counts: QueryCounts) -> Markup:
    """The share of all matches that the most frequent queries hold together."""
    series = []
    for name, numbers in counts.series().items():
        passed = np.sort(numbers[numbers > 0])[::-1].cumsum()
        ranks = _ranks(len(passed))
        line = [(float(rank), float(passed[rank - 1] / passed[-1])) for rank in ranks]
        series.append(Series(name, line))
    x, y = Axis("most frequent queries", log=True), Axis("matches", zero=True, percent=True)
    return charts.lines("Matches that the most frequent queries hold together", series, x, y)


def _ranks(queries: int) -> list[int]:
    """Ranks that are evenly spaced on a logarithmic axis."""
    if not queries:
        return []
    ranks: list[int] = np.unique(np.geomspace(1, queries, _RANKS).round().astype(int)).tolist()
    return ranks


def _figures(counts: QueryCounts) -> Figures:
    total = len(counts.matched)
    figures = [
        Figure(f"{int((numbers > 0).sum()):,}", f"queries {_with(name)}", f"of {total:,}")
        for name, numbers in counts.series().items()
    ]
    if counts.t is not None:
        shares = (
            f"{name} {share(counts.head_share(numbers))}"
            for name, numbers in counts.series().items()
        )
        note = f"of all matches: {', '.join(shares)}"
        figures.append(
            Figure(f"{int(counts.head.sum()):,}", f"queries above t = {counts.t:,}", note)
        )
    return Figures(figures)


def _with(name: str) -> str:
    return {"matched": "with a match", "balanced": "left after balancing"}.get(name, name)


def _top(counts: QueryCounts, queries: Sequence[str] | None) -> Table:
    order = np.argsort(-counts.matched, kind="stable")[:TOP].tolist()
    names = queries if queries is not None and len(queries) == len(counts.matched) else None
    series = counts.series()
    rows = [
        [
            names[query] if names else f"query {query}",
            *(f"{int(numbers[query]):,}" for numbers in series.values()),
        ]
        for query in order
        if counts.matched[query]
    ]
    columns = ["most frequent queries", *series]
    return Table(columns, "l" + "r" * len(series), rows)
