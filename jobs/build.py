"""Carry out a recipe: what `openwit run` does, and the entry point for `ray job submit`.

    ray job submit --working-dir . -- python -m jobs.build RECIPE.yaml --store /shared/store

The driver keeps no state of its own, so submitting the same job again is the retry.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from jobs.stages.catalogue import CATALOGUE
from pipeline import recipe as recipes
from pipeline.dataset.errors import Exit, UserError
from pipeline.errors import Interrupted, RecipeError
from pipeline.recipe import Recipe
from pipeline.run import Build, build, summary
from pipeline.schedule.inline import Inline
from pipeline.schedule.on_ray import OnRay
from pipeline.schedule.scheduler import Scheduler
from pipeline.stage import Side
from pipeline.store.objects import Store
from pipeline.watch.lines import LogLines
from pipeline.watch.progress import Progress
from pipeline.watch.terminal import LiveTerminal

SchedulerMaker = Callable[[], Scheduler]
Overrides = Annotated[tuple[str, ...], Parameter(name="--exec", negative=())]


def run(
    recipe: Path,
    *,
    store: str | None = None,
    inline: bool = False,
    workers: int | None = None,
    address: str | None = None,
    until: str | None = None,
    overrides: Overrides = (),
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Build a recipe, reusing every stage that stands and going on where a run was cut off.

    Parameters
    ----------
    recipe
        The recipe, a YAML file.
    store
        Where results go: a folder or a URL (s3://...). The recipe's own by default.
    inline
        Do everything in this process, without Ray: for debugging.
    workers
        Cores of the local Ray; all of them by default.
    address
        A Ray cluster to use instead of a local Ray; RAY_ADDRESS does the same.
    until
        Stop after this stage.
    overrides
        How a stage runs, as STAGE.FIELD=VALUE; may be given several times.
    json_
        Print a JSON summary on standard output and nothing else there.
    """
    plan = load_recipe(recipe, overrides)
    made = run_recipe(
        plan,
        open_store(plan, store),
        scheduler=lambda: open_scheduler(inline, workers, address),
        progress=choose_progress(json_),
        until=until,
    )
    if json_:
        print(json.dumps(summary(made), indent=1))
    return report_losses(made)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe with the stages of the catalogue; `overrides` are STAGE.FIELD=VALUE."""
    pairs = {}
    for override in overrides:
        target, equals, value = override.partition("=")
        if not equals or "." not in target:
            raise RecipeError(f"--exec {override}: write it as STAGE.FIELD=VALUE")
        pairs[target] = value
    return recipes.load(path, CATALOGUE, pairs)


def open_store(recipe: Recipe, given: str | None) -> Store:
    """The store asked for, or the recipe's own."""
    return Store(given or recipe.store)


def run_recipe(
    recipe: Recipe,
    store: Store,
    scheduler: SchedulerMaker,
    progress: Progress,
    until: str | None = None,
    given: Mapping[str, Side] | None = None,
) -> Build:
    """Build a recipe and turn Ctrl-C into one line that says how to go on."""
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


def report_losses(made: Build) -> int:
    """Say which stages lost more than their budgets; the exit code."""
    for loss in made.losses:
        print(f"openwit: {loss}", file=sys.stderr)
    return Exit.LOSSES_OVER_BUDGET if made.losses else Exit.OK


def choose_progress(quiet: bool) -> Progress:
    """Live in a terminal, plain lines elsewhere, nothing if `quiet`."""
    if quiet:
        return Progress()
    console = Console(stderr=True)
    if console.is_terminal:
        return LiveTerminal(console)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    return LogLines(logging.getLogger("openwit"))


if __name__ == "__main__":
    from jobs.commands.app import run_as_command

    run_as_command(run)
