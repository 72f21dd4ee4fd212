"""A finished model on disk: `NAME.safetensors` and, beside it, `NAME.json` that says what it is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from trainer.errors import CheckpointError
from trainer.files import replace_durably, sha256, to_json
from trainer.models import CLIP, ModelConfig


def save_weights(path: Path, model: CLIP, facts: dict[str, Any]) -> None:
    """Write the weights and a record of their shape, digest and `facts` (JSON values)."""
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    data = safetensors.torch.save(tensors)
    replace_durably(path, data)
    record = {"model": asdict(model.config), "weights_sha256": sha256(data), **facts}
    replace_durably(path.with_suffix(".json"), to_json(record))


def load_weights(path: Path, device: torch.device | str = "cpu") -> tuple[CLIP, dict[str, Any]]:
    """The model in evaluation mode and its record; CheckpointError where the two do not match."""
    try:
        data, text = path.read_bytes(), path.with_suffix(".json").read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{error.filename}: there is no such file; train a model first"
        ) from None
    record: dict[str, Any] = json.loads(text)
    if sha256(data) != record["weights_sha256"]:
        raise CheckpointError(f"{path}: its bytes are not those that {path.stem}.json describes")
    model = CLIP(ModelConfig(**record["model"]))
    model.load_state_dict(safetensors.torch.load(data))
    return model.to(device).eval(), record
