"""`openwit run`: build a recipe."""

import json
from typing import Annotated

from cyclopts import Parameter

from jobs.commands.options import Address, Inline, JsonSummary, NumWorkers, Overrides, RecipeFile
from jobs.commands.recipes import (
    choose_progress,
    load_recipe,
    open_scheduler,
    open_store,
    report_losses,
    run_recipe,
)
from pipeline.run import summary


def run(
    recipe: RecipeFile,
    *,
    store: str | None = None,
    inline: Annotated[
        Inline, Parameter(help="Do everything in this process, without Ray: for debugging.")
    ] = False,
    workers: NumWorkers = None,
    address: Address = None,
    until: str | None = None,
    overrides: Overrides = (),
    json_: JsonSummary = False,
) -> int:
    """Build a recipe, reusing every stage that stands and going on where a run was cut off.

    Parameters
    ----------
    store
        Where results go: a folder or a URL (s3://...). The recipe's own by default.
    until
        Stop after this stage.
    overrides
        How a stage runs, as STAGE.FIELD=VALUE; may be given several times.
    """
    loaded = load_recipe(recipe, overrides)
    build = run_recipe(
        loaded,
        open_store(loaded, store),
        scheduler=lambda: open_scheduler(inline, workers, address),
        progress=choose_progress(json_),
        until=until,
    )
    if json_:
        print(json.dumps(summary(build), indent=1))
    return report_losses(build)
