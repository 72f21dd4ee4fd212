"""What makes a run the same run: defaults, fields added later, checkpoints of older versions."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import coloured_pairs, write_dataset
from tests.support.micro import BASE, config
from trainer.checkpoints.weights import load_weights
from trainer.config import TRAIN_VERSION, RunConfig, TrainConfig
from trainer.data.loader import Source
from trainer.errors import CheckpointError
from trainer.run.identity import differences
from trainer.train import train

pytestmark = pytest.mark.usefixtures("micro")


@dataclass(frozen=True, kw_only=True)
class Later(TrainConfig):
    """The configuration of a later version, with a field that is neutral by default."""

    ema_decay: float = 0.0
    """Decay of averaged weights; 0 turns them off."""


def trained(workdir: Path, settings: TrainConfig) -> int:
    """Train in a folder, or resume there; the steps done."""
    dataset = workdir / "dataset"
    if not dataset.exists():
        write_dataset(dataset, coloured_pairs(16))
    return train(settings, [Source(dataset)], workdir / "run", RunConfig(num_threads=1)).steps


def identity(train: dict[str, Any], **rest: Any) -> dict[str, Any]:
    common = {"version": TRAIN_VERSION, "dataset": "d" * 32, "start": None}
    return {"train": train, **common, **rest}


def test_an_identity_holds_what_is_required_and_what_differs_from_its_default() -> None:
    required: dict[str, Any] = {"model": "micro", "steps": 3}
    assert TrainConfig(**required, lr=0.001).identity() == required
    assert config(pos_reg=0.3).identity() == BASE | {"pos_reg": 0.3}
    assert TrainConfig(**required, weight_decay=0).identity()["weight_decay"] == 0


def test_a_record_holds_every_field_and_makes_the_same_configuration() -> None:
    settings = config(pos_reg=0.3)
    assert settings.record().keys() == {field.name for field in fields(TrainConfig)}
    assert TrainConfig.from_dict(settings.record()) == settings
    assert TrainConfig.from_dict(settings.identity()) == settings


def test_finished_weights_record_every_field(tmp_path: Path) -> None:
    trained(tmp_path, config(steps=2))
    _, record = load_weights(tmp_path / "run/model.safetensors")
    assert record["train"] == config(steps=2).record()


def test_a_field_added_with_a_neutral_default_changes_no_identity() -> None:
    assert Later.from_dict(BASE).identity() == config().identity()
    assert Later.from_dict({**BASE, "ema_decay": 0.9}).identity() == BASE | {"ema_decay": 0.9}


def test_a_checkpoint_from_before_a_field_was_added_resumes_unless_it_is_used(
    tmp_path: Path,
) -> None:
    assert trained(tmp_path, config(steps=2)) == 2
    assert trained(tmp_path, Later.from_dict({**BASE, "steps": 2})) == 2
    with pytest.raises(CheckpointError, match=r"\(ema_decay: 0\.0 there, 0\.9 here\)"):
        trained(tmp_path, Later.from_dict({**BASE, "steps": 2, "ema_decay": 0.9}))


def test_a_checkpoint_that_records_all_fields_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As checkpoints were before identities left defaults out."""
    with monkeypatch.context() as patched:
        patched.setattr(TrainConfig, "identity", TrainConfig.record)
        assert trained(tmp_path, config(steps=2)) == 2
    (state,) = (tmp_path / "run/checkpoints").glob("step-*/state.json")
    assert json.loads(state.read_bytes())["facts"]["identity"]["train"] == config(steps=2).record()
    assert trained(tmp_path, config(steps=2)) == 2
    assert trained(tmp_path, Later.from_dict({**BASE, "steps": 2})) == 2
    with pytest.raises(CheckpointError, match=r"\(lr: 0\.003 there, 0\.001 here\)"):
        trained(tmp_path, config(steps=2, lr=0.001))


@pytest.mark.parametrize(
    ("recorded", "current", "message"),
    [
        (BASE, BASE | {"seed": 0}, ""),
        (BASE | {"pos_reg": 0}, BASE, ""),
        (BASE, BASE | {"seed": 4}, "seed: 0 there, 4 here"),
        (BASE | {"seed": 4}, BASE, "seed: 4 there, 0 here"),
        (BASE, BASE | {"steps": 31}, "steps: 30 there, 31 here"),
        (
            BASE | {"loss": "siglip"},
            BASE | {"flip": True},
            "flip: False there, True here; loss: 'siglip' there, 'clip' here",
        ),
        (BASE | {"since_removed": 1}, BASE, "since_removed: 1 there, unknown here"),
    ],
)
def test_differences_name_each_field_with_both_values(
    recorded: dict[str, Any], current: dict[str, Any], message: str
) -> None:
    defaults = TrainConfig.defaults()
    assert differences(identity(recorded), identity(current), defaults) == message


def test_another_dataset_and_other_initial_weights_are_differences() -> None:
    message = differences(
        identity(BASE), identity(BASE, dataset="e" * 32, start="f" * 64), TrainConfig.defaults()
    )
    assert message == (
        f"dataset: digest {'d' * 32} there, {'e' * 32} here; start: other weights to start from"
    )


def test_a_checkpoint_of_another_version_is_refused_whatever_its_fields() -> None:
    """A changed default is a new version: left out of an identity, it would pass unseen."""
    defaults = TrainConfig.defaults()
    message = differences(identity(BASE), identity(BASE, version=TRAIN_VERSION + 1), defaults)
    assert message == f"version: {TRAIN_VERSION} there, {TRAIN_VERSION + 1} here"
    before = {name: value for name, value in identity(BASE).items() if name != "version"}
    assert differences(before, identity(BASE, version=3), defaults) == ""
    assert differences(before, identity(BASE, version=4), defaults) == "version: 3 there, 4 here"
