"""The GPU's bench on a CPU: that it measures what it says, and says what it cannot measure."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.folders import coloured_pairs, write_dataset
from trainer.bench_gpu import main
from trainer.config import Objective, TrainConfig
from trainer.losses.objectives import contrastive_loss
from trainer.measure import checks, steps
from trainer.measure.checks import Check, compiled_agrees, losses_agree
from trainer.measure.losses import WIDTH, loss_figures, unit_rows
from trainer.measure.measurements import Measurements, StepComparison
from trainer.measure.peers import dense_loss, dense_step, open_clip_step
from trainer.measure.steps import DENSE, Setting, StepFigures, noise_batch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
TINY = "ViT-Ti-8-32px"
FAST = ["--precision", "fp32", "--batch", "32", "--steps", "2"]
QUICK = ["--device", "cpu", "--models", TINY, *FAST]
BARE = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"PIL", "pyarrow", "regex", "ftfy", "ray", "open_clip"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
from trainer.bench_gpu import main
sys.exit(main(sys.argv[1:]))
"""


def test_one_command_gives_a_table_and_the_same_figures_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], open_clip: object
) -> None:
    path, dataset = tmp_path / "figures.json", tmp_path / "pairs"
    write_dataset(dataset, coloured_pairs(64))
    fed = ["--dataset", str(dataset), "--workers", "0"]
    assert main([*QUICK, "--loss-pairs", "256", "--json", str(path), *fed]) == 0
    printed = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert [check["passed"] for check in found["checks"]] == [True] * len(found["checks"])
    [pair] = found["steps"]
    assert pair["ours"]["who"] == "openwit"
    assert pair["peer"]["who"].startswith("open_clip 3")
    assert pair["ratio"] == pair["ours"]["samples_per_s"] / pair["peer"]["samples_per_s"]
    assert found["losses"][0]["pairs"] == 256
    assert 0 <= found["feeding"][0]["data_wait"] <= 1
    assert f"| {TINY} | openwit | 32 | 32 | fp32 |" in printed
    assert f"### {found['machine']['device']}" in printed


def test_torch_numpy_and_safetensors_are_enough() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, *QUICK, "--loss-pairs"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert f"| {TINY} | {DENSE} |" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--device", "cpu", "--models", TINY], "batch: say how large"),
        (["--device", "cpu", "--models", "ViT-X", "--batch", "8"], "there is no 'ViT-X'"),
        ([*QUICK, "--text-length", "40"], "text length 40"),
        ([*QUICK, "--batch", "8", "8"], "2 sizes for 1 models"),
        (["--device", "cuda"], "torch finds no GPU here"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(arguments) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


def _fails(error: Exception) -> Callable[..., object]:
    def call(*_: object, **__: object) -> object:
        raise error

    return call


@pytest.mark.parametrize(
    ("part", "error", "left"),
    [
        ("losses_agree", RuntimeError("no gcc"), {"steps": 1, "losses": 1}),
        ("our_figures", torch.OutOfMemoryError("full"), {"steps": 0, "losses": 1}),
        ("peer_figures", RuntimeError("no such operator"), {"steps": 1, "losses": 1}),
        ("loss_figures", RuntimeError("no kernel"), {"steps": 1, "losses": 0}),
    ],
)
def test_a_part_that_fails_costs_none_of_the_others(
    part: str,
    error: Exception,
    left: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"trainer.bench_gpu.{part}", _fails(error))
    path = tmp_path / "figures.json"
    assert main([*QUICK, "--loss-pairs", "64", "--json", str(path)]) == 1
    found = json.loads(path.read_text())
    assert {name: len(found[name]) for name in left} == left
    assert str(error) in found["failures"][0]
    assert f"Not measured: {found['failures'][0]}" in capsys.readouterr().out
    if part == "peer_figures":
        assert found["steps"][0]["ours"]["who"] == "openwit" and not found["steps"][0]["peer"]


def test_a_dataset_that_is_not_there_is_told_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*QUICK, "--dataset", "/nowhere"]) == 1
    out, errors = capsys.readouterr()
    assert not out and "there is no such folder" in errors


def test_compiled_blocks_that_compute_something_else_do_not_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compile_ = torch.nn.Module.compile

    def compile_without_a_compiler(module: torch.nn.Module, **options: Any) -> None:
        compile_(module, **options, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_a_compiler)
    setting = Setting(TINY, 16, CPU, 32, "bf16", True, 1)
    assert compiled_agrees(setting).passed
    gradient = checks._gradient

    def off_where_compiled(some: Setting) -> torch.Tensor:
        return gradient(some) * (1.1 if some.compiled else 1)

    monkeypatch.setattr(checks, "_gradient", off_where_compiled)
    assert not compiled_agrees(setting).passed


