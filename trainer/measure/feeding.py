"""Whether a dataset's files keep a device busy: a run's own loader before a run's own steps."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer.arithmetic import as_in_a_run
from trainer.config import RunConfig
from trainer.data.loader import Loader, Source
from trainer.measure.steps import Setting
from trainer.models.init import new_clip
from trainer.parallel.world import World
from trainer.run.step import Stepper
from trainer.run.timing import Stopwatch


@dataclass(frozen=True)
class Feeding:
    """Steps on real pairs."""

    model: str
    batch: int
    workers: int
    samples_per_s: float
    data_wait: float
    """Share of the time in which nothing was done but wait for a batch."""


def feeding(setting: Setting, dataset: Path, workers: int) -> Feeding:
    """Train on a dataset; DatasetError where it cannot be read.

    As many steps again go before, in which blocks are compiled for the lengths that texts have.
    """
    run, world = setting.run(workers), World(0, 1, setting.device)
    with as_in_a_run(run, setting.precision, setting.device), TemporaryDirectory() as index:
        lap = _second_lap(setting, open_loader(setting, dataset, run, Path(index)), run, world)
    rate, wait = lap["samples_per_s"], lap["data_wait"]
    assert rate is not None and wait is not None
    return Feeding(setting.model, setting.batch, workers, rate, wait)


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
    watch = Stopwatch(config, world)
    for step, batch in enumerate(watch.waiting(loader.batches(0, 2 * setting.steps))):
        stepper(step, batch)
        watch.step(batch)
        if step + 1 == setting.steps:
            watch.lap()
    return watch.lap()
