"""`openwit show`: a build, or one stage of it."""

from typing import Annotated, Any

from cyclopts import Parameter

from jobs.commands import screen
from jobs.commands.options import Json, Ref, StorePath
from jobs.commands.resolve import find_target


def show(
    ref: Annotated[
        Ref,
        Parameter(help="NAME, NAME/STAGE or a recipe; the only build there is by default."),
    ] = None,
    *,
    store: StorePath = None,
    json_: Annotated[Json, Parameter(help="Print the manifests as JSON.")] = False,
) -> None:
    """Show a build, or one stage of it, on one screen."""
    target = find_target(ref, store)
    if target.stage is None:
        datasets = target.datasets
        record: Any = {name: dataset.manifest.as_json() for name, dataset in datasets.items()}
        screen.show(record, lambda: screen.build(target.ref, datasets), json_)
    else:
        record = target.dataset.manifest.as_json()
        screen.show(record, lambda: screen.stage(target.dataset), json_)
