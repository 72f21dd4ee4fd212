"""`language`: the language of each caption."""

from curation.text import language
from pipeline.stage import Map, Stage

STAGE = Stage(
    name="language",
    version=1,
    summary="Identify each caption's language and keep the wanted ones",
    params=language.LanguageParams,
    shape=Map.over(language.language),
    needs=language.NEEDS,
    adds=language.ADDS,
    reasons=language.LanguageReason,
)
