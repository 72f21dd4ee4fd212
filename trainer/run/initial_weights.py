"""Weights that a run starts from instead of CLIP's first values.

They may come from another image size or context length: positions are interpolated, for a short
high-resolution or long-text stage after a cheap one. What they are is part of a run's identity.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from trainer.checkpoints.files import file_sha256
from trainer.checkpoints.weights import load_weights
from trainer.errors import ConfigError
from trainer.models.config import ModelConfig
from trainer.models.resize import resized


@dataclass(frozen=True)
class InitialWeights:
    """A finished model's file (`trainer.checkpoints.weights`)."""

    path: Path

    @cached_property
    def sha256(self) -> str:
        """The file's digest; ConfigError if there is none."""
        try:
            return file_sha256(self.path)
        except OSError as error:
            raise ConfigError(f"start: {self.path} cannot be read ({error})") from None

    def state_dict(self, shape: ModelConfig) -> dict[str, Tensor]:
        """Its state dict, brought to `shape`; ConfigError where more than positions differ."""
        model, _ = load_weights(self.path)
        state, resized_shape = resized(
            model.state_dict(),
            model.config,
            image_size=shape.image_size,
            context_length=shape.context_length,
        )
        if resized_shape != shape:
            both = [
                (name, getattr(resized_shape, name), getattr(shape, name)) for name in _names(shape)
            ]
            apart = "; ".join(f"{name} {one}, not {two}" for name, one, two in both if one != two)
            raise ConfigError(f"start: {self.path} is another architecture: {apart}")
        return state


def _names(shape: ModelConfig) -> list[str]:
    return list(replace(shape).__dataclass_fields__)
