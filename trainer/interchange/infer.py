"""The architecture of a state dict, from names and shapes alone, and a check of all of them.

The caller has to know what shapes leave open: the activation, and heads that are not 64 wide.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.errors import CheckpointError, ConfigError
from trainer.models.clip import CLIP
from trainer.models.config import RESNET_STRIDE, Activation, ModelConfig, Stages

HEAD_WIDTH = 64
WIDEST_OF_64 = 1024
"""ViTs above this width have wider heads: ViT-H has 16 of 80."""
POOL = "visual.attnpool.positional_embedding"
"""Of ResNets only."""
NAMES_LISTED = 3
"""Names that an error lists before it stops."""


def infer_config(
    state: Mapping[str, Tensor],
    *,
    activation: Activation,
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> ModelConfig:
    """The shape of a model in openwit's names; heads are 64 wide unless their number is given.

    Raises CheckpointError, with names, where a tensor is missing, unknown or of another shape.
    """
    try:
        text_width, embed_dim = state["text_projection"].shape
        patch, width, layers, positions = _image_tower(state)
        features, widest = (width, WIDEST_OF_64) if patch else (32 * width, 32 * width)
        config = ModelConfig(
            embed_dim=embed_dim,
            image_size=math.isqrt(positions - 1) * (patch or RESNET_STRIDE),
            patch_size=patch,
            vision_width=width,
            vision_layers=layers,
            vision_heads=_given(vision_heads) or _heads("vision_heads", features, widest),
            text_width=text_width,
            text_layers=_count(state, "transformer.resblocks."),
            text_heads=text_heads or _heads("text_heads", text_width, text_width),
            context_length=len(state["positional_embedding"]),
            vocab_size=len(state["token_embedding.weight"]),
            activation=activation,
            logit_bias="logit_bias" in state,
        )
    except KeyError as error:
        raise CheckpointError(f"not a CLIP of two towers: there is no tensor {error}") from None
    except ValueError:
        raise CheckpointError("not a CLIP of two towers: text_projection is no matrix") from None
    check(state, config)
    return config


def check(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """CheckpointError unless `state` has the names and shapes of `config`, and no others."""
    with torch.device("meta"):
        wanted = CLIP(config).state_dict()
    wrong = [
        *(f"lacks {name}" for name in wanted.keys() - state.keys()),
        *(f"has an unknown {name}" for name in state.keys() - wanted.keys()),
        *(
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in state and state[name].shape != value.shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - NAMES_LISTED} more" if len(wrong) > NAMES_LISTED else ""
        problems = "; ".join(sorted(wrong)[:NAMES_LISTED])
        raise CheckpointError(f"not the tensors of a CLIP of two towers: {problems}{more}")


def _image_tower(
    state: Mapping[str, Tensor],
) -> tuple[int | None, int, int | Stages, int]:
    """Patch size, width, layers and positions."""
    if POOL in state:
        width = len(state["visual.conv3.weight"])
        one, two, three, four = (_count(state, f"visual.layer{number}.") for number in range(1, 5))
        return (
            None,
            width,
            (one, two, three, four),
            len(state["visual.attnpool.positional_embedding"]),
        )
    kernel = state["visual.conv1.weight"]
    layers = _count(state, "visual.transformer.resblocks.")
    return kernel.shape[-1], len(kernel), layers, len(state["visual.positional_embedding"])


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow the prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _given(heads: int | None) -> int | None:
    if heads is not None and heads < 1:
        raise ConfigError(f"model: vision_heads {heads} is less than 1")
    return heads


def _heads(name: str, width: int, widest: int) -> int:
    if width % HEAD_WIDTH or width > widest:
        message = f"model: {name} cannot be seen from width {width}"
        if name == "vision_heads":
            message += "; say --vision-heads (open_clip's ViT-H, g, G and e have 16)"
        raise ConfigError(message)
    return width // HEAD_WIDTH
