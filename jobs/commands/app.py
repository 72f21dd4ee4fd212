"""The `openwit` command: plan, run, show, explain. Every command has --json and an exit code.

Exit codes: 0 done, 1 something for the user to mend, 2 finished with losses over budget, 3 a
defect of ours, 130 interrupted.
"""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs import build
from jobs.commands import screen
from jobs.commands.convert import convert
from jobs.commands.resolve import find
from jobs.report import compose
from jobs.stages.catalogue import CATALOGUE
from pipeline import plan as plans
from pipeline.dataset.errors import Exit, OpenwitError
from pipeline.ledger.funnel import funnel as count_funnel
from pipeline.ledger.lineage import wiring
from pipeline.ledger.why import why as lives_of
from pipeline.store import gc
from pipeline.store.objects import Store

Json = Annotated[bool, Parameter(name="--json", negative=())]
app = App(
    name="openwit",
    help="The open, explainable way to build CLIP: from web crawl to trained and evaluated model.",
    version_flags=["--version"],
    result_action="return_value",
)
app.command(build.run, name="run")
app.command(convert, name="convert")


@app.command
def plan(
    recipe: Path,
    *,
    store: str | None = None,
    overrides: build.Overrides = (),
    json_: Json = False,
) -> None:
    """Show what `run` would do, stage by stage, and why; changes nothing.

    Parameters
    ----------
    recipe
        The recipe, a YAML file.
    store
        The store to compare with; the recipe's own by default.
    overrides
        How a stage would run, as STAGE.FIELD=VALUE.
    json_
        Print JSON.
    """
    loaded = build.load_recipe(recipe, overrides)
    steps = plans.make(loaded, build.open_store(loaded, store))
    fields = ("action", "why", "key", "folder")
    record = [
        {"stage": step.node.name} | {name: getattr(step, name) for name in fields} for step in steps
    ]
    _print(record, lambda: screen.plan(steps), json_)


@app.command
def show(ref: str | None = None, *, store: str | None = None, json_: Json = False) -> None:
    """Show a build, or one stage of it, on one screen.

    Parameters
    ----------
    ref
        NAME, NAME/STAGE or a recipe; the only build there is by default.
    store
        The store to look in; runs/*/store by default.
    json_
        Print the manifests as JSON.
    """
    found = find(ref, store)
    datasets = found.ref.datasets(found.store)
    if found.stage is None:
        record: Any = {name: asdict(dataset.manifest) for name, dataset in datasets.items()}
        _print(record, lambda: screen.build(found.ref, datasets), json_)
    else:
        record = asdict(found.dataset.manifest)
        _print(record, lambda: screen.stage(found.dataset), json_)


@app.command
def funnel(ref: str | None = None, *, store: str | None = None, json_: Json = False) -> None:
    """Count pairs from the first candidate to the last stage, and why the others went.

    Parameters
    ----------
    ref
        NAME or a recipe; the only build there is by default.
    store
        The store to look in; runs/*/store by default.
    json_
        Print JSON.
    """
    found = find(ref, store)
    rows = count_funnel(found.ref, found.store)
    _print([asdict(row) for row in rows], lambda: screen.funnel(rows), json_)


@app.command
def why(
    target: str, *, ref: str | None = None, store: str | None = None, json_: Json = False
) -> None:
    """Tell the life of a pair: what every stage did with it, and on what evidence.

    Parameters
    ----------
    target
        The pair's uid (32 hex digits) or the URL of its image.
    ref
        The build it belongs to; the only one there is by default.
    store
        The store to look in; runs/*/store by default.
    json_
        Print JSON.
    """
    found = find(ref, store)
    lives = lives_of(found.ref, found.store, target)
    record = [asdict(life) for life in lives]
    datasets = found.ref.datasets(found.store)
    _print(record, lambda: screen.lives(lives, found.ref, datasets), json_)


@app.command(name="report")
def report_page(
    ref: str | None = None,
    *,
    out: Path = Path("report.html"),
    queries: Path | None = None,
    store: str | None = None,
    json_: Json = False,
) -> None:
    """Write the page of a build: what was kept, what went and why, with pictures and timings.

    Parameters
    ----------
    ref
        NAME or a recipe; the only build there is by default.
    out
        The HTML file to write; it opens from disk and loads nothing.
    queries
        The query list, to show queries by their words.
    store
        The store to look in; runs/*/store by default.
    json_
        Print the summary as JSON.
    """
    found = find(ref, store)
    datasets = found.ref.datasets(found.store)
    words = tuple(queries.read_text(encoding="utf-8").splitlines()) if queries else None
    timings = {name: dataset.seconds() for name, dataset in datasets.items()}
    upstreams = wiring(datasets)
    page = compose.render(found.ref.name, datasets, upstreams, words, CATALOGUE, timings)
    out.write_text(page.html, encoding="utf-8")
    _print(page.summary, lambda: Text(str(out)), json_)


@app.command(name="gc")
def collect(*, store: str, delete: bool = False, json_: Json = False) -> None:
    """List what no name reaches in a store, and delete it if told to.

    Parameters
    ----------
    store
        The store.
    delete
        Really delete; do not do this while a run writes to the store.
    json_
        Print JSON.
    """
    opened = Store(store)
    garbage = gc.garbage(opened)
    deleted = gc.collect(opened, garbage) if delete else 0
    record = {**asdict(garbage), "deleted": deleted}
    found = f"{len(garbage.folders)} folders and {len(garbage.objects)} stray objects out of reach"
    done = f"; {deleted} objects deleted" if delete else "; --delete removes them"
    lines = "\n".join((*garbage.folders, *garbage.objects, found + done))
    _print(record, lambda: Text(lines), json_)


def _print(record: Any, rendered: Callable[[], RenderableType], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, indent=1, default=_plain))
    else:
        screen.console().print(rendered(), highlight=False)


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _guarded(call: Callable[[], Any]) -> int:
    """Call a command; an error for people becomes one line, a defect keeps its traceback."""
    try:
        result = call()
        return int(result) if isinstance(result, int) else Exit.OK
    except CycloptsError:
        return Exit.USER_ERROR
    except OpenwitError as error:
        print(f"openwit: {error}", file=sys.stderr)
        if error.exit_code == Exit.INTERNAL and error.__cause__ is not None:
            traceback.print_exception(error.__cause__, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("openwit: stopped", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.OK
    except Exception:
        # Not one of ours for people: a defect, told whole and with its own exit code.
        traceback.print_exc()
        print(
            "openwit: this is a defect of openwit; please report the lines above", file=sys.stderr
        )
        return Exit.INTERNAL


def run_as_command(function: Callable[..., Any]) -> None:
    """Run one function as a command of its own (`python -m jobs.build ...`) and exit."""
    single = App(result_action="return_value")
    single.default(function)
    sys.exit(_guarded(lambda: single(exit_on_error=False)))


def main() -> None:
    """The `openwit` command."""
    from jobs.bench.cli import bench
    from jobs.commands.stage import stage_app

    app.command(stage_app(), name="stage")
    app.command(bench, name="bench")
    sys.exit(_guarded(lambda: app(exit_on_error=False)))


if __name__ == "__main__":
    main()
