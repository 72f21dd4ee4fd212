"""`captions`: captions repaired, and those that say nothing turned away."""

from curation.text import repair
from pipeline.stage import Map, Stage

STAGE = Stage(
    name="captions",
    version=1,
    summary="Repair captions (mojibake, entities, white space) and drop ones that say nothing",
    params=repair.CaptionParams,
    shape=Map.over(repair.captions),
    needs=repair.NEEDS,
    adds=repair.ADDS,
    rewrites=repair.NEEDS,
    reasons=repair.CaptionReason,
)
