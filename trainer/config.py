"""What a training run is: every number that its weights depend on, in one frozen record.

Where it runs (device, threads, folders) is not in here: that never changes what comes out.
"""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, Self

from trainer.errors import ConfigError
from trainer.models.config import model_config

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run's recipe; sizes are in samples or optimizer steps."""

    model: str
    """Name of a shape in `trainer.models.MODELS`; it fixes image size and context length."""
    steps: int
    """Optimizer steps of the whole run."""
    batch_size: int = 256
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
    """Largest norm of the whole gradient."""
    pos_reg: float = 0.0
    """Lambda of the positive-pair regulariser (Chen et al., ICLR 2024); 0 is CLIP."""
    crop_scale_min: float = 0.9
    """Least share of the area that a random square crop keeps; 1 turns cropping off."""
    flip: bool = False
    """Mirror half of the images; off because mirrored writing says something else."""
    colour_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation, as a share; 0 turns it off."""
    precision: Precision = "fp32"
    """bf16 runs the towers under autocast; parameters, logits and moments stay float32."""
    seed: int = 0
    log_every: int = 10
    """Steps between rows of metrics."""
    checkpoint_every_steps: int = 100
    """Steps between checkpoints; the only field without influence on results."""

    def __post_init__(self) -> None:
        """Raise ConfigError on an unknown model, a value of another type or one out of range."""
        for field in fields(self):
            _of_type(field.name, getattr(self, field.name), field.type)
        model_config(self.model)
        for name in ("steps", "batch_size", "log_every", "checkpoint_every_steps"):
            _at_least(name, getattr(self, name), 1)
        for name in ("warmup_steps", "weight_decay", "pos_reg", "lr", "grad_clip_norm"):
            _at_least(name, getattr(self, name), 0)
        if not 0 < self.crop_scale_min <= 1:
            raise ConfigError(f"crop_scale_min: {self.crop_scale_min} is not in (0, 1]")
        if not 0 <= self.colour_jitter < 1:
            raise ConfigError(f"colour_jitter: {self.colour_jitter} is not in [0, 1)")
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"precision: {self.precision!r} is neither 'fp32' nor 'bf16'")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """From JSON's object; ConfigError names fields that are unknown or missing."""
        known = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if unknown := sorted(set(record) - known):
            raise ConfigError(f"unknown fields {unknown}; the fields are {sorted(known)}")
        if missing := sorted(required - set(record)):
            raise ConfigError(f"fields {missing} are required")
        return cls(**record)

    def identity(self) -> dict[str, Any]:
        """The fields that decide the result."""
        record = asdict(self)
        del record["checkpoint_every_steps"]
        return record


def field_docs() -> dict[str, str]:
    """The text under each field of `TrainConfig` in this file, for those that have one."""
    body = ast.parse(inspect.getsource(TrainConfig)).body[0]
    docs: dict[str, str] = {}
    name = ""
    for node in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            docs[name] = str(node.value.value)
    return docs


def field_help() -> str:
    """One line a field: name, default and what it says."""
    docs, lines = field_docs(), []
    for field in fields(TrainConfig):
        default = "required" if field.default is MISSING else repr(field.default)
        lines.append(f"  {field.name} ({default})  {docs.get(field.name, '')}".rstrip())
    return "\n".join(lines)


def _of_type(name: str, value: object, kind: object) -> None:
    kinds = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
    allowed = kinds.get(kind, (str,)) if isinstance(kind, type) else (str,)
    if type(value) not in allowed:
        raise ConfigError(f"{name}: {value!r} is not a value of type {allowed[-1].__name__}")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{name}: {value} is less than {least}")
