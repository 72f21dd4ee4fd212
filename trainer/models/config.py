"""The shapes of models: a frozen record and a table of named ones."""

from dataclasses import dataclass
from typing import Literal

from trainer.errors import ConfigError

Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What fixes the shapes and the function of a two-tower model."""

    embed_dim: int
    """Width of the space that images and texts share."""
    image_size: int
    """Height and width of the image tower's input in pixels."""
    patch_size: int
    """Height and width of a patch in pixels; divides `image_size`."""
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int = 77
    """Most tokens of a text, start and end markers included."""
    vocab_size: int = 49_408
    activation: Activation = "quick_gelu"

    def __post_init__(self) -> None:
        """Raise ConfigError on shapes that do not fit together."""
        _divides("patch_size", self.patch_size, "image_size", self.image_size)
        _divides("vision_heads", self.vision_heads, "vision_width", self.vision_width)
        _divides("text_heads", self.text_heads, "text_width", self.text_width)


def model_config(name: str) -> ModelConfig:
    """The named shape; ConfigError with the list of names where there is none."""
    if name not in MODELS:
        raise ConfigError(f"model: there is no {name!r}; the names are {', '.join(MODELS)}")
    return MODELS[name]


def _divides(part: str, divisor: int, whole: str, number: int) -> None:
    if divisor < 1 or number % divisor:
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
    "ViT-B-32": _vit(512, 224, 32, (768, 12), (512, 12)),
    "ViT-B-16": _vit(512, 224, 16, (768, 12), (512, 12)),
    "ViT-L-14": _vit(768, 224, 14, (1024, 24), (768, 12)),
    "ViT-L-14-336": _vit(768, 336, 14, (1024, 24), (768, 12)),
}