def test_a_check_that_fails_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Check("kernels", 1.0, 1e-5)]
    monkeypatch.setattr("trainer.bench_gpu.losses_agree", lambda device: wrong)
    assert main(["--device", "cpu", "--models", "--loss-pairs"]) == 1


def test_a_loss_that_is_wrong_does_not_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.passed for check in losses_agree(CPU))

    def off_in_float32(image: torch.Tensor, *rest: Any, **tile: Any) -> object:
        off = 1.001 if image.dtype == torch.float32 else 1
        return contrastive_loss(image * off, *rest, **tile)

    monkeypatch.setattr("trainer.measure.checks.contrastive_loss", off_in_float32)
    assert not any(check.passed for check in losses_agree(CPU))


def test_the_dense_loss_is_the_one_that_ours_is_measured_against() -> None:
    image, text = unit_rows(100, CPU, 0), unit_rows(100, CPU, 1)
    scale = torch.tensor(14.0)
    ours = contrastive_loss(image, text, scale, None, Objective()).value
    torch.testing.assert_close(dense_loss(image, text, scale), ours)
    assert image.shape == (100, WIDTH)


def test_both_peers_begin_at_the_loss_of_chance_and_learn(open_clip: object) -> None:
    config = TrainConfig(model=TINY, steps=10, batch_size=32)
    batch = noise_batch(config, 32, CPU)
    torch.manual_seed(0)  # open_clip's first weights are drawn from torch's own generator
    pixels = torch.randn(32, 3, 32, 32)  # standardised, as a step's are
    for make in (open_clip_step, dense_step):
        peer = make(config, CPU, False)
        losses = [peer(pixels, batch.tokens) for _ in range(20)]
        assert losses[0] == pytest.approx(torch.tensor(32.0).log().item(), abs=0.5)
        assert losses[-1] is not None and losses[-1] < 0.1


def test_the_peer_is_the_same_model(open_clip: object) -> None:
    config = TrainConfig(model=TINY, steps=10, batch_size=2)
    theirs, ours = open_clip_step(config, CPU, False).model, dense_step(config, CPU, False).model
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (theirs, ours)]
    assert shapes[0] == shapes[1]


def test_a_batch_that_memory_refuses_gives_way_to_a_smaller_one() -> None:
    tried = []

    def make(setting: Setting) -> Callable[[], object]:
        tried.append(setting.batch)
        if setting.batch > 100:
            raise torch.OutOfMemoryError
        return lambda: None

    figures = steps._figures("openwit", Setting(TINY, 256, CPU, 32, "fp32", False, 1), make)
    assert tried == [256, 192, 128, 64]
    assert figures.batch == 64


def test_a_loss_nobody_has_room_for_is_skipped_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.measure.losses.total_bytes", lambda device: 10**6)
    found = loss_figures(512, CPU)
    assert found.skipped == "does not fit: at least 0 GB" and found.dense_seconds is None


def figures(who: str, rate: float, share: float) -> StepFigures:
    return StepFigures(who, "ViT-B-32", 8, 77, "bf16", True, 1.0, rate, 1.0, share, None, None)


@pytest.mark.parametrize(
    ("ours", "peer", "met"),
    [
        (figures("openwit", 130, 0.35), figures("open_clip 3.3.0", 100, 0.2), True),
        (figures("openwit", 129, 0.35), figures("open_clip 3.3.0", 100, 0.2), False),
        (figures("openwit", 200, 0.34), figures("open_clip 3.3.0", 100, 0.2), False),
        (figures("openwit", 200, 0.50), figures(DENSE, 100, 0.2), None),
    ],
)
def test_a_goal_is_met_by_utilisation_and_ratio_to_the_real_peer(
    ours: StepFigures, peer: StepFigures, met: bool | None
) -> None:
    assert StepComparison(ours, peer).met is met


def test_utilisation_is_arithmetic_by_the_clock() -> None:
    setting = Setting("ViT-B-32", 1000, CPU, 77, "bf16", True, 1)
    found = steps._derived("openwit", setting, seconds=0.1, memory=None)
    assert found.samples_per_s == 10_000
    assert found.tflops == pytest.approx(443, rel=0.01)  # 44.3 GFLOP a pair in training
    assert found.of_usable == pytest.approx(443 / 800, rel=0.01)


def test_an_empty_page_is_a_heading() -> None:
    from trainer.measure.device import Machine

    measured = Measurements(Machine("H100", "570.1", 16, "2.13.0", "abc"))
    assert measured.markdown() == "### H100, 16 cores, driver 570.1, torch 2.13.0, commit abc\n"
