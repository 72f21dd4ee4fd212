"""The panel on queries: how often each one occurs before and after balancing.

Counts are the count stage's own, and of the rows that later stages kept; nothing is matched again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from markupsafe import Markup

from jobs.report import charts
from jobs.report.charts import Axis, Rule, Series, share
from jobs.report.page import Charts, Figure, Figures, Panel, Table
from jobs.report.rows import Build, tables
from pipeline.store.result import Result

Counts = npt.NDArray[np.int64]

TOP = 20
_RANKS = 120


@dataclass(frozen=True)
class QueryCounts:
    """Pairs of each query, shape (queries,), where they were counted; `t` is balancing's cap."""

    matched: Counts
    after: Mapping[str, Counts]
    t: int | None

    @property
    def head(self) -> npt.NDArray[np.bool_]:
        """The queries with more pairs than the cap."""
        return self.matched > (self.t if self.t is not None else np.iinfo(np.int64).max)

    def summary(self) -> dict[str, Any]:
        """The same in plain numbers."""
        series = {"matched": self.matched, **self.after}
        return {
            "queries": len(self.matched),
            "t": self.t,
            "head_queries": int(self.head.sum()),
            "with_pairs": {name: int((counts > 0).sum()) for name, counts in series.items()},
            "head_share": {name: self.head_share(counts) for name, counts in series.items()},
        }

    def head_share(self, counts: Counts) -> float:
        """The share of matches that fall to the head."""
        return float(counts[self.head].sum() / max(1, counts.sum()))


def query_counts(build: Build) -> QueryCounts | None:
    """The counts of a build, None if it counts no queries."""
    counted = build.last("count")
    if counted is None:
        return None
    matched = counted.table(["count"])["count"].to_numpy().astype(np.int64)
    balanced, shards = build.last("balance"), build.last("shard")
    after = {}
    if balanced is not None:
        after["balanced"] = _recount(balanced, len(matched))
    if shards is not None:
        after["in shards"] = _recount(shards, len(matched))
    t = balanced.manifest.params.get("t") if balanced is not None else None
    return QueryCounts(matched, after, t)


def _recount(dataset: Result, num_queries: int) -> Counts:
    counts = np.zeros(num_queries, np.int64)
    for table in tables(dataset, ["parquet"], ["query_ids"]):
        ids = pc.list_flatten(table["query_ids"]).to_numpy()
        counts += np.bincount(ids, minlength=num_queries)
    return counts


def queries_panel(counts: QueryCounts, queries: Sequence[str] | None) -> Panel:
    """Figures, the rank/count plot and the most frequent queries."""
    series = [Series(name, _ranked(each)) for name, each in _named(counts)]
    rules = [Rule(f"t = {counts.t:,}", counts.t)] if counts.t is not None else []
    x, y = Axis("rank of the query", log=True), Axis("pairs of the query", log=True)
    plot = charts.lines("Pairs of each query, the most frequent first", series, x, y, rules)
    return Panel(
        "queries",
        "Queries",
        [_figures(counts), Charts([plot, _mass(counts)]), _top(counts, queries)],
    )


def _named(counts: QueryCounts) -> list[tuple[str, Counts]]:
    return [("matched", counts.matched), *counts.after.items()]


def _ranked(counts: Counts) -> list[tuple[float, float]]:
    """Counts above 0 from the largest."""
    ordered = np.sort(counts[counts > 0])[::-1]
    return [(float(rank), float(ordered[rank - 1])) for rank in _ranks(len(ordered))]


def _mass(counts: QueryCounts) -> Markup:
    """The share of all matches that the most frequent queries hold together."""
    series = []
    for name, each in _named(counts):
        passed = np.sort(each[each > 0])[::-1].cumsum()
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
        Figure(f"{int((each > 0).sum()):,}", f"queries {_with(name)}", f"of {total:,}")
        for name, each in _named(counts)
    ]
    if counts.t is not None:
        shares = (f"{name} {share(counts.head_share(each))}" for name, each in _named(counts))
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
    rows = [
        [
            names[number] if names else f"query {number}",
            *(f"{int(each[number]):,}" for _, each in _named(counts)),
        ]
        for number in order
        if counts.matched[number]
    ]
    columns = ["most frequent queries", *(name for name, _ in _named(counts))]
    return Table(columns, "l" + "r" * (len(columns) - 1), rows)
