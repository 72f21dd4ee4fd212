"""The Triton kernels, run by Triton's interpreter on the CPU, against the plain path."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests.support.dense_loss import OBJECTIVES, embeddings, exact, hints, tiled, worst_error
from trainer.losses import kernels
from trainer.losses.objectives import Pairs

pytestmark = pytest.mark.slow

pytest.importorskip("triton")
KERNELS = {"update": kernels.update, "logit_gradients": kernels.logit_gradients}
SOFTMAX = [name for name, objective in OBJECTIVES.items() if objective.loss != "siglip"]


def run(check: str, **environment: str) -> dict[str, float]:
    """One of this file's checks in a process of its own: Triton reads its settings on import."""
    here = Path(__file__)
    root = str(here.parents[3])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", here, check],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def errors() -> dict[str, float]:
    """The error of value and gradients by objective; the last tile has more than one block."""
    found = {}
    trials = [(name, 21, 8, known) for name in SOFTMAX for known in (False, True)]
    for name, count, tile, known in (*trials, ("clip, smoothed", 150, 140, True)):
        inputs, pairs = embeddings(count, 16, 100.0), in_columns(hints(count)) if known else Pairs()
        truth = exact(inputs, OBJECTIVES[name], pairs)
        with mock.patch.multiple(
            kernels, update=mock.DEFAULT, logit_gradients=mock.DEFAULT
        ) as seen:
            for kernel, called in seen.items():
                called.side_effect = KERNELS[kernel]
            ours = tiled(inputs, OBJECTIVES[name], pairs, tile=tile)
        tiles = math.ceil(count / tile) ** 2
        assert (seen["update"].call_count, seen["logit_gradients"].call_count) == (2 * tiles, tiles)
        found[f"{name}, {count} pairs, hints: {known}"] = worst_error(ours, truth)
    return found


def in_columns(pairs: Pairs) -> Pairs:
    """The same, with ids that do not lie side by side."""
    assert pairs.image_ids_B is not None and pairs.text_ids_B is not None
    image_ids_B, text_ids_B = (
        torch.stack([ids, ids], dim=1)[:, 0] for ids in (pairs.image_ids_B, pairs.text_ids_B)
    )
    return Pairs(image_ids_B, text_ids_B, pairs.weights_B)


def binaries() -> dict[str, float]:
    """Bytes of machine code of each kernel for an H100, which need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    sizes: dict[str, float] = {}
    for kernel, chosen in (
        (kernels._update_kernel, {"NUM_IDS": 2, "SMOOTH": True, "LINES": 16, "ALONG": 128}),
        (kernels._gradients_kernel, {"NUM_IDS": 2, "ROWS": 32, "COLUMNS": 128}),
    ):
        types = {}
        for name in kernel.arg_names:
            whole = name in ("lines", "length", "rows", "columns", "shift") or "stride" in name
            types[name] = "i32" if whole else "*i64" if name[-2:] in ("_a", "_b") else "*fp32"
        types.update(dict.fromkeys(chosen, "constexpr"))
        places = {(kernel.arg_names.index(name),): value for name, value in chosen.items()}
        source = ASTSource(fn=kernel, signature=types, constexprs=places)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        sizes[kernel.fn.__name__] = len(made.asm["cubin"])
    return sizes


def test_without_a_gpu_the_kernels_stay_out_of_the_way() -> None:
    assert not kernels.usable(torch.zeros(1))


def test_the_loss_goes_through_the_kernels_and_is_the_dense_one() -> None:
    found = run("errors", TRITON_INTERPRET="1")
    assert len(found) == 2 * len(SOFTMAX) + 1
    assert max(found.values()) < 1e-6, found


def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    sizes = run("binaries", TRITON_CACHE_DIR=str(tmp_path))
    assert len(sizes) == 2 and min(sizes.values()) > 0


if __name__ == "__main__":
    print(json.dumps({"errors": errors, "binaries": binaries}[sys.argv[1]]()))
