"""A model small enough to train in a test, and a run's configuration for it."""

from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.models.config import ModelConfig

MICRO = ModelConfig(
    embed_dim=8,
    image_size=16,
    patch_size=8,
    vision_width=32,
    vision_layers=1,
    vision_heads=2,
    text_width=8,
    text_layers=1,
    text_heads=1,
    context_length=12,
)
BASE = {
    "model": "micro",
    "steps": 30,
    "batch_size": 16,
    "lr": 3e-3,
    "warmup_steps": 5,
    "log_every": 4,
}


def config(**changes: Any) -> TrainConfig:
    return TrainConfig.from_dict({**BASE, **changes})


def result_bytes(workdir: Path) -> bytes:
    return (workdir / "model.safetensors").read_bytes()
