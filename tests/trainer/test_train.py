"""Whole runs: they learn, they say what they used, and they say what is wrong."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.dataset.errors import DatasetError
from tests.support.folders import Pair, coloured_pairs, write_dataset
from tests.support.micro import MICRO, config, result_bytes
from trainer.checkpoints.weights import load_weights
from trainer.config import RunConfig, TrainConfig
from trainer.data.loader import Loader, Source
from trainer.errors import CheckpointError, ConfigError
from trainer.run.initial_weights import InitialWeights
from trainer.run.loop import TrainResult
from trainer.train import main, train

pytestmark = [pytest.mark.usefixtures("micro"), pytest.mark.slow]

Squares = Callable[..., Path]


def go(made: TrainConfig, dataset: Path, workdir: Path, **options: Any) -> TrainResult:
    return train(made, [Source(dataset)], workdir, RunConfig(num_threads=1), **options)


def test_a_run_learns_and_reports(squares: Squares, tmp_path: Path) -> None:
    rows: list[Any] = []
    run = tmp_path / "run"
    result = go(config(steps=120), squares(40), run, progress=rows.append)
    assert rows == list(result.metrics)
    assert [row.step for row in rows] == list(range(4, 121, 4))
    assert rows[-1].loss < 0.75 * rows[0].loss
    assert rows[-1].positive_cosine > rows[0].positive_cosine
    assert result.seen[0].all() and result.bad == ()
    assert (result.steps, result.samples_seen, result.refused_steps) == (120, 1920, 0)
    logged = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert all(record["samples_per_s"] > 0 for record in logged) and len(logged) == len(rows)
    assert all(0 <= record["data_wait"] <= 1 for record in logged)


def test_the_geometry_that_is_logged_is_that_of_the_embeddings(
    squares: Squares, tmp_path: Path
) -> None:
    result = go(config(), squares(40), tmp_path / "run")
    for row in result.metrics:
        assert row.alignment == pytest.approx(2 - 2 * row.positive_cosine, abs=1e-5)
        assert -8 <= row.uniformity <= 0 and 0 <= row.modality_gap <= 2


def test_a_second_run_gives_the_same_bits_and_another_seed_others(
    squares: Squares, tmp_path: Path
) -> None:
    dataset = squares(40)
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        go(config(seed=seed), dataset, tmp_path / name)
    assert result_bytes(tmp_path / "one") == result_bytes(tmp_path / "two")
    assert result_bytes(tmp_path / "one") != result_bytes(tmp_path / "three")


def test_decoding_in_workers_gives_the_same_bits(squares: Squares, tmp_path: Path) -> None:
    dataset = squares(40)
    go(config(steps=6), dataset, tmp_path / "threads")
    run = RunConfig(num_threads=1, num_workers=2)
    train(config(steps=6), [Source(dataset)], tmp_path / "workers", run)
    assert result_bytes(tmp_path / "threads") == result_bytes(tmp_path / "workers")


def test_seen_and_bad_say_which_pairs_were_used(tmp_path: Path) -> None:
    pairs = coloured_pairs(64)
    pairs[3] = Pair(pairs[3].uid, b"broken", pairs[3].caption)
    dataset = write_dataset(tmp_path / "data", pairs)
    short = go(config(steps=2), dataset, tmp_path / "short")
    assert short.seen[0].sum() == 32
    epoch = go(config(steps=4), dataset, tmp_path / "epoch")
    assert epoch.seen[0].all()
    assert epoch.bad == (pairs[3].uid.hex(),)


def test_more_undecodable_pictures_than_the_budget_end_the_run_with_their_uids(
    tmp_path: Path,
) -> None:
    pairs = coloured_pairs(64)
    for row in (3, 40):
        pairs[row] = Pair(pairs[row].uid, b"broken", pairs[row].caption)
    dataset = write_dataset(tmp_path / "data", pairs)
    with pytest.raises(DatasetError, match=rf"over the budget.*{pairs[40].uid.hex()}"):
        go(config(steps=400), dataset, tmp_path / "strict")
    generous = go(config(steps=100, bad_budget=0.05), dataset, tmp_path / "generous")
    assert generous.bad == (pairs[3].uid.hex(), pairs[40].uid.hex())


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"pos_reg": 0.3},
        {"loss": "siglip"},
        {"loss": "cyclip"},
        {"label_smoothing": 0.1},
        {"mask_duplicates": True},
        {"patch_dropout": 0.5},
        {"flip": True},
        {"colour_jitter": 0.4},
        {"context_length": 4},
    ],
)
def test_options_change_the_result_and_stay_finite(tmp_path: Path, changes: dict[str, Any]) -> None:
    pairs = coloured_pairs(24)
    pairs += [Pair((99).to_bytes(16, "big"), pairs[0].image, pairs[0].caption)]
    dataset = write_dataset(tmp_path / "data", pairs)
    plain = go(config(batch_size=25), dataset, tmp_path / "plain")
    other = go(config(batch_size=25, **changes), dataset, tmp_path / "other")
    assert np.isfinite([row.loss for row in other.metrics]).all()
    assert plain.weights.read_bytes() != other.weights.read_bytes()


def test_weights_come_back_with_their_shape_and_are_checked(
    squares: Squares, tmp_path: Path
) -> None:
    result = go(config(), squares(25), tmp_path / "run")
    model, record = load_weights(result.weights)
    assert model.config == MICRO and record["step"] == 30
    result.weights.write_bytes(result.weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(CheckpointError, match="not those that were saved"):
        load_weights(result.weights)


def test_a_run_may_start_from_weights_for_a_longer_context(
    squares: Squares, tmp_path: Path
) -> None:
    dataset = squares(25)
    first = go(config(), dataset, tmp_path / "first")
    longer = config(steps=1, context_length=16, lr=0.0, warmup_steps=0)
    second = go(longer, dataset, tmp_path / "second", initial_weights=InitialWeights(first.weights))
    before, after = (load_weights(each.weights)[0].state_dict() for each in (first, second))
    assert after.pop("positional_embedding").shape == (16, 8)
    before.pop("positional_embedding")
    assert all(torch.equal(before[name], after[name]) for name in after)
    with pytest.raises(ConfigError, match=r"another architecture: .*vision_layers 1, not 4"):
        go(
            config(model="ViT-Ti-8-32px"),
            dataset,
            tmp_path / "other",
            initial_weights=InitialWeights(first.weights),
        )


def test_a_missing_shard_is_one_line_before_anything_is_computed(
    squares: Squares, tmp_path: Path
) -> None:
    dataset = squares(25)
    (dataset / "parts" / "00001.arrow").unlink()
    with pytest.raises(DatasetError, match=r"00001\.arrow"):
        go(config(), dataset, tmp_path / "run")


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
        ({"loss": "triplet"}, "clip, siglip, cyclip"),
        ({"patch_dropout": 1.0}, "patch_dropout"),
        ({"model": "RN50", "patch_dropout": 0.5}, "ResNet"),
        ({"context_length": 2}, "context_length"),
        ({"lr": float("nan")}, "lr: nan is no finite number"),
        ({"grad_clip_norm": float("inf")}, "grad_clip_norm: inf"),
        ({"beta2": 1.0}, r"beta2: 1\.0 is not in \[0, 1\)"),
        ({"eps": -1.0}, "eps"),
    ],
)
def test_mistakes_in_a_configuration_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = tmp_path / "run.json"
    base = {"dataset": "nowhere", "workdir": str(tmp_path / "x"), "model": "micro", "steps": 3}
    for text, message in (
        ("{", "run.json: not an object"),
        ("[]", "run.json: not an object"),
        ("{}", "run.json: not an object"),
        ('{"dataset": "nowhere", "workdir": "x"}', "['model', 'steps'] are required"),
        (json.dumps(base | {"keep_last": 1}), "keep_last: 1 is less than 2"),
        (json.dumps(base | {"keep_lst": 3}), "'keep_last', "),
        (json.dumps(base | {"hang_after_s": 0}), "hang_after_s: 0 is less than 1"),
        (json.dumps(base | {"start": 5}), "run.json: not an object"),
        (json.dumps(base | {"device": "cuda"}), "torch finds no GPU"),
        (json.dumps(base | {"device": "banana"}), "device: 'banana' is none of cpu, cuda"),
        (json.dumps(base | {"device": "meta"}), "device: 'meta' is none of cpu, cuda"),
        (json.dumps(base | {"workdir": str(order)}), "run.json: File exists"),
        (json.dumps(base | {"start": "nothing"}), "nothing"),
        (json.dumps(base), "nowhere"),
    ):
        order.write_text(text)
        assert main([str(order)]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_dataset_is_verified_after_all_that_can_be_told_at_once(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loader, "verify", lambda loader: pytest.fail("verified first"))
    run = RunConfig(num_threads=1, verify=True, wandb="p")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="wandb"):
        train(config(), [Source(squares(25))], tmp_path / "run", run)
    go(config(), squares(30), tmp_path / "run")  # the folder was let go of


def test_a_full_disk_at_the_end_is_told_in_a_line(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:100])
        raise OSError(28, "No space left on device")

    dataset, workdir = squares(25), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("trainer.checkpoints.files.write_durably", full)
        with pytest.raises(CheckpointError, match=r"safetensors: not written, No space left"):
            go(config(), dataset, workdir)
    assert not list(workdir.glob(".*.tmp"))
    go(config(), dataset, workdir)


def test_help_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for record in (TrainConfig, RunConfig):
        assert all(f"\n  {name} (" in text for name in record.__dataclass_fields__)
    assert "Lambda of the positive-pair regulariser" in text
