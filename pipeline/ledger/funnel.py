"""How many rows every stage was given, kept and dropped, and for which reasons."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import StageFailed
from pipeline.ledger.lineage import main_line
from pipeline.store.objects import Store
from pipeline.store.refs import Ref


@dataclass(frozen=True)
class FunnelRow:
    """One stage of the funnel; shares are of the candidates and of the stage's own input."""

    stage: str
    rows_in: int
    rows_kept: int
    rows_dropped: int
    share_of_first: float
    share_of_input: float
    reasons: Mapping[str, int]


def funnel(ref: Ref, store: Store) -> list[FunnelRow]:
    """How many rows every stage was given, kept and dropped, in order.

    Raises StageFailed if the counts do not add up exactly from the first stage to the last.
    """
    rows, first, passed_on = [], 0, None
    for name, dataset in main_line(ref, store).items():
        manifest = dataset.manifest
        first = first or manifest.rows_in
        if passed_on not in (None, manifest.rows_in):
            raise StageFailed(
                f"{name}: {passed_on} rows were passed on to it, {manifest.rows_in} seen"
            )
        passed_on = manifest.rows_kept
        rows.append(
            FunnelRow(
                stage=name,
                rows_in=manifest.rows_in,
                rows_kept=manifest.rows_kept,
                rows_dropped=manifest.rows_dropped,
                share_of_first=_share(manifest.rows_kept, first),
                share_of_input=_share(manifest.rows_kept, manifest.rows_in),
                reasons=manifest.reasons,
            )
        )
    total = sum(row.rows_dropped for row in rows) + (passed_on or 0)
    if total != first:
        raise StageFailed(f"{first} rows began, but kept and dropped add up to {total}")
    return rows


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
