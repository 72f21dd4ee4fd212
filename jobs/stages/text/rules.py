"""`rules`: rules on what captions say."""

from curation.text import caption_rules
from pipeline.stage import Map, Stage

STAGE = Stage(
    name="rules",
    version=1,
    summary="Length, repetition, symbol and block-list rules on captions",
    params=caption_rules.CaptionRuleParams,
    shape=Map.over(caption_rules.caption_rules),
    needs=caption_rules.NEEDS,
    adds=caption_rules.ADDS,
    reasons=caption_rules.CaptionRuleReason,
)
