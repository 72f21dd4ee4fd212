"""`openwit gc`: what no name reaches in a store."""

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from jobs.commands import screen
from jobs.commands.options import Json
from pipeline.store import gc as collector
from pipeline.store.objects import Store


def gc(
    *,
    store: Annotated[str, Parameter(help="The store.")],
    delete: bool = False,
    json_: Json = False,
) -> None:
    """List what no name reaches in a store, and delete it if told to.

    Parameters
    ----------
    delete
        Really delete; do not do this while a run writes to the store.
    """
    opened = Store(store)
    garbage = collector.garbage(opened)
    deleted = collector.collect(opened, garbage) if delete else 0
    record = {**asdict(garbage), "deleted": deleted}
    total = f"{len(garbage.folders)} folders and {len(garbage.objects)} stray objects out of reach"
    outcome = f"; {deleted} objects deleted" if delete else "; --delete removes them"
    lines = "\n".join((*garbage.folders, *garbage.objects, total + outcome))
    screen.show(record, lambda: Text(lines), json_)
