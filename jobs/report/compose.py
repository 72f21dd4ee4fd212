"""The report of a build: one HTML page and one JSON summary, functions of what the store holds.

Chooses the panels; each leaves itself out where a build has nothing to say in it. How a page looks
is `jobs.report.page`'s affair. No clock and no host enters: the same content gives the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.report.page import Panel, ReportPage
from jobs.report.page import render as render_page
from jobs.report.panels.columns import columns_panel
from jobs.report.panels.dropped import dropped_panel
from jobs.report.panels.duplicates import duplicates_panel
from jobs.report.panels.evaluation import evaluation_panel
from jobs.report.panels.funnel import funnel_panel
from jobs.report.panels.kept import kept_panel
from jobs.report.panels.manifests import manifests_panel
from jobs.report.panels.queries import queries_panel
from jobs.report.panels.training import training_panel
from jobs.report.summary import headline, summary
from jobs.report.view import BuildView
from pipeline.ledger.funnel import funnel
from pipeline.store.refs import Ref
from pipeline.store.result import Result

PANELS: tuple[Callable[[BuildView], Panel | None], ...] = (
    funnel_panel,
    dropped_panel,
    kept_panel,
    duplicates_panel,
    queries_panel,
    columns_panel,
    training_panel,
    evaluation_panel,
    manifests_panel,
)
"""In the order of the page."""


@dataclass(frozen=True)
class Report:
    """A page as HTML, and the same numbers in plain values."""

    html: str = field(repr=False)
    summary: Mapping[str, Any]


def render(
    name: str,
    datasets: Mapping[str, Result],
    upstreams: Mapping[str, str],
    queries: Sequence[str] | None,
    timings: Mapping[str, float] | None = None,
) -> Report:
    """The report of the finished stages of a build, by name and in order.

    `upstreams` says where each stage took its rows from, `queries` what query ids stand for,
    `timings` the seconds of each stage (left out of a stage's own report, which must not depend on
    a clock). Raises StageFailed if rows do not add up.
    """
    ref = Ref(name, {stage: result.folder for stage, result in datasets.items()})
    store = next(iter(datasets.values())).store
    view = BuildView(name, datasets, funnel(ref, store), upstreams, queries, timings)
    page = ReportPage(
        title=name,
        identity=[("content", view.content)],
        figures=headline(view),
        panels=[panel for make in PANELS if (panel := make(view)) is not None],
    )
    return Report(render_page(page), summary(view))
