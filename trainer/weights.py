"""A finished model on disk: one safetensors file whose header says what the model is."""

import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from trainer.errors import CheckpointError
from trainer.files import replace_durably, sha256
from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig

RECORD = "openwit"
"""The key of the header's metadata that holds the record, as JSON."""


def save_weights(path: Path, model: CLIP, facts: dict[str, Any]) -> None:
    """Write the weights with a record of their shape and `facts` (JSON values) in the header."""
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    _, payload = _cut(safetensors.torch.save(tensors))
    record = {"model": asdict(model.config), "tensors_sha256": sha256(payload), **facts}
    metadata = {RECORD: json.dumps(record, sort_keys=True)}
    replace_durably(path, safetensors.torch.save(tensors, metadata=metadata))


def load_weights(path: Path, device: torch.device | str = "cpu") -> tuple[CLIP, dict[str, Any]]:
    """The model in evaluation mode and its record, which `weights_sha256` is added to.

    Raises CheckpointError where there is no such file or it is not one of `save_weights`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; train a model first") from None
    try:
        header, payload = _cut(data)
        record: dict[str, Any] = json.loads(header["__metadata__"][RECORD])
        if sha256(payload) != record["tensors_sha256"]:
            raise CheckpointError(f"{path}: its tensors are not those that were saved")
        model = CLIP(ModelConfig(**record["model"]))
        model.load_state_dict(safetensors.torch.load(data))
    except (SafetensorError, struct.error, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a model of ours: {error}") from error
    return model.to(device).eval(), {**record, "weights_sha256": sha256(data)}


def _cut(data: bytes) -> tuple[dict[str, dict[str, str]], bytes]:
    """Header and tensors of a safetensors file: 8 bytes of length, JSON, and the rest."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]
