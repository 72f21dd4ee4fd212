"""Queries: counts before and after balancing."""

import numpy as np
import numpy.typing as npt

from tests.support.reports import QUERIES, ReportedBuild


def test_queries_are_counted_again_from_the_rows_that_were_kept(built: ReportedBuild) -> None:
    def recounted(name: str) -> npt.NDArray[np.int64]:
        flat = [n for ids in built.datasets[name].table()["query_ids"].to_pylist() for n in ids]
        return np.bincount(flat, minlength=len(QUERIES))

    matched, balanced = recounted("match"), recounted("balance")
    head = matched > 40
    summary = built.report.summary["queries"]
    assert summary["t"] == 40
    assert summary["head_queries"] == head.sum()
    assert summary["with_pairs"]["matched"] == (matched > 0).sum() == 4
    assert summary["head_share"]["matched"] == matched[head].sum() / matched.sum()
    assert summary["head_share"]["balanced"] == balanced[head].sum() / balanced.sum()
    assert balanced.sum() < matched.sum()
