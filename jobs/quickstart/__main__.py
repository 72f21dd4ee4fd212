"""The quickstart: the whole graph on the mini-web, with a loopback server that stands for the web.

Ends with the funnel, the scores and where the report lies. Running it again reuses every stage.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from jobs.build import choose_progress, load_recipe, open_scheduler, report_losses, run_recipe
from jobs.commands import screen
from jobs.quickstart.serve import ReplayServer
from pipeline.ledger.funnel import funnel
from pipeline.recipe import Recipe
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
    inline: bool = False,
    workers: int | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Build the quickstart recipe from the mini-web that comes with openwit.

    Parameters
    ----------
    out
        Where report.html, summary.json and the store go.
    recipe
        Another recipe over the same mini-web.
    inline
        Do everything in this process, without Ray.
    workers
        Cores of the local Ray; all of them by default.
    json_
        Print summary.json instead of tables.
    """
    started = time.monotonic()
    store = Store(str(out / "store"))
    with ReplayServer(sorted(WEB.glob("images*.warc*"))) as server:
        loaded = load_recipe(recipe, (f"fetch.connect_to={server.address}",))
        made = run_recipe(
            loaded,
            store,
            scheduler=lambda: open_scheduler(inline, workers),
            progress=choose_progress(json_),
        )
    summary = _publish(made, out)
    if json_:
        print(json.dumps(summary, indent=1))
    else:
        _tell(loaded, made, out, time.monotonic() - started)
    return report_losses(made)


def _publish(made: Build, out: Path) -> Any:
    """Copy the report's files out of the store to where a person looks for them."""
    report = made.finished["report"]
    files = report.manifest.parts[0].files
    for suffix, name in (("html", "report.html"), ("json", "summary.json")):
        shutil.copyfile(report.local / files[suffix].path, out / name)
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def _tell(recipe: Recipe, made: Build, out: Path, seconds: float) -> None:
    console = screen.console()
    ref = refs.read(made.store, recipe.name)
    assert ref is not None
    console.print()
    console.print(screen.funnel(funnel(ref, made.store)), highlight=False)
    console.print()
    console.print(screen.scores(_results(made.finished["evaluate"])), highlight=False)
    reused = sum(step.done for step in made.steps)
    lines = [f"\n{len(made.steps)} stages, {reused} reused, {seconds:,.0f} s"]
    lines += [f"{name:<14}{out / name}" for name in ("report.html", "summary.json", "store")]
    console.print("\n".join(lines), highlight=False)


def _results(evaluated: Result) -> list[dict[str, Any]]:
    path = evaluated.local / evaluated.manifest.parts[0].files["json"].path
    results: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return results


if __name__ == "__main__":
    from jobs.commands.app import run_as_command

    run_as_command(quickstart)
