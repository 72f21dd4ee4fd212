"""How often each query occurs among the pairs, before and after balancing.

Counts are the count stage's own, and of the rows that later stages kept; nothing is matched again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from jobs.report.rows import tables
from pipeline.store.result import Result

Counts = npt.NDArray[np.int64]


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

    def series(self) -> dict[str, Counts]:
        """The counts by where they were counted."""
        return {"matched": self.matched, **self.after}

    def summary(self) -> dict[str, Any]:
        """The same in plain numbers."""
        return {
            "queries": len(self.matched),
            "t": self.t,
            "head_queries": int(self.head.sum()),
            "with_pairs": {name: int((counts > 0).sum()) for name, counts in self.series().items()},
            "head_share": {name: self.head_share(counts) for name, counts in self.series().items()},
        }

    def head_share(self, counts: Counts) -> float:
        """The share of matches that fall to the head."""
        return float(counts[self.head].sum() / max(1, counts.sum()))


def query_counts(counted: Result, balanced: Result | None, shards: Result | None) -> QueryCounts:
    """The count stage's own counts, and those of the rows that later stages kept."""
    matched = counted.table(["count"])["count"].to_numpy().astype(np.int64)
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
