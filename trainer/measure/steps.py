"""How fast training steps go on one device: ours and a peer's, on the same batch of noise.

Ours is `trainer.run.step.Stepper` as a run has it: uint8 canvases in, update out. Rates do not
depend on what pictures show, nor on which words texts have, only on how many.
Shapes: b samples, C side of a canvas, S image side, L tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from trainer.config import Precision, RunConfig, TrainConfig
from trainer.data import augment
from trainer.data.batch import Batch
from trainer.errors import ConfigError
from trainer.measure.device import call_seconds, free_memory, peak_bytes, total_bytes
from trainer.measure.peers import PeerStep, dense_step, load_open_clip, open_clip_step
from trainer.models.flops import forward_flops
from trainer.models.init import new_clip
from trainer.parallel.world import World
from trainer.run.settings import torch_settings
from trainer.run.step import Stepper
from trainer.run.throughput import BACKWARD, peak_flops

USABLE_FLOPS = 800e12
"""What large bf16 products reach on an H100, per second; the base of our goals."""
DENSE = "our towers, dense loss"
WARM_UP = 3
PROBES = (64, 128)
MULTIPLE = 64
SPARE = 0.92
"""Share of the device's memory that a batch is sized for."""


@dataclass(frozen=True)
class Setting:
    """What is measured, and on what."""

    model: str
    batch: int
    device: torch.device
    text_length: int
    precision: Precision
    compiled: bool
    steps: int
    deterministic: bool = True
    """As runs are by default; the peer never is."""

    def run(self, num_workers: int = 0) -> RunConfig:
        """How a run of ours carries out such steps."""
        return RunConfig(
            device=str(self.device),
            compile=self.compiled,
            deterministic=self.deterministic,
            num_workers=num_workers,
        )

    @property
    def config(self) -> TrainConfig:
        """A run of such steps, at a constant learning rate for all that are taken."""
        return TrainConfig(
            model=self.model,
            steps=10**6,
            batch_size=self.batch,
            precision=self.precision,
            lr=1e-4,
            warmup_steps=0,
        )


@dataclass(frozen=True)
class StepFigures:
    """One trainer's steps of one model."""

    who: str
    model: str
    batch: int
    text_length: int
    precision: str
    compiled: bool
    seconds: float
    """Median of a step."""
    samples_per_s: float
    tflops: float
    """Arithmetic of three forward passes, without any that is done again."""
    of_usable: float
    """Share of 800 TFLOP/s."""
    of_peak: float | None
    """Share of the data sheet's peak (MFU), where the device is known."""
    memory: int | None
    """Bytes at the peak, weights and moments included."""


@dataclass(frozen=True)
class FeedFigures:
    """Steps on a dataset's pairs, read and decoded as a run reads them."""

    model: str
    batch: int
    workers: int
    samples_per_s: float
    data_wait: float
    """Share of the time in which nothing was done but wait for a batch."""


def noise_batch(config: TrainConfig, text_length: int, device: torch.device) -> Batch:
    """Random pixels and words: canvases an eighth wider than the crop, texts of `text_length`."""
    shape, rows = config.shape(), config.batch_size
    if not 3 <= text_length <= shape.context_length:
        raise ConfigError(
            f"text length {text_length} is not in 3 .. {shape.context_length} of {config.model}"
        )
    chance = torch.Generator().manual_seed(0)
    canvas = math.ceil(shape.image_size * 8 / 7)
    size = (rows, canvas, canvas, 3)
    tokens = torch.randint(1, shape.vocab_size - 2, (rows, text_length), generator=chance)
    tokens[:, 0], tokens[:, -1] = shape.vocab_size - 2, shape.vocab_size - 1
    return Batch(
        pixels=torch.randint(0, 256, size, dtype=torch.uint8, generator=chance),
        sides=torch.randint(shape.image_size, canvas + 1, (rows,), generator=chance),
        mirror=torch.zeros(rows, dtype=torch.bool),
        jitter=torch.rand(rows, 3, generator=chance),
        kept=None,
        tokens=tokens,
        uids=torch.zeros(rows, 2, dtype=torch.int64),
        image_ids=None,
        text_ids=None,
        weights=None,
        bad=(),
    ).to(device)


