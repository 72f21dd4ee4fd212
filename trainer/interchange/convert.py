"""Weights from and to OpenAI's, open_clip's and Hugging Face's files, bit by bit.

Reads `.safetensors` files and folders of `CLIPModel.save_pretrained`; opens no pickle. Tensors keep
dtype and bits; only positions change, and only where another size is asked for. A model that was
trained with another mean and deviation of pixels still needs those: files do not record them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.dataset.errors import UserError
from trainer.checkpoints.files import replace_durably, sha256, to_json
from trainer.checkpoints.weights import RECORD, read_weights, write_weights
from trainer.errors import CheckpointError, ConfigError
from trainer.interchange.hugging_face import (
    from_hugging_face,
    hugging_face_config,
    read_function,
    to_hugging_face,
)
from trainer.interchange.infer import infer_config
from trainer.models.config import MODELS, Activation, ModelConfig
from trainer.models.resize import resized

Format = Literal["openwit", "openai", "open_clip", "hf"]
WRAPPERS = ("module.", "_orig_mod.")
NO_PARAMETERS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
"""Entries of OpenAI's and open_clip's older state dicts that shapes determine already."""
PLAIN = {"format": "pt"}
"""The metadata that other readers of safetensors files ask for."""


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """A model's weights, shape and record, outside of any file."""

    state: dict[str, Tensor]
    """In openwit's names, in the dtype of their file."""
    config: ModelConfig
    facts: dict[str, Any]
    """Where they come from: JSON values for the record of `trainer.checkpoints.weights`."""

    def __repr__(self) -> str:
        count = sum(value.numel() for value in self.state.values())
        return f"Weights({known_name(self.config)}, {len(self.state)} tensors, {count:,} values)"


def read(
    source: Path, *, activation: Activation | None = None, vision_heads: int | None = None
) -> Weights:
    """The weights in a `.safetensors` file or a folder with config.json and model.safetensors.

    `activation` and `vision_heads` are for files that do not record them. Raises ConfigError where
    one is missing or contradicts the file, CheckpointError on a file that cannot be read or is no
    CLIP.
    """
    if source.is_dir():
        return _read_hugging_face(source, activation, vision_heads)
    _refuse_pickle(source)
    try:
        with safe_open(source, framework="pt") as file:
            recorded = RECORD in (file.metadata() or {})
    except FileNotFoundError:
        raise CheckpointError(f"{source}: there is no such file or folder") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{source}: not a safetensors file: {error}") from error
    if recorded:
        return _read_ours(source, activation, vision_heads)
    return _read_plain(source, activation, vision_heads)


