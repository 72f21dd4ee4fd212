"""`openwit funnel`: how many pairs every stage kept."""

from dataclasses import asdict

from jobs.commands import screen
from jobs.commands.options import Json, Ref, StorePath
from jobs.commands.resolve import find_target
from pipeline.ledger.funnel import funnel as count_funnel


def funnel(ref: Ref = None, *, store: StorePath = None, json_: Json = False) -> None:
    """Count pairs from the first candidate to the last stage, and why the others went."""
    target = find_target(ref, store)
    rows = count_funnel(target.ref, target.store)
    screen.show([asdict(row) for row in rows], lambda: screen.funnel(rows), json_)
