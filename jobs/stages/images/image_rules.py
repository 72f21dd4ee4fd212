"""`image-rules`: each picture decoded once, measured, and judged."""

from curation.images import image_rules
from jobs.stages.images.pooled import POOL, pooled
from pipeline.dataset import schema
from pipeline.stage import Map, Output, RowsTask, Stage


def _image_rules(task: RowsTask[image_rules.ImageRuleParams]) -> Output:
    pool = task.result("pool")
    return Output(image_rules.image_rules(task.table, lambda rows: pooled(pool, rows), task.params))


STAGE = Stage(
    name="image-rules",
    version=2,
    summary="Decode each image once: size, shape, information, perceptual hash",
    params=image_rules.ImageRuleParams,
    shape=Map(_image_rules),
    needs=(*image_rules.NEEDS, *schema.POOL),
    adds=image_rules.ADDS,
    reasons=image_rules.ImageRuleReason,
    sides={"pool": POOL},
)
