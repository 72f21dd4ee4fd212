"""The shapes of models: a frozen record and a table of named ones.

Knows what fits together and nothing of tensors. Sizes are Radford et al. (2021), tables 19 and 20;
S/32 and S/16 are open_clip's, and the smallest one is ours, for a CPU.
"""

from dataclasses import dataclass, replace
from typing import Literal

from trainer.errors import ConfigError

Activation = Literal["quick_gelu", "gelu"]
Stages = tuple[int, int, int, int]
"""Bottlenecks in each of a ResNet's four stages."""
RESNET_STRIDE = 32
"""Pixels of the image to one of a ResNet's last feature map, along a side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What fixes the shapes and the function of a two-tower model."""

    embed_dim: int
    """Width of the space that images and texts share."""
    image_size: int
    """Height and width of the image tower's input in pixels."""
    patch_size: int | None
    """Height and width of a patch in pixels; divides `image_size`. None in a ResNet."""
    vision_width: int
    """Width of a ViT, or channels behind a ResNet's stem."""
    vision_layers: int | Stages
    """Residual blocks of a ViT, or bottlenecks in each stage of a ResNet."""
    vision_heads: int
    """Heads of a ViT's blocks, or of a ResNet's attention pool."""
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int = 77
    """Most tokens of a text, start and end markers included."""
    vocab_size: int = 49_408
    activation: Activation = "quick_gelu"
    logit_bias: bool = False
    """Whether logits have a learned bias (SigLIP)."""

    def __post_init__(self) -> None:
        """Raise ConfigError on shapes that do not fit together."""
        if not isinstance(self.vision_layers, int):  # JSON knows lists only
            object.__setattr__(self, "vision_layers", tuple(self.vision_layers))
        if self.is_resnet != (self.patch_size is None):
            raise ConfigError(
                "model: a ViT has a patch_size and one number of layers, "
                "a ResNet has no patch_size (null) and four numbers of layers"
            )
        if self.context_length < 1:
            raise ConfigError(f"model: context_length {self.context_length} is less than 1")
        _divides("patch_size", self.stride, "image_size", self.image_size)
        _divides("vision_heads", self.vision_heads, "vision_features", self.vision_features)
        _divides("text_heads", self.text_heads, "text_width", self.text_width)

    @property
    def is_resnet(self) -> bool:
        """Whether the image tower is a ModifiedResNet; a ViT otherwise."""
        return not isinstance(self.vision_layers, int)

    @property
    def stride(self) -> int:
        """Pixels from one position of the image tower's grid to the next."""
        return self.patch_size or RESNET_STRIDE

    @property
    def grid(self) -> int:
        """Positions along a side of the image tower's grid."""
        return self.image_size // self.stride

    @property
    def vision_features(self) -> int:
        """Width of what the image tower's attention reads: four stages double a ResNet's."""
        return self.vision_width * (32 if self.is_resnet else 1)


def model_config(
    name: str, *, context_length: int | None = None, logit_bias: bool = False
) -> ModelConfig:
    """The named shape; ConfigError with the list of names where there is none.

    `context_length` replaces the shape's own number of tokens; `logit_bias` is SigLIP's.
    """
    if name not in MODELS:
        raise ConfigError(f"model: there is no {name!r}; the names are {', '.join(MODELS)}")
    shape = MODELS[name]
    length = shape.context_length if context_length is None else context_length
    return replace(shape, context_length=length, logit_bias=logit_bias)


def _divides(part: str, divisor: int, whole: str, number: int) -> None:
    if divisor < 1 or number < 1 or number % divisor:
        raise ConfigError(f"model: {part} {divisor} does not divide {whole} {number}")


def _vit(
    embed_dim: int, image_size: int, patch_size: int, vision: tuple[int, int], text: tuple[int, int]
) -> ModelConfig:
    """CLIP's rule: towers given as (width, layers), with heads 64 wide."""
    return ModelConfig(
        embed_dim=embed_dim,
        image_size=image_size,
        patch_size=patch_size,
        vision_width=vision[0],
        vision_layers=vision[1],
        vision_heads=vision[0] // 64,
        text_width=text[0],
        text_layers=text[1],
        text_heads=text[0] // 64,
    )


def _resnet(
    embed_dim: int, image_size: int, width: int, stages: Stages, text_width: int
) -> ModelConfig:
    """CLIP's rule: heads 64 wide, in the attention pool too; twelve layers of text."""
    return ModelConfig(
        embed_dim=embed_dim,
        image_size=image_size,
        patch_size=None,
        vision_width=width,
        vision_layers=stages,
        vision_heads=width * 32 // 64,
        text_width=text_width,
        text_layers=12,
        text_heads=text_width // 64,
    )


MODELS: dict[str, ModelConfig] = {
    "ViT-Ti-8-32px": ModelConfig(
        embed_dim=128,
        image_size=32,
        patch_size=8,
        vision_width=128,
        vision_layers=4,
        vision_heads=2,
        text_width=64,
        text_layers=2,
        text_heads=1,
        context_length=32,
        activation="gelu",
    ),
    "ViT-S-32": _vit(384, 224, 32, (384, 12), (384, 12)),
    "ViT-S-16": _vit(384, 224, 16, (384, 12), (384, 12)),
    "ViT-B-32": _vit(512, 224, 32, (768, 12), (512, 12)),
    "ViT-B-16": _vit(512, 224, 16, (768, 12), (512, 12)),
    "ViT-L-14": _vit(768, 224, 14, (1024, 24), (768, 12)),
    "ViT-L-14-336": _vit(768, 336, 14, (1024, 24), (768, 12)),
    "RN50": _resnet(1024, 224, 64, (3, 4, 6, 3), 512),
    "RN101": _resnet(512, 224, 64, (3, 4, 23, 3), 512),
    "RN50x4": _resnet(640, 288, 80, (4, 6, 10, 6), 640),
    "RN50x16": _resnet(768, 384, 96, (6, 8, 18, 8), 768),
    "RN50x64": _resnet(1024, 448, 128, (3, 15, 36, 10), 1024),
}
