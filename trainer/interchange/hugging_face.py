"""Hugging Face's names for the same parameters: `CLIPModel`'s state dict and config.json.

Pure functions over state dicts and JSON values; values keep their dtype and bits. CLIPModel splits
attention's input into queries, keys and values, transposes both projections, and has no ResNet.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from trainer.errors import CheckpointError, ConfigError
from trainer.models.config import Activation, ModelConfig

TOPS = {
    "visual.conv1": "vision_model.embeddings.patch_embedding",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "token_embedding": "text_model.embeddings.token_embedding",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
TRANSPOSED = ("visual.proj", "text_projection")
TOWERS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
LAST_IS_EOS = 2
"""In older files: the text is read at its highest id, whatever the number says."""
THIRDS = re.compile(r"(.+\.)self_attn\.([qkv])_proj\.(weight|bias)")


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIPModel's state dict; ConfigError for a ResNet or a bias of logits, which it lacks."""
    if any(name.startswith("visual.attnpool.") for name in state):
        raise ConfigError("hf: CLIPModel has no ResNet tower; convert to open_clip instead")
    if "logit_bias" in state:
        raise ConfigError("hf: CLIPModel has no logit_bias; convert to open_clip instead")
    out = {}
    for name, value in state.items():
        head, in_proj, kind = name.partition("attn.in_proj_")
        if in_proj:
            for letter, third in zip("qkv", value.chunk(3), strict=True):
                out[f"{_theirs(head)}self_attn.{letter}_proj.{kind}"] = third.clone()
        else:
            out[_theirs(name)] = value.T.contiguous() if name in TRANSPOSED else value
    return out


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Openwit's state dict of CLIPModel's; names that it does not know stay as they are."""
    out = {}
    for name, value in state.items():
        if name.endswith(".position_ids"):  # a buffer of older versions: 0, 1, 2, ...
            continue
        third = THIRDS.fullmatch(name)
        if third is None:
            ours = _ours(name)
            value = value.reshape(()) if ours == "logit_scale" else value
            out[ours] = value.T.contiguous() if ours in TRANSPOSED else value
        elif third[2] == "q":
            parts = [state.get(f"{third[1]}self_attn.{letter}_proj.{third[3]}") for letter in "qkv"]
            whole = [part for part in parts if part is not None]
            if len(whole) == 3:
                out[f"{_ours(third[1])}attn.in_proj_{third[3]}"] = torch.cat(whole)
    return out


def _theirs(name: str) -> str:
    for ours, theirs in TOWERS.items():
        if name.startswith(ours):
            number, _, part = name[len(ours) :].partition(".")
            return f"{theirs}{number}.{_renamed(part, PARTS)}"
    return _renamed(name, TOPS)


def _ours(name: str) -> str:
    for ours, theirs in TOWERS.items():
        if name.startswith(theirs):
            number, _, part = name[len(theirs) :].partition(".")
            return f"{ours}{number}.{_renamed(part, {new: old for old, new in PARTS.items()})}"
    return _renamed(name, {theirs: ours for ours, theirs in TOPS.items()})


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """By the whole name, or by the module that a weight or bias belongs to."""
    module, dot, kind = name.rpartition(".")
    return names[name] if name in names else names.get(module, module) + dot + kind


def hugging_face_config(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """config.json of a ViT, with all that `CLIPModel.from_pretrained` reads."""
    shared = {"hidden_act": config.activation, "projection_dim": config.embed_dim}
    vision = {
        "hidden_size": config.vision_width,
        "intermediate_size": 4 * config.vision_width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
    text = {
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "pad_token_id": 0,
        "bos_token_id": config.vocab_size - 2,  # CLIP's vocabulary ends with the two markers
        "eos_token_id": config.vocab_size - 1,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": str(dtype).removeprefix("torch."),
        "projection_dim": config.embed_dim,
        "vision_config": shared | vision | {"model_type": "clip_vision_model"},
        "text_config": shared | text | {"model_type": "clip_text_model"},
    }


def read_function(config: Mapping[str, Any]) -> tuple[Activation, int, int]:
    """What shapes leave open: activation, heads of images, heads of texts, from a config.json.

    What it leaves out is CLIPConfig's default. Raises CheckpointError on a function that a CLIP of
    ours cannot be.
    """
    vision, text = _described(config, "vision"), _described(config, "text")
    activations = {tower.get("hidden_act", "quick_gelu") for tower in (vision, text)}
    epsilons = {tower.get("layer_norm_eps", 1e-5) for tower in (vision, text)}
    activation, *others = activations
    if others or activation not in get_args(Activation):
        raise CheckpointError(
            f"config.json: hidden_act {', '.join(sorted(map(str, activations)))} is not one of "
            f"{', '.join(get_args(Activation))} for both towers"
        )
    if epsilons != {1e-5}:
        raise CheckpointError(f"config.json: layer_norm_eps {sorted(epsilons)} is not 1e-05")
    last = text.get("vocab_size", 49_408) - 1
    if text.get("eos_token_id", last) not in (LAST_IS_EOS, last):
        raise CheckpointError(
            f"config.json: eos_token_id {text['eos_token_id']} is not {last}, the last id, where "
            "a CLIP's text is read"
        )
    return activation, vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8)


def _described(config: Mapping[str, Any], tower: str) -> Mapping[str, Any]:
    """Older files have a second record that, where it is not null, stands for the first."""
    older = config.get(f"{tower}_config_dict")
    return (config.get(f"{tower}_config") if older is None else older) or {}
