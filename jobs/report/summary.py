"""What a build came to: the headline of its report, and the same numbers in plain values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jobs.report.charts import count, share
from jobs.report.page import Figure
from jobs.report.panels.evaluation import chance, interval, metric_in_words
from jobs.report.view import BuildView, Record


def headline(view: BuildView) -> list[Figure]:
    """The figures at the top of the page: pairs that came, stayed and were trained on, scores."""
    rows, model = view.funnel, view.training
    candidates = rows[0].rows_in if rows else 0
    figures = [Figure(count(candidates), "candidate pairs")]
    kept = view.kept
    if kept is not None:
        where = "pairs in shards" if kept.manifest.stage == "shard" else "pairs kept"
        number = kept.manifest.rows_kept
        figures.append(
            Figure(count(number), where, f"{share(number / max(1, candidates))} of candidates")
        )
    trained = view.last("train")
    if trained is not None and model is not None:
        number = trained.manifest.rows_kept
        rounds = f"{model['samples_seen'] / max(1, number):.1f} times each on average"
        figures.append(Figure(count(number), "pairs trained on", rounds))
    return [*figures, *_scores(view.scores)]


def _scores(results: Sequence[Record]) -> list[Figure]:
    """The first set's top-1, and R@10 both ways of the first retrieval set."""
    wanted = ("acc1", "image_retrieval_recall@10", "text_retrieval_recall@10")
    figures = []
    for metric in wanted:
        result = next((result for result in results if metric in result["metrics"]), None)
        if result is None:
            continue
        value, by_chance = result["metrics"][metric], chance(result, metric)
        times = f"{value / by_chance:.1f} x chance; " if by_chance else ""
        bounds = interval(result.get("ci95", {}).get(metric))
        label = f"{metric_in_words(metric)} on {result['dataset']}"
        figures.append(Figure(share(value), label, times + (f"95 %: {bounds}" if bounds else "")))
    return figures


def summary(view: BuildView) -> dict[str, Any]:
    """What the page says, in values that are plain JSON."""
    rows, counts = view.funnel, view.query_counts
    kept, trained = view.kept, view.last("train")
    digests = ("stage", "stage_version", "key", "content_digest", "ledger_digest")
    return {
        "name": view.name,
        "content": view.content,
        "candidates": rows[0].rows_in if rows else 0,
        "kept": kept.manifest.rows_kept if kept is not None else 0,
        "trained": trained.manifest.rows_kept if trained is not None else None,
        "funnel": [{**asdict(row), "reasons": dict(row.reasons)} for row in rows],
        "queries": counts.summary() if counts is not None else None,
        "training": _training(view.training),
        "evaluation": [_scored(result) for result in view.scores],
        "datasets": {
            name: {field: getattr(result.manifest, field) for field in digests}
            for name, result in view.datasets.items()
        },
    }


def _training(model: Record | None) -> dict[str, Any] | None:
    if model is None:
        return None
    last = model["metrics"][-1] if model["metrics"] else None
    return {name: model[name] for name in ("parameters", "samples_seen")} | {"last": last}


def _scored(result: Record) -> dict[str, Any]:
    fields = ("dataset", "task", "n", "metrics", "ci95", "chance")
    return {field: result[field] for field in fields if field in result}
