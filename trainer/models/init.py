"""First values of the parameters and buffers, as OpenAI's released code sets them.

Every parameter draws from its own generator, keyed by (seed, name), on the CPU: values depend
neither on the order of construction nor on the device nor on what else the model holds.
"""

import hashlib
import math
import re

import torch
from torch import Tensor

from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
SIGMOID_LOGIT_SCALE = math.log(10.0)
"""Of models with a bias (Zhai et al. 2023, section 3.2)."""
SIGMOID_LOGIT_BIAS = -10.0
NORM = re.compile(r"(?:^|\.)(?:ln_\w+|bn\d|downsample\.1)\.(weight|bias)$")
LAST_GAIN = re.compile(r"\.layer\d\.\d+\.bn3\.weight$")
"""At zero, a bottleneck begins as its shortcut (Goyal et al. 2017, section 5.1)."""
TABLES = (".proj", ".positional_embedding")
"""Endings of an image tower's matrices that no module of torch holds."""


def new_clip(config: ModelConfig, seed: int) -> CLIP:
    """A model with CLIP's initial values, on the CPU in float32."""
    with torch.device("meta"):
        model = CLIP(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.fill_(1 if name.endswith("running_var") else 0)
        for name, parameter in model.named_parameters():
            _fill(name, parameter, config, _generator(seed, name))
    return model


def _generator(seed: int, name: str) -> torch.Generator:
    key = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)


def _fill(name: str, value: Tensor, config: ModelConfig, generator: torch.Generator) -> None:
    constant = _constant(name, config)
    if constant is not None:
        value.fill_(constant)
    elif (bound := _uniform_bound(name, value, config)) is not None:
        value.uniform_(-bound, bound, generator=generator)
    else:
        value.normal_(0.0, _normal_std(name, config), generator=generator)


def _constant(name: str, config: ModelConfig) -> float | None:
    """Scalars, norms and attention's biases."""
    if name == "logit_scale":
        return SIGMOID_LOGIT_SCALE if config.logit_bias else INITIAL_LOGIT_SCALE
    if name == "logit_bias":
        return SIGMOID_LOGIT_BIAS
    if norm := NORM.search(name):
        return float(norm[1] == "weight" and not LAST_GAIN.search(name))
    if name.endswith(("in_proj_bias", "out_proj.bias")):
        return 0.0
    return None


def _uniform_bound(name: str, value: Tensor, config: ModelConfig) -> float | None:
    """Where torch's defaults stay: all other biases, and an image tower's matrices and kernels."""
    if name.endswith(".bias"):
        fan_in = config.text_width if name.startswith("transformer") else config.vision_features
        return float((4 * fan_in if "mlp.c_proj" in name else fan_in) ** -0.5)
    if not name.startswith("visual.") or value.ndim < 2:
        return None
    if name.startswith("visual.attnpool.") or name.endswith(TABLES):
        return None
    fan_in = value[0].numel()
    if name.endswith("in_proj_weight"):  # Xavier, over rows and columns
        return math.sqrt(6 / (fan_in + len(value)))
    return float(fan_in**-0.5)


def _normal_std(name: str, config: ModelConfig) -> float:
    width, layers = config.text_width, config.text_layers
    if name.startswith("visual."):
        return float(config.vision_features**-0.5)
    if name == "token_embedding.weight":
        return 0.02
    if name == "positional_embedding":
        return 0.01
    if name.endswith("c_fc.weight"):
        return float((2 * width) ** -0.5)
    if name.endswith(("out_proj.weight", "c_proj.weight")):
        return float(width**-0.5 * (2 * layers) ** -0.5)
    return float(width**-0.5)
