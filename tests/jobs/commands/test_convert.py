"""`openwit convert`: what it prints, and how a mistake ends."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from cyclopts import App

from jobs.commands.convert import convert
from pipeline.dataset.errors import UserError
from trainer.checkpoints.weights import load_weights, save_weights
from trainer.models.config import ModelConfig, model_config
from trainer.models.init import new_clip

pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "ours.safetensors"
    save_weights(path, new_clip(model_config("ViT-Ti-8-32px"), seed=0), {})
    return path


def command(*words: object) -> None:
    app = App(result_action="return_value")
    app.default(convert)
    app([str(word) for word in words], exit_on_error=False)


def test_it_says_what_it_wrote(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(weights, tmp_path / "hf", "--to", "hf", "--image-size", 64, "--context-length", 40)
    assert "custom, gelu, 64 px, 40 tokens, as hf" in capsys.readouterr().out
    back = tmp_path / "back.safetensors"
    command(tmp_path / "hf", back, "--to", "openwit", "--activation", "gelu", "--json")
    record = json.loads(capsys.readouterr().out)
    model, saved = load_weights(back)
    assert record["sha256"] == saved["weights_sha256"]
    assert ModelConfig(**record["model"]) == model.config
    assert asdict(model.config) == asdict(model_config("ViT-Ti-8-32px")) | {
        "image_size": 64,
        "context_length": 40,
    }


@pytest.mark.parametrize("source", ["model.pt", "none.safetensors"])
def test_a_mistake_is_one_line_for_the_user(source: str, tmp_path: Path) -> None:
    dest = tmp_path / "out.safetensors"
    with pytest.raises(UserError, match=source) as caught:
        command(tmp_path / source, dest, "--to", "openwit")
    assert "\n" not in str(caught.value)
    assert not dest.exists()