def write(weights: Weights, dest: Path, to: Format) -> Path:
    """Write a file, or for `hf` a folder; the path of the file that holds the tensors.

    Raises ConfigError where the format cannot hold the model.
    """
    if to == "hf" and dest.is_file():
        raise ConfigError(f"{dest}: is a file; hf is written as a folder")
    if to != "hf" and dest.is_dir():
        raise ConfigError(f"{dest}: is a folder; {to} is written as one file")
    if to != "hf" and dest.suffix != ".safetensors":
        raise ConfigError(f"{dest}: {to} is written to a file whose name ends in .safetensors")
    if to == "openai" and weights.config.logit_bias:
        raise ConfigError("openai: its models have no logit_bias; convert to open_clip instead")
    if to == "hf":
        return _write_hugging_face(weights, dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    if to == "openwit":
        write_weights(dest, weights.state, weights.config, weights.facts)
    else:
        replace_durably(dest, safetensors.torch.save(_whole(weights.state), metadata=PLAIN))
    return dest


def convert(
    source: Path,
    dest: Path,
    to: Format,
    *,
    activation: Activation | None = None,
    vision_heads: int | None = None,
    image_size: int | None = None,
    context_length: int | None = None,
) -> dict[str, Any]:
    """Read, resize if asked to, write; what was written, as JSON values. Errors as `read`, `write`.

    A context or image of another size interpolates positions (`trainer.models.resize`).
    """
    weights = read(source, activation=activation, vision_heads=vision_heads)
    state, config = resized(
        weights.state, weights.config, image_size=image_size, context_length=context_length
    )
    path = write(replace(weights, state=state, config=config), dest, to)
    return {
        "dest": str(path),
        "format": to,
        "name": known_name(config),
        "model": asdict(config),
        "sha256": sha256(path.read_bytes()),
    }


def known_name(config: ModelConfig) -> str:
    """The name of a shape in `MODELS`, whatever its activation, context or bias; else custom."""
    for name, known in MODELS.items():
        same = replace(
            known,
            activation=config.activation,
            context_length=config.context_length,
            logit_bias=config.logit_bias,
        )
        if same == config:
            return name
    return "custom"


def from_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Openwit's state dict of OpenAI's or open_clip's: prefixes off, scalars without dimensions.

    Prefixes are those of CustomTextCLIP, DDP and `torch.compile`.
    """
    out = {}
    for name, value in state.items():
        bare = name
        while bare.startswith(WRAPPERS):
            bare = bare.partition(".")[2]
        bare = bare.removeprefix("text.")
        if bare not in NO_PARAMETERS:
            out[bare] = value.reshape(()) if bare in ("logit_scale", "logit_bias") else value
    return out


def _read_ours(source: Path, activation: Activation | None, vision_heads: int | None) -> Weights:
    state, config, record = read_weights(source)
    _same(source, "activation", activation, config.activation)
    _same(source, "vision-heads", vision_heads, config.vision_heads)
    derived = ("model", "tensors_sha256", "weights_sha256")
    return Weights(state, config, {key: record[key] for key in record.keys() - derived})


def _read_plain(source: Path, activation: Activation | None, vision_heads: int | None) -> Weights:
    if activation is None:
        raise ConfigError(
            f"{source}: does not say its activation, and shapes cannot; say --activation "
            "quick_gelu (OpenAI's models, open_clip's -quickgelu ones) or gelu (most others)"
        )
    data = source.read_bytes()
    state = from_open_clip(safetensors.torch.load(data))
    if any(name.startswith("vision_model.") for name in state):
        raise ConfigError(f"{source}: Hugging Face's; give the folder that holds its config.json")
    with _naming(source):
        config = infer_config(state, activation=activation, vision_heads=vision_heads)
    return Weights(state, config, _facts(config, data))


def _read_hugging_face(folder: Path, activation: Activation | None, heads: int | None) -> Weights:
    tensors, pickle = folder / "model.safetensors", folder / "pytorch_model.bin"
    if pickle.exists() and not tensors.exists():
        _refuse_pickle(pickle)
    try:
        described = json.loads((folder / "config.json").read_bytes())
        data = tensors.read_bytes()
        state = from_hugging_face(safetensors.torch.load(data))
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename}: there is no such file") from None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder}: cannot be read: {error}") from error
    with _naming(folder):
        recorded, vision_heads, text_heads = read_function(described)
        config = infer_config(
            state, activation=recorded, vision_heads=vision_heads, text_heads=text_heads
        )
    _same(folder, "activation", activation, recorded)
    _same(folder, "vision-heads", heads, vision_heads)
    return Weights(state, config, _facts(config, data))


def _write_hugging_face(weights: Weights, folder: Path) -> Path:
    state = to_hugging_face(weights.state)
    path = folder / "model.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    replace_durably(path, safetensors.torch.save(_whole(state), metadata=PLAIN))
    described = hugging_face_config(weights.config, state["logit_scale"].dtype)
    replace_durably(folder / "config.json", to_json(described))
    return path


def _facts(config: ModelConfig, data: bytes) -> dict[str, Any]:
    """The record of a model that others trained: its name where a run's configuration has it."""
    return {"train": {"model": known_name(config)}, "converted": {"source_sha256": sha256(data)}}


def _refuse_pickle(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: only .safetensors files are opened, since a pickle can run code; where you "
            "trust it, load it with torch.load(weights_only=True) or torch.jit.load and write its "
            "state dict with safetensors.torch.save_file"
        )


def _same(source: Path, what: str, asked: str | int | None, recorded: str | int) -> None:
    if asked not in (None, recorded):
        raise ConfigError(f"{source}: is recorded with {recorded}, not {asked}; leave --{what} out")


def _whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in state.items()}


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Errors inside say which file they are about."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{source}: {error}") from None
