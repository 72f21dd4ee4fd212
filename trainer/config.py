"""What a training run is, in frozen records: what its weights depend on, and how it is run.

`TrainConfig`, which includes the `Objective`, is identity: a checkpoint is resumed only under the
same one. `RunConfig` (device, processes, checkpoints, trackers) may change between one start and
the next.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.errors import ConfigError
from trainer.models.config import ModelConfig, model_config
from trainer.records import Record

TRAIN_VERSION = 3
"""Goes up with a changed default or computation: it is part of a run's identity, which leaves
defaults out, and the version of the stage `train`."""

Precision = Literal["fp32", "bf16", "fp16"]
Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    - clip: symmetric cross-entropy of the cosines (Radford et al. 2021, figure 3); the weight of a
      pair is that of its row and its column.
    - siglip: sigmoid loss summed over all entries, divided by B (Zhai et al. 2023); an entry has
      the mean weight of its two pairs.
    - cyclip: clip, and cyclip_in * B * mean((cosine of two images - of their texts)^2) +
      cyclip_cross * B * mean((cosine of image i and text j - of image j and text i)^2) (Goel et
      al. 2022), where hidden entries count as 0 and the others by the mean weight of their pairs.
    """

    loss: Literal["clip", "siglip", "cyclip"] = "clip"
    """clip (Radford et al. 2021), siglip (Zhai et al. 2023) or cyclip (Goel et al. 2022)."""
    pos_reg: float = 0.0
    """Lambda of the positive-pair regulariser (Chen et al., ICLR 2024), which adds lambda *
    mean(1 - cosine of positives); 0 turns it off."""
    cyclip_in: float = 0.25
    """Lambda of CyCLIP's in-modal term."""
    cyclip_cross: float = 0.25
    """Lambda of CyCLIP's cross-modal term."""
    label_smoothing: float = 0.0
    """Share of the target spread over the whole batch; in siglip, over the two classes."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Objective, Record):
    """One run's recipe; sizes are in samples or optimizer steps."""

    model: str
    """Name of a shape in `trainer.models.MODELS`; it fixes image size and context length."""
    steps: int
    """Optimizer steps of the whole run."""
    batch_size: int = 256
    """Pairs per step, over all processes; each is contrasted with all others."""
    context_length: int | None = None
    """Most tokens per caption; the model's own number (77) by default."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 50
    """Steps of linear warm-up before the cosine."""
    weight_decay: float = 0.2
    """Decoupled, on parameters of two or more dimensions only."""
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    grad_clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 turns clipping off."""
    mask_duplicates: bool = False
    """Pairs with the same caption or picture are not negatives of each other."""
    weighted: bool = False
    """Weight pairs by the dataset's column `weight`."""
    patch_dropout: float = 0.0
    """Share of image patches left out in training (FLIP, Li et al. 2023)."""
    crop_scale_min: float = 0.9
    """Least share of the short side's square that a random square crop keeps; 1 only shifts it."""
    flip: bool = False
    """Mirror half of the images; off by default because it mirrors writing too."""
    colour_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation, as a share; 0 turns it off."""
    shuffle_shards: int = 64
    """Shards whose rows are shuffled together; about twice as many are open at once."""
    precision: Precision = "fp32"
    """bf16 and fp16 run the towers under autocast; parameters, logits and moments stay float32."""
    refused_limit: int = 20
    """Steps in a row without a finite gradient after which the last good checkpoint is restored."""
    spike_deviations: float = 10.0
    """A loss this many deviations above the recent median is a spike; 0 turns the watch off."""
    spike_limit: int = 10
    """Spikes in a row after which the last good checkpoint is restored."""
    rewind_limit: int = 3
    """Rewinds after which the run gives up."""
    bad_budget: float = 0.01
    """Share of pairs that may have an undecodable picture before the run gives up."""
    seed: int = 0
    log_every: int = 10
    """Steps between rows of metrics."""

    def __post_init__(self) -> None:
        """Raise ConfigError on an unknown model, a value of another type or one out of range."""
        sizes = ("steps", "batch_size", "log_every", "shuffle_shards", "refused_limit")
        others = (
            "warmup_steps",
            "weight_decay",
            "pos_reg",
            "cyclip_in",
            "cyclip_cross",
            "lr",
            "eps",
        )
        more = ("grad_clip_norm", "spike_deviations", "rewind_limit", "bad_budget")
        least = dict.fromkeys((*sizes, "spike_limit"), 1.0) | dict.fromkeys((*others, *more), 0.0)
        self.check(least | {"context_length": 3})
        for name in ("colour_jitter", "patch_dropout", "label_smoothing", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} is not in [0, 1)")
        if not 0 < self.crop_scale_min <= 1:
            raise ConfigError(f"crop_scale_min: {self.crop_scale_min} is not in (0, 1]")
        shape = self.shape()
        if self.patch_dropout and shape.is_resnet:
            raise ConfigError(f"patch_dropout: {self.model} is a ResNet, which has no patches")

    def shape(self) -> ModelConfig:
        """The model's shape, with the context length and bias that this run asks for."""
        return model_config(
            self.model, context_length=self.context_length, logit_bias=self.loss == "siglip"
        )

    def record(self) -> dict[str, Any]:
        """All fields, as JSON values: for people, and to make the same configuration again."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """The required fields and those that differ from their default, as JSON values.

        They decide the result. A field that is added later, with a default that changes nothing,
        leaves the identities of earlier runs as they are.
        """
        defaults = self.defaults()
        return {
            name: value
            for name, value in self.record().items()
            if name not in defaults or value != defaults[name]
        }


@dataclass(frozen=True, kw_only=True)
class RunConfig(Record):
    """How a run is carried out; apart from rounding, none of it changes the result."""

    device: str = "cpu"
    """A torch device: cpu, cuda; under torchrun every process takes the GPU of its local rank."""
    num_threads: int | None = None
    """Threads of torch on a CPU; torch's own choice by default."""
    num_workers: int = 0
    """Processes that decode; 0 decodes in threads of the trainer's own process."""
    micro_batch: int | None = None
    """Pairs per process that go through the towers at once (gradient caching); all by default."""
    parallel: Parallel = "ddp"
    """How several processes share the work: ddp, or fsdp, which also splits the parameters."""
    grad_checkpointing: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations."""
    compile: bool = False
    """torch.compile of every residual block."""
    deterministic: bool = True
    """Kernels that give the same bits every time; on a GPU they cost some speed."""
    verify: bool = False
    """Read every file of the dataset and compare its digest before the first step."""
    checkpoint_every_steps: int = 100
    """Steps between checkpoints; a run that has to be rewound goes back to one of these."""
    checkpoint_every_s: float | None = None
    """Seconds between checkpoints, in addition."""
    keep_last: int = 2
    """Newest sound checkpoints that are kept."""
    keep_every: int | None = None
    """Checkpoints at multiples of this many steps are kept too."""
    keep_best: bool = False
    """Keep the checkpoint with the lowest training loss too."""
    hang_after_s: float = 300.0
    """A step that takes this long, and ten times the median, is a hang: reported, and ended."""
    tensorboard: bool = False
    """Write metrics for TensorBoard too (pip install tensorboard)."""
    wandb: str | None = None
    """Project of Weights & Biases to log to (pip install wandb)."""

    def __post_init__(self) -> None:
        """Raise ConfigError on a value of another type or one out of range."""
        ones = ("num_threads", "micro_batch", "checkpoint_every_steps", "keep_every")
        zeros = ("num_workers", "checkpoint_every_s")
        least = {"keep_last": 2.0, "hang_after_s": 1.0}
        self.check(dict.fromkeys(ones, 1.0) | dict.fromkeys(zeros, 0.0) | least)
