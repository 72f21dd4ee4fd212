"""A stage of your own: captions written in capitals are turned away.

Install this package beside openwit (`pip install ./examples/own_stage`) and the stage `shouting` is
there: in recipes, in `openwit plan`, as `openwit stage shouting --help`, in the report and in the
ledger that `openwit why` reads. Nothing of openwit is edited.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION
from pipeline.dataset.verdict import Judge, Reason
from pipeline.stage import Map, Stage

CAPITALS = Column("capitals", pa.float32(), "Share of the caption's letters that are capitals.")


class ShoutingReason(Reason):
    """Why a caption is turned away: `NAME = value, label for the report, what to do about it`."""

    SHOUTING = "shouting", "written in capitals", "raise max_capitals"


class ShoutingParams(Params):
    """The parameters are the stage's identity, its options and its help, all three."""

    max_capitals: float = Field(0.7, ge=0, le=1)
    """Largest share of a caption's letters that may be capitals."""


def shouting(table: pa.Table, params: ShoutingParams) -> pa.Table:
    """Adds `capitals` and `verdict`; a caption without letters does not shout."""
    texts = table["caption"].combine_chunks()
    letters = np.asarray(pc.utf8_length(pc.replace_substring_regex(texts, r"\PL", "")), float)
    capitals = np.asarray(pc.utf8_length(pc.replace_substring_regex(texts, r"\P{Lu}", "")), float)
    share = capitals / np.maximum(letters, 1)
    judge = Judge(put(table, {CAPITALS: pa.array(share, CAPITALS.type)}))
    judge.drop(share > params.max_capitals, ShoutingReason.SHOUTING, share, params.max_capitals)
    return judge.table()


STAGE = Stage(
    name="shouting",
    version=1,
    summary="Turn captions away that are written in capitals",
    params=ShoutingParams,
    shape=Map.over(shouting),
    needs=(CAPTION,),
    adds=(CAPITALS,),
    reasons=ShoutingReason,
)
