"""Options that several commands share: the name of each, its type and its help, said once.

A command whose option needs other words wraps the alias: `Annotated[Json, Parameter(help=...)]`.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")]

JsonSummary = Annotated[
    Json, Parameter(help="Print a JSON summary on standard output and nothing else there.")
]

RecipeFile = Annotated[Path, Parameter(help="The recipe, a YAML file.")]

Ref = Annotated[str | None, Parameter(help="NAME or a recipe; the only build there is by default.")]

StorePath = Annotated[str | None, Parameter(help="The store to look in; runs/*/store by default.")]

Overrides = Annotated[tuple[str, ...], Parameter(name="--exec", negative=())]

Inline = Annotated[bool, Parameter(help="Do everything in this process, without Ray.")]

NumWorkers = Annotated[
    int | None, Parameter(name="--workers", help="Cores of the local Ray; all of them by default.")
]

Address = Annotated[
    str | None,
    Parameter(help="A Ray cluster to use instead of a local Ray; RAY_ADDRESS does the same."),
]
