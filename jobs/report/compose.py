"""The report of a build: one HTML page and one JSON summary, functions of what the store holds.

Chooses the panels that a build has something to say in and knows what their numbers mean; how a
page looks is `jobs.report.page`'s affair. No clock and no host enters: the same content gives the
same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jobs.report.charts import count, share
from jobs.report.page import Figure, Page, Panel, Report, funnel_panel, manifest_panel
from jobs.report.page import render as render_page
from jobs.report.panels import model as model_panels
from jobs.report.panels.columns import columns_panel
from jobs.report.panels.pairs import dropped_panel, duplicates_panel, kept_panel
from jobs.report.panels.queries import QueryCounts, queries_panel, query_counts
from jobs.report.rows import Build, Pictures
from pipeline.dataset.manifest import digest_of
from pipeline.ledger.funnel import FunnelRow, funnel
from pipeline.stage import Stage
from pipeline.store.refs import Ref
from pipeline.store.result import Result

__all__ = ["Report", "render"]


def render(
    name: str,
    datasets: Mapping[str, Result],
    upstreams: Mapping[str, str],
    queries: Sequence[str] | None,
    catalogue: Mapping[str, Stage],
    timings: Mapping[str, float] | None = None,
) -> Report:
    """The report of the finished stages of a build, by name and in order.

    `upstreams` tells where each stage took its rows from, `queries` what query ids stand for,
    `timings` seconds a stage (left out of a stage's own report, which must not depend on a clock).
    Stages that a build lacks leave their panels out. Raises StageFailed if rows do not add up.
    """
    ref = Ref(name, {each: dataset.folder for each, dataset in datasets.items()})
    store = next(iter(datasets.values())).store
    rows = funnel(ref, store)
    build = Build(datasets, [row.stage for row in rows], queries, catalogue)
    counts, model = query_counts(build), model_panels.training(build)
    results = model_panels.results(build)
    panels = [
        funnel_panel(rows, build.stages, timings),
        *_pair_panels(build),
        queries_panel(counts, queries) if counts is not None else None,
        columns_panel(build),
        model_panels.training_panel(model) if model is not None else None,
        model_panels.evaluation_panel(build, results) if results else None,
        manifest_panel(datasets, build.stages, upstreams, timings),
    ]
    page = Page(
        title=name,
        identity=[("content", _identity(datasets))],
        figures=_headline(build, rows, model, results),
        panels=[panel for panel in panels if panel is not None],
    )
    return Report(render_page(page), _summary(name, build, rows, counts, model, results))


def _pair_panels(build: Build) -> list[Panel | None]:
    pictures = Pictures(build.last("fetch"))
    return [
        dropped_panel(build, pictures),
        kept_panel(build, pictures),
        duplicates_panel(build, pictures),
    ]


def _identity(datasets: Mapping[str, Result]) -> str:
    return digest_of([f"{name} {dataset.content}" for name, dataset in datasets.items()])


def _headline(
    build: Build,
    rows: Sequence[FunnelRow],
    model: Mapping[str, Any] | None,
    results: Sequence[Mapping[str, Any]],
) -> list[Figure]:
    candidates = rows[0].rows_in if rows else 0
    figures = [Figure(count(candidates), "candidate pairs")]
    kept = build.kept
    if kept is not None:
        where = "pairs in shards" if kept.manifest.stage == "shard" else "pairs kept"
        number = kept.manifest.rows_kept
        figures.append(
            Figure(count(number), where, f"{share(number / max(1, candidates))} of candidates")
        )
    trained = build.last("train")
    if trained is not None and model is not None:
        number = trained.manifest.rows_kept
        rounds = f"{model['samples_seen'] / max(1, number):.1f} times each on average"
        figures.append(Figure(count(number), "pairs trained on", rounds))
    return [*figures, *_scores(results)]


def _scores(results: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The first set's top-1, and R@10 both ways of the first retrieval set."""
    wanted = ("acc1", "image_retrieval_recall@10", "text_retrieval_recall@10")
    figures = []
    for metric in wanted:
        result = next((each for each in results if metric in each["metrics"]), None)
        if result is None:
            continue
        value, by_chance = result["metrics"][metric], model_panels.chance(result, metric)
        times = f"{value / by_chance:.1f} x chance; " if by_chance else ""
        bounds = model_panels.interval(result.get("ci95", {}).get(metric))
        label = f"{model_panels.metric_in_words(metric)} on {result['dataset']}"
        figures.append(Figure(share(value), label, times + (f"95 %: {bounds}" if bounds else "")))
    return figures


def _summary(
    name: str,
    build: Build,
    rows: Sequence[FunnelRow],
    counts: QueryCounts | None,
    model: Mapping[str, Any] | None,
    results: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    kept, trained = build.kept, build.last("train")
    manifests = {each: dataset.manifest for each, dataset in build.datasets.items()}
    digests = ("stage", "version", "key", "content", "ledger")
    return {
        "name": name,
        "content": _identity(build.datasets),
        "candidates": rows[0].rows_in if rows else 0,
        "kept": kept.manifest.rows_kept if kept is not None else 0,
        "trained": trained.manifest.rows_kept if trained is not None else None,
        "funnel": [{**asdict(row), "reasons": dict(row.reasons)} for row in rows],
        "queries": counts.summary() if counts is not None else None,
        "training": _training(model),
        "evaluation": [_scored(result) for result in results],
        "datasets": {
            each: {field: getattr(manifest, field) for field in digests}
            for each, manifest in manifests.items()
        },
    }


def _training(model: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if model is None:
        return None
    last = model["metrics"][-1] if model["metrics"] else None
    return {name: model[name] for name in ("parameters", "samples_seen")} | {"last": last}


def _scored(result: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("dataset", "task", "n", "metrics", "ci95", "chance")
    return {field: result[field] for field in fields if field in result}
