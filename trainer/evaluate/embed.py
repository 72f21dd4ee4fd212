"""Unit embeddings of images and texts, batch by batch, in float32.

Images go through the transform of CLIP's own evaluation: bicubic to the short side, centre crop.
Shapes: N items, E embedding.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.data import images
from trainer.data.augment import normalise
from trainer.models.clip import CLIP
from trainer.text.tokenizer import encode_batch, pad

T = TypeVar("T")


@torch.inference_mode()
def embed_images(
    model: CLIP, encoded: Iterable[bytes], batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Unit rows (N, E) on the CPU, and which images decoded (N,); the others' rows are zeros."""
    rows, decoded = [torch.zeros(0, model.config.embed_dim)], [torch.zeros(0, dtype=torch.bool)]
    for batch in _batched(encoded, batch_size):
        pixels, sound = _pixels(batch, model.config.image_size)
        features = model.encode_image(normalise(torch.from_numpy(pixels).to(device)))
        ok = torch.from_numpy(sound)
        rows.append(F.normalize(features.float(), dim=-1).cpu() * ok[:, None])
        decoded.append(ok)
    return torch.cat(rows), torch.cat(decoded)


@torch.inference_mode()
def embed_texts(model: CLIP, texts: Sequence[str], batch_size: int, device: torch.device) -> Tensor:
    """Unit rows (N, E) on the CPU."""
    rows = [torch.zeros(0, model.config.embed_dim)]
    for batch in _batched(texts, batch_size):
        tokens = pad(encode_batch(batch, model.config.context_length))
        features = model.encode_text(torch.from_numpy(tokens).to(device))
        rows.append(F.normalize(features.float(), dim=-1).cpu())
    return torch.cat(rows)


def _pixels(batch: Sequence[bytes], side: int) -> tuple[images.Pixels, np.ndarray]:
    pixels = np.zeros((len(batch), side, side, 3), np.uint8)
    sound = np.ones(len(batch), bool)
    for index, data in enumerate(batch):
        try:
            pixels[index] = images.square(data, side)
        except images.BadImage:
            sound[index] = False
    return pixels, sound


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
