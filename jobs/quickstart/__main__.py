"""The quickstart: the whole graph on the mini-web, with a loopback server that stands for the web.

Ends with the funnel, the scores and where the report lies. Running it again reuses every stage.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from jobs.commands import screen
from jobs.commands.guarded import run_as_command
from jobs.commands.options import Inline, Json, NumWorkers
from jobs.commands.recipes import (
    choose_progress,
    load_recipe,
    open_scheduler,
    report_losses,
    run_recipe,
)
from jobs.quickstart.serve import ReplayServer
from pipeline.ledger.funnel import funnel
from pipeline.recipe.recipe import Recipe
from pipeline.run import Build
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.result import Result

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
WEB = Path(__file__).parent / "web"


def quickstart(
    *,
    out: Path = Path("runs/quickstart"),
    recipe: Path = RECIPE,
    inline: Inline = False,
    workers: NumWorkers = None,
    json_: Annotated[Json, Parameter(help="Print summary.json instead of tables.")] = False,
) -> int:
    """Build the quickstart recipe from the mini-web that comes with openwit.

    Parameters
    ----------
    out
        Where report.html, summary.json and the store go.
    recipe
        Another recipe over the same mini-web.
    """
    started = time.monotonic()
    store = Store(str(out / "store"))
    with ReplayServer(sorted(WEB.glob("images*.warc*"))) as server:
        loaded = load_recipe(recipe, (f"fetch.connect_to={server.address}",))
        build = run_recipe(
            loaded,
            store,
            scheduler=lambda: open_scheduler(inline, workers),
            progress=choose_progress(json_),
        )
    summary = _publish(build, out)
    if json_:
        print(json.dumps(summary, indent=1))
    else:
        _print(loaded, build, out, time.monotonic() - started)
    return report_losses(build)


def _publish(build: Build, out: Path) -> Any:
    """Copy the report's files out of the store to where a person looks for them."""
    report = build.finished["report"]
    files = report.manifest.parts[0].files
    for suffix, name in (("html", "report.html"), ("json", "summary.json")):
        shutil.copyfile(report.local / files[suffix].path, out / name)
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def _print(recipe: Recipe, build: Build, out: Path, seconds: float) -> None:
    """The funnel, the scores, and where the results lie."""
    console = screen.console()
    ref = refs.read(build.store, recipe.name)
    assert ref is not None
    console.print()
    console.print(screen.funnel(funnel(ref, build.store)), highlight=False)
    console.print()
    console.print(screen.scores(_results(build.finished["evaluate"])), highlight=False)
    reused = sum(step.done for step in build.steps)
    lines = [f"\n{len(build.steps)} stages, {reused} reused, {seconds:,.0f} s"]
    lines += [f"{name:<14}{out / name}" for name in ("report.html", "summary.json", "store")]
    console.print("\n".join(lines), highlight=False)


def _results(evaluated: Result) -> list[dict[str, Any]]:
    path = evaluated.local / evaluated.manifest.parts[0].files["json"].path
    results: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return results


if __name__ == "__main__":
    run_as_command(quickstart)
