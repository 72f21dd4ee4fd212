"""`openwit plan`: what a run would do."""

from typing import Annotated

from cyclopts import Parameter

from jobs.commands import screen
from jobs.commands.options import Json, Overrides, RecipeFile, StorePath
from jobs.commands.recipes import load_recipe, open_store
from pipeline import plan as plans

STEP_FIELDS = ("action", "why", "key", "folder")


def plan(
    recipe: RecipeFile,
    *,
    store: Annotated[
        StorePath, Parameter(help="The store to compare with; the recipe's own by default.")
    ] = None,
    overrides: Overrides = (),
    json_: Json = False,
) -> None:
    """Show what `run` would do, stage by stage, and why; changes nothing.

    Parameters
    ----------
    overrides
        How a stage would run, as STAGE.FIELD=VALUE.
    """
    loaded = load_recipe(recipe, overrides)
    steps = plans.make(loaded, open_store(loaded, store))
    record = [
        {"stage": step.node.name} | {name: getattr(step, name) for name in STEP_FIELDS}
        for step in steps
    ]
    screen.show(record, lambda: screen.plan(steps), json_)
