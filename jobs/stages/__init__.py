"""The stage catalogue: every stage that a recipe can name."""

from collections.abc import Mapping

from jobs.stages import images, model, text
from pipeline.stage import Stage

CATALOGUE: Mapping[str, Stage] = {
    stage.name: stage for stage in (*text.STAGES, *images.STAGES, *model.STAGES)
}
"""Stages by name, in the order in which a build usually runs them."""
