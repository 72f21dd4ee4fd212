"""`openwit why`: the life of one pair."""

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from jobs.commands import screen
from jobs.commands.options import Json, Ref, StorePath
from jobs.commands.resolve import find_target
from pipeline.ledger.why import why as lives_of


def why(
    target: str,
    *,
    ref: Annotated[
        Ref, Parameter(help="The build it belongs to; the only one there is by default.")
    ] = None,
    store: StorePath = None,
    json_: Json = False,
) -> None:
    """Tell the life of a pair: what every stage did with it, and on what evidence.

    Parameters
    ----------
    target
        The pair's uid (32 hex digits) or the URL of its image.
    """
    build = find_target(ref, store)
    lives = lives_of(build.ref, build.store, target)
    record = [asdict(life) for life in lives]
    screen.show(record, lambda: screen.lives(lives, build.datasets), json_)
