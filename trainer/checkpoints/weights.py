"""A finished model on disk: one safetensors file whose header says what the model is.

Tensors keep their dtype on disk; a loaded model computes in float32. Runs in progress are saved by
`trainer.checkpoints.manager`, other projects' files are converted by `trainer.interchange.convert`.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from trainer.checkpoints.files import replace_durably, sha256
from trainer.errors import CheckpointError, ConfigError
from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig

RECORD = "openwit"
"""The key of the header's metadata that holds the record, as JSON."""


def save_weights(path: Path, model: CLIP, facts: dict[str, Any]) -> None:
    """Write the weights with a record of their shape and `facts` (JSON values) in the header."""
    write_weights(path, model.state_dict(), model.config, facts)


def write_weights(
    path: Path, state: Mapping[str, Tensor], config: ModelConfig, facts: dict[str, Any]
) -> None:
    """`save_weights` of a state dict, whatever its dtypes."""
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}
    _, payload = _cut(safetensors.torch.save(tensors))
    record = {"model": asdict(config), "tensors_sha256": sha256(payload), **facts}
    metadata = {RECORD: json.dumps(record, sort_keys=True)}
    replace_durably(path, safetensors.torch.save(tensors, metadata=metadata))


def load_weights(path: Path, device: torch.device | str = "cpu") -> tuple[CLIP, dict[str, Any]]:
    """The model in evaluation mode, in float32, and its record with `weights_sha256` added.

    Raises CheckpointError where there is no such file or it is not one of `save_weights`.
    """
    state, config, record = read_weights(path)
    try:
        model = loaded_clip(state, config)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not a model of ours: {error}") from error
    return model.to(device).eval(), record


def loaded_clip(state: Mapping[str, Tensor], config: ModelConfig) -> CLIP:
    """A model with these values, cast to float32; RuntimeError where names or shapes differ."""
    with torch.device("meta"):
        model = CLIP(config)
    cast = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    model.load_state_dict(cast, assign=True)
    return model


def read_weights(path: Path) -> tuple[dict[str, Tensor], ModelConfig, dict[str, Any]]:
    """State dict as it is stored, shape, and record with `weights_sha256` added.

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
        config = ModelConfig(**record["model"])
        state = safetensors.torch.load(data)
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: not a model of ours: {error}") from error
    return state, config, {**record, "weights_sha256": sha256(data)}


def _cut(data: bytes) -> tuple[dict[str, dict[str, str]], bytes]:
    """Header and tensors of a safetensors file: 8 bytes of length, JSON, and the rest."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]
