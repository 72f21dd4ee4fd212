"""The panel on columns: languages, hosts, lengths of captions and sizes of pictures.

Each is shown for the candidates and for what was kept of them, from the columns of both.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pyarrow.compute as pc
from markupsafe import Markup

from jobs.report import charts
from jobs.report.charts import Axis, Bar, ReferenceLine, Segment, share
from jobs.report.page import Charts, Panel
from jobs.report.rows import by_count, hosts, tables, tally
from jobs.report.view import BuildView
from pipeline.store.result import Result

TOP_LANGUAGES, TOP_HOSTS = 12, 15
_BINS = 40
_EVERY = ("parquet", "dropped")


def columns_panel(view: BuildView) -> Panel | None:
    """What the candidates were like, and what was kept of them."""
    makers = (_languages, _hosts, _caption_lengths, _picture_sizes)
    drawn = [chart for make in makers if (chart := make(view)) is not None]
    return Panel("columns", "What the pairs are like", [Charts(drawn)]) if drawn else None


def _languages(view: BuildView) -> Markup | None:
    dataset = view.last("language")
    if dataset is None:
        return None
    every = tally(table["language"] for table in tables(dataset, _EVERY, ["language"]))
    kept = tally(table["language"] for table in tables(dataset, ["parquet"], ["language"]))
    return _kept_of("Languages of captions, before the filter", every, kept, TOP_LANGUAGES)


def _hosts(view: BuildView) -> Markup | None:
    first, last = view.candidates, view.kept
    if first is None or last is None:
        return None
    every = tally(hosts(table["url"]) for table in tables(first, _EVERY, ["url"]))
    kept = tally(hosts(table["url"]) for table in tables(last, ["parquet"], ["url"]))
    return _kept_of("Hosts by candidates, and what was kept to the end", every, kept, TOP_HOSTS)


def _kept_of(title: str, every: Counter[str], kept: Counter[str], top: int) -> Markup | None:
    ranked = by_count(every)
    if not ranked:
        return None
    most, shown = ranked[0][1], [*ranked[:top]]
    if rest := ranked[top:]:
        title = f"{title} ({len(rest):,} more have {share(_total(rest) / every.total())})"
    rows = [
        Bar(
            name or "(unknown)",
            [
                Segment(kept[name] / most, "kept", f"kept: {kept[name]:,}"),
                Segment(
                    (number - kept[name]) / most, "choice2", f"dropped: {number - kept[name]:,}"
                ),
            ],
            f"{number:,}",
            f"{share(kept[name] / number)} kept",
        )
        for name, number in shown
    ]
    return charts.bars(title, rows, (("kept", "kept"), ("choice2", "dropped")))


def _total(items: Sequence[tuple[str, int]]) -> int:
    return sum(number for _, number in items)


def _caption_lengths(view: BuildView) -> Markup | None:
    first, last = view.candidates, view.kept
    if first is None or last is None:
        return None
    every, kept = _lengths(first, _EVERY), _lengths(last, ("parquet",))
    if not every:
        return None
    width = max(1, -(-_quantile(every, 0.98) // _BINS))
    edges = [float(width * number) for number in range(_BINS + 1)]
    beyond = sum(number for length, number in every.items() if length >= edges[-1]) / every.total()
    title = f"Length of captions ({share(beyond)} of candidates are longer)"
    heights = [("candidates", _binned(every, edges)), ("kept", _binned(kept, edges))]
    x, y = Axis("characters"), Axis("captions", percent=True)
    return charts.histogram(title, edges, heights, x, y)


def _lengths(dataset: Result, suffixes: Sequence[str]) -> Counter[int]:
    captions = (table["caption"] for table in tables(dataset, suffixes, ["caption"]))
    counts = tally(pc.fill_null(pc.utf8_length(column), 0) for column in captions)
    return counts


def _picture_sizes(view: BuildView) -> Markup | None:
    dataset = view.last("image-rules")
    if dataset is None:
        return None
    every, kept = _short_sides(dataset, _EVERY), _short_sides(dataset, ("parquet",))
    if not every:
        return None
    edges = [2.0 ** (power / 2) for power in range(2 * 3, 2 * 13 + 1)]
    while len(edges) > 2 and edges[-2] > max(every):
        edges.pop()
    heights = [
        ("measured", _binned(every, edges)),
        ("kept by the rules", _binned(kept, edges)),
    ]
    bound = dataset.manifest.params.get("min_side")
    rules = [ReferenceLine(f"min_side {bound}", float(bound), "x")] if bound else []
    x, y = Axis("pixels of the shorter side", log=True), Axis("pictures", percent=True)
    return charts.histogram("Size of pictures", edges, heights, x, y, rules)


def _short_sides(dataset: Result, suffixes: Sequence[str]) -> Counter[int]:
    sizes = tables(dataset, suffixes, ["width", "height"])
    short = (pc.min_element_wise(size["width"], size["height"]) for size in sizes)
    return tally(pc.drop_null(column) for column in short)


def _quantile(counts: Counter[int], wanted: float) -> int:
    passed, total = 0, counts.total()
    for value in sorted(counts):
        passed += counts[value]
        if passed >= wanted * total:
            break
    return value


def _binned(counts: Counter[int], edges: Sequence[float]) -> list[float]:
    """The share of all values in each bin; values outside all bins count towards the whole."""
    total = max(1, counts.total())
    pairs = pairwise(edges)
    return [sum(counts[v] for v in counts if low <= v < high) / total for low, high in pairs]
