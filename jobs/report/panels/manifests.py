"""The manifests: every stage with what identifies it."""

import json

from jobs.report.charts import count
from jobs.report.page import Details, Panel, Table
from jobs.report.panels.timings import timed
from jobs.report.view import BuildView
from pipeline.dataset.manifest import Manifest

COLUMNS = ("stage", "version", "parts", "size", "key", "content")


def manifests_panel(view: BuildView) -> Panel:
    """Every stage with what identifies it: version, key, content, inputs and parameters."""
    rows, details = [], []
    for name, dataset in view.datasets.items():
        manifest = dataset.manifest
        rows.append(_cells(name, manifest))
        details.append(_details(name, manifest, view.upstreams.get(name)))
    table = timed(Table(COLUMNS, "lrrrcc", rows), list(view.datasets), view)
    return Panel("manifests", "Manifests", [table, *details])


def _cells(name: str, manifest: Manifest) -> list[str]:
    size = sum(ref.size_bytes for part in manifest.parts for ref in part.files.values())
    return [
        _named(name, manifest.stage),
        str(manifest.stage_version),
        f"{len(manifest.parts):,}",
        size_in_words(size),
        manifest.key,
        manifest.content_digest,
    ]


def _named(name: str, stage: str) -> str:
    return name if name == stage else f"{name} ({stage})"


def _details(name: str, manifest: Manifest, upstream: str | None) -> Details:
    """Parameters, inputs and the ledger's digest; `upstream` names the stage it took rows from."""
    rows = [
        ("parameter", field, json.dumps(value, sort_keys=True, ensure_ascii=False))
        for field, value in sorted(manifest.params.items())
    ]
    for side, source in sorted(manifest.inputs.items()):
        name = upstream if side == "upstream" and upstream else source.name
        rows.append(("input", side if name == side else f"{side} ({name})", source.digest))
    rows.append(("ledger", "", manifest.ledger_digest))
    table = Table(["", "name", "value"], "llc", rows)
    return Details(_named(name, manifest.stage), "", manifest.summary, [table])


def size_in_words(size: int) -> str:
    """Bytes for people: 812 B, 34.0 KB, 1.2 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{count(size)} B"