def our_step(setting: Setting) -> Callable[[], object]:
    """A step of the trainer on its batch, to call again and again."""
    config = setting.config
    batch = noise_batch(config, setting.text_length, setting.device)
    world = World(0, 1, setting.device)
    stepper = Stepper(new_clip(config.shape(), config.seed), config, setting.run(), world)
    return lambda: stepper(0, batch)


def our_figures(setting: Setting) -> StepFigures:
    """The trainer's own steps, under a run's own settings of torch."""
    run = setting.run()
    with torch_settings(run, setting.precision, setting.device):
        return _figures("openwit", setting, our_step)


def peer_figures(setting: Setting) -> StepFigures:
    """open_clip's steps, or those of our towers under a dense loss where it is not installed.

    The batch is smaller where memory does not hold the same one. Texts are as long as the model
    takes: that is what open_clip pads them to.
    """
    try:
        who, make = f"open_clip {load_open_clip().__version__}", open_clip_step
    except ImportError:
        who, make = DENSE, dense_step

    def step(setting: Setting) -> Callable[[], object]:
        return _on_noise(make(setting.config, setting.device, setting.compiled), setting)

    length = setting.config.shape().context_length
    return _figures(who, replace(setting, text_length=length), step)


def largest_batch(setting: Setting) -> int:
    """The batch that fills the device's memory, a multiple of 64; ConfigError on a CPU.

    Memory is linear in the batch: two small ones, not compiled, give the line.
    """
    total = total_bytes(setting.device)
    if total is None:
        raise ConfigError("batch: say how large it is to be; a CPU has no memory of its own")
    peaks = []
    for batch in PROBES:
        step = our_step(replace(setting, batch=batch, compiled=False))
        step()  # the moments come with the first update
        grown = peak_bytes(setting.device, step)
        assert grown is not None
        peaks.append(torch.cuda.memory_allocated(setting.device) + grown)
        del step
        free_memory(setting.device)
    slope = (peaks[1] - peaks[0]) / (PROBES[1] - PROBES[0])
    fits = (SPARE * total - peaks[0]) / slope + PROBES[0]
    return max(MULTIPLE, int(fits) // MULTIPLE * MULTIPLE)


def _figures(
    who: str, setting: Setting, make: Callable[[Setting], Callable[[], object]]
) -> StepFigures:
    """Steps of `setting`, or of a batch an eighth smaller, until it fits into memory."""
    while True:
        try:
            torch.compiler.reset()
            free_memory(setting.device)
            seconds, memory = _measured(make(setting), setting)
            return _derived(who, setting, seconds, memory)
        except torch.OutOfMemoryError:
            smaller = setting.batch * 7 // 8 // MULTIPLE * MULTIPLE
            if smaller < MULTIPLE:
                raise
            setting = replace(setting, batch=smaller)


def _measured(step: Callable[[], object], setting: Setting) -> tuple[float, int | None]:
    for _ in range(WARM_UP):
        step()
    held = torch.cuda.memory_allocated(setting.device) if setting.device.type == "cuda" else 0
    grown = peak_bytes(setting.device, step)
    seconds = call_seconds(setting.device, step, setting.steps)
    return seconds, None if grown is None else held + grown


def _derived(who: str, setting: Setting, seconds: float, memory: int | None) -> StepFigures:
    per_pair = BACKWARD * forward_flops(setting.config.shape(), setting.text_length)
    flops = per_pair * setting.batch / seconds
    peak = peak_flops(setting.device)
    return StepFigures(
        who=who,
        model=setting.model,
        batch=setting.batch,
        text_length=setting.text_length,
        precision=setting.precision,
        compiled=setting.compiled,
        seconds=seconds,
        samples_per_s=setting.batch / seconds,
        tflops=flops / 1e12,
        of_usable=flops / USABLE_FLOPS,
        of_peak=None if peak is None else flops / peak,
        memory=memory,
    )


def _on_noise(peer: PeerStep, setting: Setting) -> Callable[[], object]:
    """The peer's step on the batch that ours would be given, pixels prepared beforehand."""
    batch = noise_batch(setting.config, setting.text_length, setting.device)
    pixels_BCSS = augment.prepare(batch, setting.config)
    return lambda: peer(pixels_BCSS, batch.tokens)
