"""The stage catalogue: every stage that a recipe can name, ours and other people's.

Ours are listed here, one line each, in the order in which a build usually runs them. A package of
somebody else's adds its own by the entry point `openwit.stages`: a `Stage`, or a sequence of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points

from pipeline.dataset.errors import UserError
from pipeline.stage import AnyStage, Stage

GROUP = "openwit.stages"
MODULES = (
    "jobs.stages.text.extract",
    "jobs.stages.text.captions",
    "jobs.stages.text.language",
    "jobs.stages.text.rules",
    "jobs.stages.text.url_dedup",
    "jobs.stages.text.match",
    "jobs.stages.text.count",
    "jobs.stages.text.balance",
    "jobs.stages.images.fetch",
    "jobs.stages.images.image_rules",
    "jobs.stages.images.image_dedup",
    "jobs.stages.images.image_neighbours",
    "jobs.stages.images.near_dedup",
    "jobs.stages.images.shard",
    "jobs.stages.model.train",
    "jobs.stages.model.evaluate",
    "jobs.stages.model.report",
)


def own_stages() -> Iterator[AnyStage]:
    """The stages of this distribution, in order."""
    for module in MODULES:
        yield import_module(module).STAGE


def installed_stages() -> Iterator[AnyStage]:
    """Stages of installed packages; UserError names the package whose entry point is no stage."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        loaded = point.load()
        stages = [loaded] if isinstance(loaded, Stage) else loaded
        if not isinstance(stages, Iterable):
            stages = [loaded]
        for stage in stages:
            if not isinstance(stage, Stage):
                raise UserError(
                    f"entry point {point.value} ({GROUP}): {stage!r} is no pipeline.stage.Stage; "
                    "mend or remove the package that declares it"
                )
            yield stage


def catalogue(*sources: Iterable[AnyStage]) -> Mapping[str, AnyStage]:
    """Stages by name, in order; UserError if two have one name."""
    stages: dict[str, AnyStage] = {}
    for source in sources:
        for stage in source:
            if stage.name in stages:
                raise UserError(
                    f"two stages are called {stage.name!r}; remove the package that adds the second"
                )
            stages[stage.name] = stage
    return stages


CATALOGUE: Mapping[str, AnyStage] = catalogue(own_stages(), installed_stages())
"""Stages by name, in the order in which a build usually runs them."""
