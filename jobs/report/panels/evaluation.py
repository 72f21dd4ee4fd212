"""The panel on evaluation: how the model does on held-out sets, and where it errs.

Reads what evaluation wrote; nothing is scored again.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.charts import share
from jobs.report.page import Heading, Panel, Piece, Table, Text
from jobs.report.view import BuildView, Record

WORST = 12
CLASSES = 6


def evaluation_panel(view: BuildView) -> Panel | None:
    """Every metric with its interval and chance, then each set's classes and worst errors."""
    if not view.scores:
        return None
    rows = [row for result in view.scores for row in _metric_rows(result)]
    columns = ["set", "metric", "score", "95 % interval", "of", "chance", "times chance"]
    pieces: list[Piece] = [Table(columns, "llrrrrr", rows)]
    evaluated = view.last("evaluate")
    outcomes = evaluated.table() if evaluated is not None else pa.table({})
    if "set" in outcomes.column_names and "prediction" in outcomes.column_names:
        for result in view.scores:
            pieces += _errors(result, outcomes) if "acc1" in result["metrics"] else []
    return Panel("evaluation", "Evaluation", pieces)


def _metric_rows(result: Record) -> list[list[str]]:
    rows = []
    for name, value in result["metrics"].items():
        bounds = result.get("ci95", {}).get(name)
        by_chance = chance(result, name)
        rows.append(
            [
                result["dataset"],
                metric_in_words(name),
                share(value),
                interval(bounds),
                f"{bounds['n']:,}" if bounds else "",
                share(by_chance) if by_chance else "",
                f"{value / by_chance:.1f}" if by_chance else "",
            ]
        )
    return rows


def interval(bounds: Record | None) -> str:
    """An interval in words."""
    return f"{share(bounds['low'])} to {share(bounds['high'])}" if bounds else ""


def metric_in_words(name: str) -> str:
    """clip-benchmark's name of a metric as people say it."""
    direction, _, top = name.partition("_retrieval_recall@")
    if top:
        return f"{'text to image' if direction == 'image' else 'image to text'}, R@{top}"
    words = {"acc1": "top-1", "acc5": "top-5", "mean_per_class_recall": "mean recall of a class"}
    return words.get(name, name)


def chance(result: Record, metric: str) -> float | None:
    """What guessing would score, None where that is not known exactly."""
    base: float | None = result.get("chance")
    if base:
        return min(1.0, base * {"acc5": 5}.get(metric, 1))
    _, _, top = metric.partition("_retrieval_recall@")
    asked = {bounds["n"] for bounds in result.get("ci95", {}).values()}
    # With one caption per picture, guessing k of n finds the right one with probability k / n.
    return min(1.0, int(top) / result["n"]) if top and asked == {result["n"]} else None


def _errors(result: Record, outcomes: pa.Table) -> list[Piece]:
    # clip-benchmark's folders are called wds_ and the name of the set.
    folders = pa.array([result["dataset"], f"wds_{result['dataset']}"], pa.string())
    of_set = pc.and_(pc.is_in(outcomes["set"], folders), pc.is_valid(outcomes["prediction"]))
    rows = outcomes.filter(of_set).to_pylist()
    if not rows:
        return []
    classes = result.get("classes")
    pieces: list[Piece] = [Heading(str(result["dataset"])), _class_table(rows, classes)]
    return pieces + _surest_errors(rows, classes)


def _surest_errors(rows: Sequence[Record], classes: Sequence[str] | None) -> list[Piece]:
    wrong = [row for row in rows if not row["correct"] and row["margin"] is not None]
    if not wrong:
        return []
    wrong.sort(key=lambda row: (row["margin"], row["sample_id"]))
    cells = [
        [
            row["sample_id"],
            _class(classes, row["label"]),
            _class(classes, row["prediction"]),
            f"{row['rank'] + 1:,}",
            f"{row['margin']:.3f}",
        ]
        for row in wrong[:WORST]
    ]
    shown = f"The surest errors, {len(cells)} of {len(wrong):,}:"
    columns = ["sample", "is", "was taken for", "place of the truth", "margin"]
    return [Text(shown), Table(columns, "cllrr", cells)]


def _class_table(rows: Sequence[Record], classes: Sequence[str] | None) -> Table:
    labels = np.array([row["label"] for row in rows])
    correct = np.array([row["correct"] for row in rows], bool)
    recall = {int(label): float(correct[labels == label].mean()) for label in np.unique(labels)}
    ranked = sorted(recall, key=lambda label: (-recall[label], label))
    shown = ranked if len(ranked) <= 2 * CLASSES else [*ranked[:CLASSES], *ranked[-CLASSES:]]
    cells = [
        [
            _class(classes, label),
            f"{int(correct[labels == label].sum()):,} of {int((labels == label).sum()):,}",
            share(recall[label]),
            _confused(rows, classes, label),
        ]
        for label in shown
    ]
    title = "class" if shown is ranked else f"best and worst {CLASSES} of {len(ranked):,} classes"
    return Table([title, "correct", "recall", "most taken for"], "lrrl", cells)


def _confused(rows: Sequence[Record], classes: Sequence[str] | None, label: int) -> str:
    wrong = [row["prediction"] for row in rows if row["label"] == label and not row["correct"]]
    if not wrong:
        return ""
    most = min(set(wrong), key=lambda each: (-wrong.count(each), each))
    return f"{_class(classes, most)} ({wrong.count(most):,})"


def _class(classes: Sequence[str] | None, label: int) -> str:
    if label < 0:
        return "nothing: not decodable"
    return classes[label] if classes is not None and label < len(classes) else f"class {label}"
