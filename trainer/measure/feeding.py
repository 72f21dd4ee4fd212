"""Whether a dataset's files keep a device busy: a run's own loader before a run's own steps."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer.config import RunConfig
from trainer.data.loader import Loader, Source
from trainer.distributed import World
from trainer.measure.steps import Setting
from trainer.models.init import new_clip
from trainer.step import Stepper
from trainer.timing import Stopwatch


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
    config, device = setting.config, setting.device
    run = RunConfig(device=str(device), compile=setting.compiled, num_workers=workers)
    world = World(0, 1, device)
    stepper = Stepper(new_clip(config.shape(), config.seed), config, run, world)
    with TemporaryDirectory() as index:
        loader = Loader(
            (Source(dataset),),
            config,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            index_folder=Path(index),
        )
        watch = Stopwatch(config, world)
        batches = watch.waiting(loader.batches(0, 2 * setting.steps))
        for step, batch in enumerate(batches):
            stepper(step, batch)
            watch.step(batch)
            if step + 1 == setting.steps:
                watch.lap()
    lap = watch.lap()
    rate, wait = lap["samples_per_s"], lap["data_wait"]
    assert rate is not None and wait is not None
    return Feeding(setting.model, setting.batch, workers, rate, wait)
