"""The page of reasons: why a pair can be dropped, by stage."""

from collections.abc import Iterator, Sequence

from pipeline.stage import AnyStage
from tools.reference.markdown import code, page, table

_INTRO = """Why a stage may drop a pair. Each stage has a closed list; `openwit why` and the report
show the reason with the value that decided, the bound it met and evidence. Damage means that a
fault took the row rather than a rule: it counts against the stage's `loss_budget`."""


def reasons_page(stages: Sequence[AnyStage]) -> str:
    """One row per reason, stage by stage."""
    head = ("stage", "reason", "in words", "what to do about it", "damage")
    return page("Reasons", _INTRO, [table(head, _rows(stages))])


def _rows(stages: Sequence[AnyStage]) -> Iterator[tuple[str, ...]]:
    for stage in stages:
        for reason in stage.reasons or ():
            damage = "yes" if reason.damage else ""
            yield code(stage.name), code(str(reason)), reason.label, reason.hint, damage
