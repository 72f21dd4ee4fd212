"""The panel on training: loss, scale and geometry over the steps, and the configuration.

Reads what training wrote; nothing is embedded again.
"""

import json
import math
from collections.abc import Sequence

from markupsafe import Markup

from jobs.report import charts
from jobs.report.charts import Axis, ReferenceLine, Series
from jobs.report.page import Charts, Figure, Figures, Panel, Table
from jobs.report.view import BuildView, Record

_STEP = Axis("step")


def training_panel(view: BuildView) -> Panel | None:
    """Loss, scale and cosines over the steps, and the configuration."""
    record = view.training
    if record is None:
        return None
    config = [(name, json.dumps(value)) for name, value in sorted(record["config"].items())]
    plots = _plots(record["metrics"], record["config"].get("batch_size"))
    table = Table(["setting", "value"], "lc", config)
    return Panel("training", "Training", [_figures(record), Charts(plots), table])


def _figures(record: Record) -> Figures:
    steps = max((row["step"] for row in record["metrics"]), default=0)
    return Figures(
        [
            Figure(charts.count(record["parameters"]), "parameters"),
            Figure(f"{steps:,}", "steps"),
            Figure(charts.count(record["samples_seen"]), "samples seen"),
        ]
    )


def _plots(metrics: Sequence[Record], batch: int | None) -> list[Markup]:
    chance = [ReferenceLine("chance: ln(batch size)", math.log(batch))] if batch else []
    return [
        charts.lines("Loss", [_over("loss", metrics)], _STEP, Axis("contrastive loss"), chance),
        charts.lines(
            "Cosines",
            [_over("positive_cosine", metrics, "of a pair"), _over("margin", metrics)],
            _STEP,
            Axis("cosine"),
        ),
        charts.lines(
            "Geometry",
            [
                _over("alignment", metrics),
                _over("uniformity", metrics),
                _over("modality_gap", metrics, "modality gap"),
            ],
            _STEP,
            Axis("of unit embeddings"),
        ),
        charts.lines("Logit scale", [_over("logit_scale", metrics)], _STEP, Axis("logit scale")),
        charts.lines("Gradient norm", [_over("grad_norm", metrics)], _STEP, Axis("norm")),
    ]


def _over(field: str, metrics: Sequence[Record], name: str = "") -> Series:
    known = [row for row in metrics if row.get(field) is not None]
    points = [(float(row["step"]), float(row[field])) for row in known]
    return Series(name or field, points)
