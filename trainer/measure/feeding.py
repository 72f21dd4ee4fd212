"""Whether a dataset's files keep a device busy: a run's own loader before a run's own steps."""

from pathlib import Path
from tempfile import TemporaryDirectory

from trainer.config import RunConfig
from trainer.data.loader import Loader, Source
from trainer.measure.steps import FeedFigures, Setting
from trainer.models.init import new_clip
from trainer.parallel.world import World
from trainer.run.settings import torch_settings
from trainer.run.step import Stepper
from trainer.run.throughput import ThroughputMeter


def feeding(setting: Setting, dataset: Path, workers: int) -> FeedFigures:
    """Train on a dataset; DatasetError where it cannot be read.

    As many steps again go before, in which blocks are compiled for the lengths that texts have.
    """
    run, world = setting.run(workers), World(0, 1, setting.device)
    with torch_settings(run, setting.precision, setting.device), TemporaryDirectory() as index:
        lap = _second_lap(setting, open_loader(setting, dataset, run, Path(index)), run, world)
    rate, wait = lap["samples_per_s"], lap["data_wait"]
    assert rate is not None and wait is not None
    return FeedFigures(setting.model, setting.batch, workers, rate, wait)


def open_loader(setting: Setting, dataset: Path, run: RunConfig, index: Path) -> Loader:
    """The loader of such a run; DatasetError where the dataset cannot be read."""
    return Loader(
        (Source(dataset),),
        setting.config,
        num_workers=run.num_workers,
        pin_memory=setting.device.type == "cuda",
        index_folder=index,
    )


def _second_lap(
    setting: Setting, loader: Loader, run: RunConfig, world: World
) -> dict[str, float | None]:
    config = setting.config
    stepper = Stepper(new_clip(config.shape(), config.seed), config, run, world)
    watch = ThroughputMeter(config, world)
    for step, batch in enumerate(watch.waiting(loader.batches(0, 2 * setting.steps))):
        stepper(step, batch)
        watch.step(batch)
        if step + 1 == setting.steps:
            watch.lap()
    return watch.lap()
