"""What one GPU makes of the trainer: a table to paste into BENCHMARKS.md.

    python -m trainer.bench_gpu --json figures.json

First that kernels and compiled blocks compute what plain code does, then steps of each model beside
open_clip's (or, without it, our towers under a dense loss), then the loss alone by size of batch,
then, with --dataset, whether real files keep the GPU busy. Needs torch, numpy and safetensors; a
dataset also pyarrow, Pillow and what else reading takes. It needs no network.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pipeline.dataset.errors import UserError
from trainer.config import Precision
from trainer.errors import ConfigError
from trainer.measure.checks import compiled_agrees, losses_agree
from trainer.measure.device import Machine, free_memory
from trainer.measure.losses import loss_figures
from trainer.measure.measurements import Measurements, StepComparison
from trainer.measure.steps import Setting, largest_batch, our_figures, peer_figures
from trainer.models.config import model_config

CHECKED_BATCH = 64


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 if all was measured and agreed, 1 if a part failed or cannot be had."""
    options = _parser().parse_args(arguments)
    try:
        device = _usable(options.device)
        settings = _settings(options, device)
        _check_dataset(options, settings)
        results = Measurements(Machine.of(device))
        print(results.machine, flush=True)
        for figure in _measured(results, options, settings, device):
            print(figure, flush=True)
            # What was measured is kept, whatever happens to the rest.
            if options.json:
                options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{results.markdown()}")
    return 0 if not results.failures and all(check.passed for check in results.checks) else 1


def _measured(
    results: Measurements,
    options: argparse.Namespace,
    settings: list[Setting],
    device: torch.device,
) -> Iterator[object]:
    """Fill the results, one figure at a time; a part that fails costs none of the others."""
    with _part(results, "agreement of losses", device):
        results.checks += losses_agree(device)
        yield from results.checks
    for setting in settings[:1]:
        if setting.compiled and setting.precision != "fp32":
            with _part(results, f"agreement of {setting.model}, compiled", device):
                results.checks.append(compiled_agrees(replace(setting, batch=CHECKED_BATCH)))
                yield results.checks[-1]
    for setting in settings:
        with _part(results, f"steps of {setting.model}", device):
            yield from _steps(results, setting, options)
    for pairs in options.loss_pairs:
        with _part(results, f"loss of {pairs:,} pairs", device):
            results.losses.append(loss_figures(pairs, device))
            yield results.losses[-1]
    yield from results.failures


def _steps(
    results: Measurements, setting: Setting, options: argparse.Namespace
) -> Iterator[object]:
    """One model: our steps, the peer's, and ours on real pairs where a dataset is given."""
    if not setting.batch:
        setting = replace(setting, batch=largest_batch(setting))
    ours = our_figures(setting)
    results.steps.append(StepComparison(ours, None))
    yield ours
    with _part(results, f"the peer's steps of {setting.model}", setting.device):
        results.steps[-1] = StepComparison(ours, peer_figures(setting))
        yield results.steps[-1].peer
    if options.dataset:
        from trainer.measure.feeding import feeding  # needs pyarrow, and the rest does not

        with _part(results, f"{setting.model} on real pairs", setting.device):
            fed = replace(setting, batch=ours.batch)
            results.feeding.append(feeding(fed, options.dataset, options.workers))
            yield results.feeding[-1]


@contextmanager
def _part(results: Measurements, name: str, device: torch.device) -> Iterator[None]:
    """What fails inside (memory, a compiler, a peer's import) is recorded, and the others go on.

    A ConfigError passes: what was asked for cannot be measured.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        results.failures.append(f"{name}: {type(error).__name__}: {line}")
    free_memory(device)


def _check_dataset(options: argparse.Namespace, settings: list[Setting]) -> None:
    """DatasetError before anything is measured, instead of after minutes."""
    if options.dataset and settings:
        from trainer.measure.feeding import open_loader

        with TemporaryDirectory() as index:
            probe = replace(settings[0], batch=1)
            open_loader(probe, options.dataset, probe.run(), Path(index))


def _settings(options: argparse.Namespace, device: torch.device) -> list[Setting]:
    """One setting per model; a batch of 0 is to be the largest that fits."""
    models, batches = options.models, options.batch or [0]
    if len(batches) == 1:
        batches = batches * len(models)
    if len(batches) != len(models):
        raise ConfigError(f"--batch: {len(batches)} sizes for {len(models)} models; give 1 or all")
    compiled = device.type == "cuda" if options.compile is None else options.compile
    precision: Precision = options.precision
    settings = []
    for model, batch in zip(models, batches, strict=True):
        length = options.text_length or model_config(model).context_length
        mode = (precision, compiled, options.steps, options.deterministic)
        settings.append(Setting(model, batch, device, length, *mode))
    return settings


def _usable(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch finds no GPU here; try --device cpu")
    return device


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
        help="pairs per step: one size, or one per model; default: what fits",
    )
    add("--precision", choices=["bf16", "fp16", "fp32"], default="bf16")
    add("--text-length", type=int, help="tokens of our texts; default: all, as the peer has them")
    add("--steps", type=int, default=30, help="steps that a median is of")
    add("--device", default="cuda")
    add("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    add(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="kernels that give the same bits every time, as a run has by default",
    )
    add("--loss-pairs", nargs="*", type=int, default=[8192, 32768, 131072])
    add("--dataset", type=Path, help="a folder of pairs to feed the steps from as well")
    add("--workers", type=int, default=16, help="processes that decode, with --dataset")
    add("--json", type=Path, help="a file to write all figures to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
