"""`openwit convert`: a model's weights between openwit's, OpenAI's, open_clip's and Hugging Face's.

The work is the trainer's; here are the words of the command.
"""

import json
from pathlib import Path
from typing import Literal

from jobs.commands.options import Json
from pipeline.dataset.errors import UserError


def convert(
    source: Path,
    dest: Path,
    *,
    to: Literal["openwit", "openai", "open_clip", "hf"],
    activation: Literal["quick_gelu", "gelu"] | None = None,
    vision_heads: int | None = None,
    image_size: int | None = None,
    context_length: int | None = None,
    json_: Json = False,
) -> None:
    """Convert a CLIP's weights between openwit, OpenAI, open_clip and Hugging Face, bit by bit.

    Parameters
    ----------
    source
        A .safetensors file (openwit's, OpenAI's or open_clip's names) or a folder of Hugging Face's
        CLIPModel. Pickles (.pt, .bin) are not opened.
    dest
        The file to write; with --to hf, the folder.
    to
        Whose format to write.
    activation
        What the model was trained with, where the source does not record it.
    vision_heads
        Attention heads of a ViT wider than 1024, where the source does not record them.
    image_size
        Height and width of images in pixels, to interpolate positions to.
    context_length
        Most tokens of a text, to interpolate positions to; a shorter one keeps the first.
    """
    # Late: it imports torch, which takes seconds.
    from trainer.interchange.convert import convert as convert_weights

    try:
        record = convert_weights(
            source,
            dest,
            to,
            activation=activation,
            vision_heads=vision_heads,
            image_size=image_size,
            context_length=context_length,
        )
    except OSError as error:
        raise UserError(str(error)) from error
    if json_:
        print(json.dumps(record, indent=1))
        return
    model = record["model"]
    shape = f"{model['activation']}, {model['image_size']} px, {model['context_length']} tokens"
    print(f"{record['dest']}: {record['name']}, {shape}, as {to}")
