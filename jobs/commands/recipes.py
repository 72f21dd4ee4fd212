"""From a recipe to its outcome: what `run`, `stage` and the quickstart do alike.

Reads the recipe with the catalogue's stages, opens the store, chooses workers and progress, builds,
and reports losses over budget.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from jobs.stages.catalogue import CATALOGUE
from jobs.stages.sets import expanded
from pipeline.dataset.errors import Exit, UserError
from pipeline.errors import Interrupted, RecipeError
from pipeline.recipe import recipe as recipes
from pipeline.recipe.recipe import Recipe
from pipeline.run import Build, build
from pipeline.schedule.inline import Inline
from pipeline.schedule.on_ray import OnRay
from pipeline.schedule.scheduler import Scheduler
from pipeline.stage import Side
from pipeline.store.objects import Store
from pipeline.watch.lines import LogLines
from pipeline.watch.progress import Progress
from pipeline.watch.terminal import LiveTerminal

SchedulerFactory = Callable[[], Scheduler]


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe with the stages of the catalogue; `overrides` are STAGE.FIELD=VALUE.

    Raises RecipeError on a recipe, or an override, that cannot be read.
    """
    values = {}
    for override in overrides:
        target, equals, value = override.partition("=")
        if not equals or "." not in target:
            raise RecipeError(f"--exec {override}: write it as STAGE.FIELD=VALUE")
        values[target] = value
    recipe = recipes.load(path, CATALOGUE, values)
    return replace(recipe, inputs=expanded(recipe.inputs))


def open_store(recipe: Recipe, url: str | None) -> Store:
    """The store at `url`, or the recipe's own."""
    return Store(url or recipe.store)


def run_recipe(
    recipe: Recipe,
    store: Store,
    scheduler: SchedulerFactory,
    progress: Progress,
    until: str | None = None,
    given: Mapping[str, Side] | None = None,
) -> Build:
    """Build a recipe; a Ctrl-C becomes one line that says how to go on.

    `scheduler` is called once `until` is known to be a stage: starting Ray takes seconds. `given`
    are inputs made elsewhere. Raises UserError, StageFailed or Interrupted.
    """
    if until is not None and until not in {node.name for node in recipe.nodes}:
        names = ", ".join(node.name for node in recipe.nodes)
        raise UserError(f"--until {until}: the recipe has no such stage; it has: {names}")
    workers: Scheduler | None = None
    try:
        workers = scheduler()
        if not store.shared and not isinstance(workers, Inline):
            raise UserError(
                f"{store.url} lives in this process only: add --inline, or another store"
            )
        return build(recipe, store, workers, progress, until, given)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; everything committed stays, run the same command again to go on"
        ) from None
    finally:
        progress.close()
        if workers is not None:
            workers.close()


def open_scheduler(
    inline: bool, workers: int | None = None, address: str | None = None
) -> Scheduler:
    """Workers in this process, on a local Ray or on a cluster."""
    return Inline() if inline else OnRay(address, workers)


def choose_progress(quiet: bool) -> Progress:
    """Live in a terminal, plain lines elsewhere, nothing if `quiet`."""
    if quiet:
        return Progress()
    console = Console(stderr=True)
    if console.is_terminal:
        return LiveTerminal(console)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    return LogLines(logging.getLogger("openwit"))


def report_losses(build: Build) -> int:
    """Print which stages lost more than their budgets; returns the exit code."""
    for loss in build.losses:
        print(f"openwit: {loss}", file=sys.stderr)
    return Exit.LOSSES_OVER_BUDGET if build.losses else Exit.OK
