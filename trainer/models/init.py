"""First values of the parameters, as OpenAI's released code sets them.

Every parameter draws from its own generator, keyed by (seed, name), on the CPU: values depend
neither on the order of construction nor on the device nor on what else the model holds.
"""

import hashlib
import math

import torch
from torch import Tensor

from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


def new_clip(config: ModelConfig, seed: int) -> CLIP:
    """A model with CLIP's initial values, on the CPU in float32."""
    model = CLIP(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _fill(name, parameter, config, _generator(seed, name))
    return model


def _generator(seed: int, name: str) -> torch.Generator:
    key = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)


def _fill(name: str, value: Tensor, config: ModelConfig, generator: torch.Generator) -> None:
    if name == "logit_scale":
        value.fill_(INITIAL_LOGIT_SCALE)
    elif ".ln_" in name or name.startswith("ln_"):
        value.fill_(1.0 if name.endswith("weight") else 0.0)
    elif name.endswith(("in_proj_bias", "out_proj.bias")):
        value.zero_()
    elif name.endswith(".bias"):
        fan_in = config.text_width if name.startswith("transformer") else config.vision_width
        bound = (fan_in if "c_fc" in name else 4 * fan_in) ** -0.5
        value.uniform_(-bound, bound, generator=generator)
    elif name.startswith("visual.transformer") or name == "visual.conv1.weight":
        bound = _torch_default_bound(name, value)
        value.uniform_(-bound, bound, generator=generator)
    else:
        value.normal_(0.0, _normal_std(name, config), generator=generator)


def _torch_default_bound(name: str, value: Tensor) -> float:
    """The image tower's matrices keep torch's defaults: Xavier for attention's input, else He."""
    fan_in = value[0].numel()
    if name.endswith("in_proj_weight"):
        return math.sqrt(6 / (fan_in + len(value)))
    return float(fan_in**-0.5)


def _normal_std(name: str, config: ModelConfig) -> float:
    width, layers = config.text_width, config.text_layers
    if name.startswith("visual."):
        return float(config.vision_width**-0.5)
    if name == "token_embedding.weight":
        return 0.02
    if name == "positional_embedding":
        return 0.01
    if name.endswith("c_fc.weight"):
        return float((2 * width) ** -0.5)
    if name.endswith(("out_proj.weight", "c_proj.weight")):
        return float(width**-0.5 * (2 * layers) ** -0.5)
    return float(width**-0.5)
