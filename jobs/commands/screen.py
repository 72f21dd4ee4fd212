"""Results as people read them in a terminal: plans, manifests, funnels and the life of a pair."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.report.rows import by_count
from pipeline.dataset.manifest import InputRef, Manifest
from pipeline.ledger.funnel import FunnelRow
from pipeline.ledger.why import Event, Life
from pipeline.plan import Step
from pipeline.store.refs import Ref
from pipeline.store.result import Result

WIDEST_VALUE = 100
DIGITS = 12
PIPE_COLUMNS = 160


def console() -> Console:
    """Standard output; a pipe has no width of its own, and 80 columns would fold every table."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)


def show(record: Any, rendered: Callable[[], RenderableType], as_json: bool) -> None:
    """Print a result: `record` as JSON, or what `rendered` makes of it for people."""
    if as_json:
        print(json.dumps(record, indent=1, default=_plain))
    else:
        console().print(rendered(), highlight=False)


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def plan(steps: Sequence[Step]) -> RenderableType:
    """A plan, one line per stage."""
    table = _table("stage", "what", "why", "key")
    for step in steps:
        table.add_row(step.node.name, step.action.value, step.why, (step.key or "")[:16])
    return table


def build(ref: Ref, datasets: Mapping[str, Result]) -> RenderableType:
    """A build, one line per stage."""
    table = _table("stage", ">rows in", ">kept", ">dropped", ">parts", "content", "folder")
    for name, dataset in datasets.items():
        manifest = dataset.manifest
        counts = (manifest.rows_in, manifest.rows_kept, manifest.rows_dropped, len(manifest.parts))
        numbers = [f"{count:,}" for count in counts]
        table.add_row(name, *numbers, manifest.content_digest[:12], dataset.folder)
    return Group(Text(ref.name, style="bold"), table)


def stage(dataset: Result) -> RenderableType:
    """One stage's manifest on one screen."""
    manifest = dataset.manifest
    files = [ref for part in manifest.parts for ref in part.files.values()]
    size = sum(ref.size_bytes for ref in files)
    schema = dataset.rows(0).schema if manifest.parts else ()
    facts = {
        "stage": f"{manifest.stage} v{manifest.stage_version}",
        "key": manifest.key,
        "content": manifest.content_digest,
        "folder": dataset.folder,
        "rows": f"{manifest.rows_in:,} in, {manifest.rows_kept:,} kept, "
        f"{manifest.rows_dropped:,} dropped",
        "parts": f"{len(manifest.parts):,} parts, {len(files):,} files, {size / 1e6:,.1f} MB",
        "params": _pairs(manifest.params),
        "inputs": _pairs({side: _input(ref) for side, ref in manifest.inputs.items()}),
        "dropped for": _pairs({name: f"{count:,}" for name, count in manifest.reasons.items()}),
        "columns": _pairs({field.name: str(field.type) for field in schema}),
        "made with": _pairs(manifest.provenance.get("versions", {})),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), value)
    return table


def _input(ref: InputRef) -> str:
    return f"{ref.name} {ref.digest[:DIGITS]}"


def funnel(rows: Sequence[FunnelRow]) -> RenderableType:
    """The funnel, with the reasons of every stage under it."""
    table = _table("stage", ">in", ">kept", ">of first", ">of input", "dropped for")
    for row in rows:
        table.add_row(
            row.stage,
            f"{row.rows_in:,}",
            f"{row.rows_kept:,}",
            f"{row.share_of_first:.1%}",
            f"{row.share_of_input:.1%}",
            _pairs({name: f"{count:,}" for name, count in by_count(row.reasons)}),
        )
    return table


def scores(results: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Evaluation results, one line per metric, with its interval."""
    table = _table("set", "metric", ">value", "95 % interval", ">chance", ">x chance", ">n")
    for result in results:
        for name, value in sorted(result["metrics"].items(), key=_by_cutoff):
            bounds = result["ci95"].get(name)
            chance = result.get("chance") if name == "acc1" else None
            table.add_row(
                result["dataset"],
                name,
                f"{value:.2%}",
                f"{bounds['low']:.2%} to {bounds['high']:.2%}" if bounds else "",
                f"{chance:.3%}" if chance else "",
                f"{value / chance:.1f}" if chance else "",
                f"{result['n']:,}",
            )
    return table


def lives(pairs: Sequence[Life], datasets: Mapping[str, Result]) -> RenderableType:
    """The life of each pair, one line per event; labels of reasons come from the manifests."""
    parts: list[RenderableType] = []
    for life in pairs:
        parts.append(Text(f"{life.url}\nuid {life.uid}", style="bold"))
        table = Table.grid(padding=(0, 2))
        for event in life.events:
            manifest = datasets[event.stage].manifest
            table.add_row(event.stage, _outcome(event), _story(event, manifest))
        parts += [table, Text(_ending(life), style="italic"), Text("")]
    return Group(*parts)


def _outcome(event: Event) -> Text:
    return Text("kept", style="green") if event.kept else Text("dropped", style="red")


def _story(event: Event, manifest: Manifest) -> Text:
    words = []
    if event.reason is not None:
        words.append(f"{event.reason}: {manifest.label(event.reason)}")
        facts = {"value": event.value, "threshold": event.threshold, "evidence": event.evidence}
        words += [f"{name} {_short(value)}" for name, value in facts.items() if value is not None]
    shown = {name: value for name, value in event.changes.items() if name not in ("uid", "url")}
    words += [f"{name}={_short(value)}" for name, value in shown.items()]
    return Text(", ".join(words))


def _ending(life: Life) -> str:
    last = life.events[-1]
    return f"{'still there after' if last.kept else 'gone since'} {last.stage}"


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= WIDEST_VALUE else text[: WIDEST_VALUE - 3] + "..."


def _by_cutoff(metric: tuple[str, float]) -> tuple[str, int]:
    """Sorts recall at 5 before recall at 10."""
    name, _, cutoff = metric[0].partition("@")
    return name, int(cutoff or 0)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value).strip(chr(39))}" for name, value in values.items())


def _table(*columns: str) -> Table:
    """A plain table; a column that begins with > is of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        number = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if number else "left")
    return table
