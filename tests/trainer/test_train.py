"""Whole runs: they learn, they say what they used, and they say what is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folders import Pair, coloured_pairs, write_dataset
from micro import MICRO, config, result_bytes

from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.errors import CheckpointError, ConfigError, Diverged
from trainer.losses import Loss
from trainer.models.init import new_clip
from trainer.step import learning_rate
from trainer.train import main, train
from trainer.weights import load_weights

pytestmark = pytest.mark.usefixtures("micro")

Squares = Callable[..., Path]


def test_a_run_learns_and_reports(squares: Squares, tmp_path: Path) -> None:
    rows: list[Any] = []
    made = config(steps=120, lr=1e-2)
    run = tmp_path / "run"
    result = train(made, squares(40), run, num_threads=1, progress=rows.append)
    assert rows == list(result.metrics)
    assert [row.step for row in rows] == list(range(4, 121, 4))
    assert rows[-1].loss < 0.75 * rows[0].loss
    assert rows[-1].positive_cosine > rows[0].positive_cosine
    assert result.seen.all() and result.bad == ()
    assert (result.steps, result.samples_seen, result.refused_steps) == (120, 1920, 0)
    logged = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert all(record["samples_per_s"] > 0 for record in logged) and len(logged) == len(rows)


def test_a_second_run_gives_the_same_bits_and_another_seed_others(
    squares: Squares, tmp_path: Path
) -> None:
    dataset = squares(40)
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(config(seed=seed), dataset, tmp_path / name, num_threads=1)
    assert result_bytes(tmp_path / "one") == result_bytes(tmp_path / "two")
    assert result_bytes(tmp_path / "one") != result_bytes(tmp_path / "three")


def test_seen_and_bad_say_which_pairs_were_used(tmp_path: Path) -> None:
    pairs = coloured_pairs(64)
    pairs[3] = Pair(pairs[3].uid, b"broken", pairs[3].caption)
    dataset = write_dataset(tmp_path / "data", pairs)
    short = train(config(steps=2), dataset, tmp_path / "short", num_threads=1)
    assert 30 <= short.seen.sum() <= 32
    epoch = train(config(steps=4), dataset, tmp_path / "epoch", num_threads=1)
    assert np.flatnonzero(~epoch.seen).tolist() == [3]
    assert epoch.bad == (pairs[3].uid.hex(),)


def test_a_run_whose_loss_is_not_finite_stops_with_its_weights_unharmed(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: torch.Tensor, *_: Any) -> Any:
        return Loss(image.sum() * torch.nan, torch.zeros(()), torch.zeros(()))

    monkeypatch.setattr("trainer.step.clip_loss", broken)
    with pytest.raises(Diverged, match="lower lr"):
        train(config(checkpoint_every_steps=15), squares(25), tmp_path / "run", num_threads=1)
    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None and (saved.facts["updates"], saved.facts["refused"]) == (0, 15)
    first = new_clip(MICRO, seed=0).state_dict()
    assert all(torch.equal(saved.model[name], first[name]) for name in first)


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"pos_reg": 0.3}, {"flip": True}, {"colour_jitter": 0.4}]
)
def test_options_change_the_result_and_stay_finite(
    squares: Squares, tmp_path: Path, changes: dict[str, Any]
) -> None:
    dataset = squares(25)
    plain = train(config(), dataset, tmp_path / "plain", num_threads=1)
    other = train(config(**changes), dataset, tmp_path / "other", num_threads=1)
    assert np.isfinite([row.loss for row in other.metrics]).all()
    assert plain.weights.read_bytes() != other.weights.read_bytes()


def test_weights_come_back_with_their_shape_and_are_checked(
    squares: Squares, tmp_path: Path
) -> None:
    result = train(config(), squares(25), tmp_path / "run", num_threads=1)
    model, record = load_weights(result.weights)
    assert model.config == MICRO and record["step"] == 30
    result.weights.write_bytes(result.weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(CheckpointError, match="not those that were saved"):
        load_weights(result.weights)


def test_the_learning_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    made = replace(config(), steps=105, warmup_steps=5, lr=1.0)
    rates = [learning_rate(step, made) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0) and rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrr": 1}, "lrr"),
        ({"model": "ViT-B-23"}, "ViT-B-32"),
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps: 'many'"),
        ({"lr": None}, "lr"),
        ({"flip": 1}, "flip"),
        ({"crop_scale_min": 0}, "crop_scale_min"),
        ({"precision": "fp8"}, "bf16"),
    ],
)
def test_mistakes_in_a_configuration_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.json"
    for text, message in (
        ("{", "run.json: not an object"),
        ("[]", "run.json: not an object"),
        ("{}", "run.json: not an object"),
        ('{"dataset": "nowhere", "workdir": "x"}', "['model', 'steps'] are required"),
    ):
        run.write_text(text)
        assert main([str(run)]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_help_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {name} (" in text for name in TrainConfig.__dataclass_fields__)
    assert "Lambda of the positive-pair regulariser" in text
