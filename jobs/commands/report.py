"""`openwit report`: the page of a build."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from jobs.commands import screen
from jobs.commands.options import Json, Ref, StorePath
from jobs.commands.resolve import find_target
from jobs.report import compose
from pipeline.ledger.lineage import wiring


def report(
    ref: Ref = None,
    *,
    out: Path = Path("report.html"),
    queries: Path | None = None,
    store: StorePath = None,
    json_: Annotated[Json, Parameter(help="Print the summary as JSON.")] = False,
) -> None:
    """Write the page of a build: what was kept, what went and why, with pictures and timings.

    Parameters
    ----------
    out
        The HTML file to write; it opens from disk and loads nothing.
    queries
        The query list, to show queries by their words.
    """
    target = find_target(ref, store)
    datasets = target.datasets
    words = tuple(queries.read_text(encoding="utf-8").splitlines()) if queries else None
    timings = {name: dataset.seconds() for name, dataset in datasets.items()}
    page = compose.render(target.ref.name, datasets, wiring(datasets), words, timings)
    out.write_text(page.html, encoding="utf-8")
    screen.show(page.summary, lambda: Text(str(out)), json_)
