"""What one GPU makes of the trainer: a table to paste into BENCHMARKS.md.

    python -m trainer.bench_gpu --json figures.json

First that kernels and compiled blocks compute what plain code does, then steps of each model beside
open_clip's (or, without it, our towers under a dense loss), then the loss alone by size of batch,
then, with --dataset, whether real files keep the GPU busy. Needs torch, numpy and safetensors; a
dataset also pyarrow, Pillow and what else reading takes. Nothing is asked of a network.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from trainer.config import Precision
from trainer.errors import ConfigError, TrainerError
from trainer.measure.checks import Check, compiled_agrees, losses_agree
from trainer.measure.device import Machine
from trainer.measure.losses import loss_figures
from trainer.measure.page import Page, Steps
from trainer.measure.steps import Setting, largest_batch, our_figures, peer_figures
from trainer.models.config import model_config

CHECKED_BATCH = 64


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 if everything agreed, 1 if a check failed or what was asked cannot be had."""
    options = _parser().parse_args(arguments)
    try:
        device = _usable(options.device)
        page = Page(Machine.of(device))
        print(page.machine, flush=True)
        for _ in _measured(page, options, device):
            # What was measured is kept, whatever happens to the rest.
            if options.json:
                options.json.write_text(json.dumps(page.as_json(), indent=1) + "\n")
    except TrainerError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{page.markdown()}")
    return 0 if all(check.passed for check in page.checks) else 1


def _measured(page: Page, options: argparse.Namespace, device: torch.device) -> Iterator[None]:
    """Fill the page, one figure at a time."""
    settings = _settings(options, device)
    for check in _checks(settings, device):
        page.checks.append(check)
        yield from _told(check)
    for setting in settings:
        if not setting.batch:
            setting = replace(setting, batch=largest_batch(setting))
        ours = our_figures(setting)
        print(ours, flush=True)
        page.steps.append(Steps(ours, peer_figures(setting)))
        yield from _told(page.steps[-1].peer)
        if options.dataset:
            from trainer.measure.feeding import feeding  # needs pyarrow, and the rest does not

            fed = replace(setting, batch=ours.batch)
            page.feeding.append(feeding(fed, options.dataset, options.workers))
            yield from _told(page.feeding[-1])
    for pairs in options.loss_pairs:
        page.losses.append(loss_figures(pairs, device))
        yield from _told(page.losses[-1])


def _checks(settings: list[Setting], device: torch.device) -> Iterator[Check]:
    yield from losses_agree(device)
    for setting in settings[:1]:
        if setting.compiled:
            yield compiled_agrees(replace(setting, batch=CHECKED_BATCH))


def _settings(options: argparse.Namespace, device: torch.device) -> list[Setting]:
    """One a model; a batch of 0 is to be the largest that fits."""
    models, batches = options.models, options.batch or [0]
    if len(batches) == 1:
        batches = batches * len(models)
    if len(batches) != len(models):
        raise ConfigError(f"--batch: {len(batches)} sizes for {len(models)} models; give 1 or all")
    compiled = device.type == "cuda" if options.compile is None else options.compile
    precision: Precision = options.precision
    made = []
    for model, batch in zip(models, batches, strict=True):
        length = options.text_length or model_config(model).context_length
        made.append(Setting(model, batch, device, length, precision, compiled, options.steps))
    return made


def _usable(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch finds no GPU here; try --device cpu")
    return device


def _told(found: object) -> Iterator[None]:
    """Print a figure, and let the page be kept with it."""
    print(found, flush=True)
    yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.bench_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    models = ["ViT-B-32", "ViT-B-16", "ViT-L-14"]
    add("--models", nargs="*", default=models, help=f"shapes to train (default: {models})")
    add(
        "--batch",
        nargs="*",
        type=int,
        help="pairs a step: one size, or one a model; default: what fits",
    )
    add("--precision", choices=["bf16", "fp16", "fp32"], default="bf16")
    add("--text-length", type=int, help="tokens of our texts; default: all, as the peer has them")
    add("--steps", type=int, default=30, help="steps that a median is of")
    add("--device", default="cuda")
    add("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    add("--loss-pairs", nargs="*", type=int, default=[8192, 32768, 131072])
    add("--dataset", type=Path, help="a folder of pairs to feed the steps from as well")
    add("--workers", type=int, default=16, help="processes that decode, with --dataset")
    add("--json", type=Path, help="a file to write all figures to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
