"""Weights between openwit, OpenAI, open_clip and Hugging Face: the same bits, the same outputs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from tests.support.towers import (
    SMALL_RESNET,
    SMALL_VIT,
    assert_same_embeddings,
    batch,
    open_clip_model,
    randomised,
)
from trainer.checkpoints.weights import load_weights, save_weights, write_weights
from trainer.errors import CheckpointError, ConfigError
from trainer.interchange.convert import Format, convert, known_name, read
from trainer.interchange.hugging_face import read_function
from trainer.interchange.infer import infer_config
from trainer.models.clip import CLIP
from trainer.models.config import MODELS, ModelConfig
from trainer.models.resize import resized

pytestmark = pytest.mark.slow

WITH_BIAS = replace(SMALL_VIT, activation="gelu", logit_bias=True)


def saved(folder: Path, config: ModelConfig, dtype: torch.dtype = torch.float32) -> Path:
    """A file of ours with random weights."""
    state = randomised(config).state_dict()
    cast = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()
    }
    write_weights(folder / "ours.safetensors", cast, config, {"train": {"model": "x"}, "step": 7})
    return folder / "ours.safetensors"


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    ("config", "to"),
    [
        (SMALL_VIT, "openwit"),
        (SMALL_VIT, "openai"),
        (SMALL_VIT, "open_clip"),
        (SMALL_VIT, "hf"),
        (SMALL_RESNET, "openwit"),
        (SMALL_RESNET, "openai"),
        (SMALL_RESNET, "open_clip"),
        (WITH_BIAS, "open_clip"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_there_and_back_is_the_same_bits_and_shape(
    config: ModelConfig, to: Format, dtype: torch.dtype, tmp_path: Path
) -> None:
    ours = saved(tmp_path, config, dtype)
    convert(ours, tmp_path / "theirs.safetensors", to)
    activation = None if to in ("hf", "openwit") else config.activation
    back = tmp_path / "back.safetensors"
    convert(tmp_path / "theirs.safetensors", back, "openwit", activation=activation)
    first, second = read(ours), read(back)
    assert second.config == config
    assert_same_bits(first.state, second.state)


def test_transformers_loads_what_we_write_and_embeds_the_same(
    transformers: Any, tmp_path: Path
) -> None:
    config = replace(SMALL_VIT, activation="gelu", context_length=40, text_heads=4, text_width=96)
    ours = saved(tmp_path, config)
    convert(ours, tmp_path / "hf", "hf")
    peer, told = transformers.CLIPModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(told[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    pixels, tokens = batch(config)
    model, _ = load_weights(ours)
    with torch.no_grad():
        unit, theirs = model(pixels, tokens), peer.eval()(input_ids=tokens, pixel_values=pixels)
    torch.testing.assert_close(unit.image, theirs.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(unit.text, theirs.text_embeds, atol=1e-5, rtol=0)


def test_we_load_what_transformers_writes(transformers: Any, tmp_path: Path) -> None:
    text = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 192}
    vision = {"hidden_size": 36, "num_attention_heads": 2, "intermediate_size": 144}
    few = {"num_hidden_layers": 2, "hidden_act": "gelu"}
    peer = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text | few, vision_config=vision | few | {"image_size": 64}
        )
    ).eval()
    peer.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours.safetensors", "openwit")
    model, record = load_weights(tmp_path / "ours.safetensors")
    assert (model.config.vision_heads, model.config.text_heads) == (2, 3)
    assert record["train"]["model"] == "custom"
    assert_same_embeddings(
        model,
        lambda pixels: peer.get_image_features(pixel_values=pixels).pooler_output,
        lambda tokens: peer.get_text_features(input_ids=tokens).pooler_output,
    )


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET, WITH_BIAS], ids=["vit", "rn", "bias"])
def test_open_clip_loads_what_we_write_and_embeds_the_same(
    open_clip: Any, config: ModelConfig, tmp_path: Path
) -> None:
    ours = saved(tmp_path, config)
    convert(ours, tmp_path / "theirs.safetensors", "open_clip")
    peer = open_clip_model(open_clip, config)
    open_clip.load_checkpoint(peer, str(tmp_path / "theirs.safetensors"))
    model, _ = load_weights(ours)
    assert_same_embeddings(model, peer.encode_image, peer.encode_text)


def test_open_clips_model_with_a_text_module_is_read(open_clip: Any, tmp_path: Path) -> None:
    vision = {"image_size": 32, "width": 64, "layers": 2, "patch_size": 8}
    text = {"width": 64, "heads": 1, "layers": 2}
    peer = open_clip.CustomTextCLIP(
        24, vision, text, init_logit_bias=-10.0, nonscalar_logit_scale=True
    ).eval()
    assert peer.logit_scale.shape == (1,) and "text.ln_final.weight" in peer.state_dict()
    safetensors.torch.save_file(peer.state_dict(), tmp_path / "theirs.safetensors")
    ours = tmp_path / "ours.safetensors"
    convert(tmp_path / "theirs.safetensors", ours, "openwit", activation="gelu")
    model, _ = load_weights(ours)
    assert model.logit_scale.item() == peer.logit_scale.item()
    assert model.logit_bias is not None and model.logit_bias.item() == -10
    assert_same_embeddings(model, peer.encode_image, peer.encode_text)


@pytest.mark.parametrize("name", MODELS)
def test_every_named_shape_is_seen_in_its_tensors(name: str) -> None:
    config = MODELS[name]
    with torch.device("meta"):
        state = CLIP(config).state_dict()
    assert infer_config(state, activation=config.activation) == config
    assert known_name(replace(config, activation="gelu", logit_bias=True)) == name


def test_half_precision_is_kept_on_disk_and_computed_in_float32(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_RESNET, torch.float16)
    with safe_open(ours, framework="pt") as file:
        assert file.get_tensor("visual.conv1.weight").dtype == torch.float16
    model, _ = load_weights(ours)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert model(*batch(SMALL_RESNET)).image.isfinite().all()


def test_openais_own_entries_are_read_past(tmp_path: Path) -> None:
    state = dict(randomised(SMALL_VIT).state_dict())
    extra = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    safetensors.torch.save_file(state | extra, tmp_path / "theirs.safetensors")
    assert_same_bits(read(tmp_path / "theirs.safetensors", activation="quick_gelu").state, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_of_a_training_checkpoint_are_taken_off(prefix: str, tmp_path: Path) -> None:
    state = dict(randomised(SMALL_VIT).state_dict())
    wrapped = {prefix + name: value for name, value in state.items()}
    safetensors.torch.save_file(wrapped, tmp_path / "theirs.safetensors")
    assert_same_bits(read(tmp_path / "theirs.safetensors", activation="quick_gelu").state, state)


def test_heads_that_contradict_the_record_are_refused(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    convert(ours, tmp_path / "hf", "hf")
    for source in (ours, tmp_path / "hf"):
        with pytest.raises(ConfigError, match=r"not 7; leave --vision-heads out"):
            read(source, vision_heads=7)


def test_a_temperature_with_a_dimension_is_read(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    convert(ours, tmp_path / "hf", "hf")
    path = tmp_path / "hf" / "model.safetensors"
    state = safetensors.torch.load_file(path)
    state["logit_scale"] = state["logit_scale"].reshape(1)
    safetensors.torch.save_file(state, path)
    assert_same_bits(read(tmp_path / "hf").state, read(ours).state)


def test_the_heads_of_a_wide_tower_are_asked_for(open_clip: Any, tmp_path: Path) -> None:
    """ViT-H has 16 heads of 80, though its width is a multiple of 64 too."""
    vision = {"layers": 1, "width": 1280, "head_width": 80, "patch_size": 14, "image_size": 28}
    text = {"width": 64, "heads": 1, "layers": 1}
    theirs = open_clip.model.CLIP(64, vision, text).eval()
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "h.safetensors")
    with pytest.raises(ConfigError, match=r"width 1280; say --vision-heads \(open_clip's ViT-H"):
        read(tmp_path / "h.safetensors", activation="gelu")
    weights = read(tmp_path / "h.safetensors", activation="gelu", vision_heads=16)
    ours = CLIP(weights.config)
    ours.load_state_dict(weights.state)
    pixels = torch.randn(2, 3, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.eval().encode_image(pixels), theirs.encode_image(pixels), atol=1e-5, rtol=1e-5
        )


def test_position_ids_of_older_hugging_face_files_are_read_past(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    convert(ours, tmp_path / "hf", "hf")
    path = tmp_path / "hf" / "model.safetensors"
    extra = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    safetensors.torch.save_file(safetensors.torch.load_file(path) | extra, path)
    assert_same_bits(read(tmp_path / "hf").state, read(ours).state)


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"text_config": None, "vision_config": {"num_attention_heads": 3}},
        {"vision_config": {"num_attention_heads": 3}, "vision_config_dict": None},
        {"vision_config": {"num_attention_heads": 3}, "vision_config_dict": {}},
        {"text_config": {"hidden_act": "gelu"}, "text_config_dict": {"num_attention_heads": 4}},
    ],
)
def test_config_json_is_read_as_transformers_reads_it(
    transformers: Any, described: dict[str, Any]
) -> None:
    theirs = transformers.CLIPConfig(**described)
    heads = [tower.num_attention_heads for tower in (theirs.vision_config, theirs.text_config)]
    assert theirs.text_config.hidden_act == theirs.vision_config.hidden_act
    assert read_function(described) == (theirs.vision_config.hidden_act, *heads)


def test_the_record_of_a_run_goes_on_and_a_foreign_one_says_where_it_is_from(
    tmp_path: Path,
) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    convert(ours, tmp_path / "again.safetensors", "openwit", context_length=100)
    _, record = load_weights(tmp_path / "again.safetensors")
    assert (record["step"], record["train"]) == (7, {"model": "x"})
    convert(ours, tmp_path / "hf", "hf")
    first = convert(tmp_path / "hf", tmp_path / "foreign.safetensors", "openwit")
    _, record = load_weights(tmp_path / "foreign.safetensors")
    assert record["train"] == {"model": "custom"} and record["weights_sha256"] == first["sha256"]
    assert len(record["converted"]["source_sha256"]) == 64


def test_a_file_without_its_activation_is_refused(tmp_path: Path) -> None:
    convert(saved(tmp_path, SMALL_VIT), tmp_path / "theirs.safetensors", "open_clip")
    with pytest.raises(ConfigError, match="--activation"):
        read(tmp_path / "theirs.safetensors")


def test_an_activation_that_contradicts_the_record_is_refused(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    convert(ours, tmp_path / "hf", "hf")
    for source in (ours, tmp_path / "hf"):
        assert read(source, activation="quick_gelu").config == SMALL_VIT
        with pytest.raises(ConfigError, match="recorded with quick_gelu, not gelu"):
            read(source, activation="gelu")


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.ckpt"])
def test_a_pickle_is_not_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match=r"safetensors\.torch\.save_file"):
        read(tmp_path / name, activation="gelu")


def test_a_folder_with_a_pickle_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*pickle"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("config", "to", "said"),
    [
        (SMALL_RESNET, "hf", "no ResNet"),
        (WITH_BIAS, "hf", "no logit_bias"),
        (WITH_BIAS, "openai", "no logit_bias"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    config: ModelConfig, to: Format, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        convert(saved(tmp_path, config), tmp_path / "out.safetensors", to)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_destination_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        convert(ours, tmp_path / "folder.safetensors", "openwit")
    with pytest.raises(ConfigError, match="is a file"):
        convert(ours, ours, "hf")
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        convert(ours, tmp_path / "model.pt", "openai")


def test_other_tensors_are_named(tmp_path: Path) -> None:
    state = dict(randomised(SMALL_VIT).state_dict())
    del state["visual.ln_post.bias"]
    state["visual.trunk.weight"] = torch.zeros(1)
    state["ln_final.bias"] = torch.zeros(5)
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(CheckpointError) as caught:
        read(path, activation="gelu")
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "lacks visual.ln_post.bias" in message and "unknown visual.trunk.weight" in message
    assert "ln_final.bias is (5,), not (128,)" in message


def test_files_that_cannot_be_read_are_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 10)
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("noise.safetensors", "not a safetensors file"),
        ("other.safetensors", "there is no tensor 'text_projection'"),
        ("none.safetensors", "no such file"),
        ("empty", r"config\.json: there is no such file"),
    ):
        with pytest.raises(CheckpointError, match=said) as caught:
            read(tmp_path / name, activation="gelu")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu_new"}, "gelu_new"),
        ({"hidden_act": "gelu"}, "hidden_act gelu, quick_gelu"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ({"eos_token_id": 100}, "eos_token_id 100"),
    ],
)
def test_a_function_that_is_not_ours_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    convert(saved(tmp_path, SMALL_VIT), tmp_path / "hf", "hf")
    path = tmp_path / "hf" / "config.json"
    described = json.loads(path.read_text())
    described["text_config" if "eos_token_id" in change else "vision_config"] |= change
    path.write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=said):
        read(tmp_path / "hf")


def test_a_damaged_file_of_ours_is_refused(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    data = bytearray(ours.read_bytes())
    data[-1] ^= 1
    ours.write_bytes(data)
    with pytest.raises(CheckpointError, match="not those that were saved"):
        read(ours)


def test_conversion_is_reproducible(tmp_path: Path) -> None:
    ours = saved(tmp_path, SMALL_VIT)
    dest = tmp_path / "out.safetensors"
    to: Format
    for to in ("openwit", "open_clip", "hf"):
        first = convert(ours, dest, to)
        (shutil.rmtree if to == "hf" else Path.unlink)(dest)
        assert convert(ours, dest, to) == first
        (shutil.rmtree if to == "hf" else Path.unlink)(dest)


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
def test_the_same_size_changes_nothing(config: ModelConfig) -> None:
    state = randomised(config).state_dict()
    same, shape = resized(state, config, image_size=config.image_size, context_length=77)
    assert shape == config
    assert all(same[name] is value for name, value in state.items())


@pytest.mark.parametrize("side", [16, 48, 104])
@pytest.mark.parametrize("length", [77, 100, 231])
def test_positions_are_interpolated_as_open_clip_does(
    open_clip: Any, side: int, length: int
) -> None:
    state = dict(randomised(SMALL_VIT).state_dict())
    ours, config = resized(state, SMALL_VIT, image_size=side, context_length=length)
    peer = open_clip_model(open_clip, config)
    open_clip.model.resize_pos_embed(state, peer)
    open_clip.model.resize_text_pos_embed(state, peer)
    assert (config.image_size, config.context_length) == (side, length)
    torch.testing.assert_close(ours, state, atol=1e-6, rtol=0)
    CLIP(config).load_state_dict(ours)


def test_a_resnets_pool_is_resized_like_a_grid_and_keeps_its_own_position() -> None:
    state = randomised(SMALL_RESNET).state_dict()
    name = "visual.attnpool.positional_embedding"
    slope = torch.arange(2.0)[:, None] + 10 * torch.arange(2.0)
    state[name] = torch.cat([torch.full((1, 256), 7.0), slope.reshape(4, 1).expand(4, 256)])
    ours, config = resized(state, SMALL_RESNET, image_size=128)
    grid = ours[name][1:].reshape(4, 4, 256)
    assert torch.equal(ours[name][0], torch.full((256,), 7.0))
    torch.testing.assert_close(grid.mean(dim=(0, 1)), torch.full((256,), 5.5), atol=1e-5, rtol=0)
    assert (grid.diff(dim=0) > 0).all() and (grid.diff(dim=1) > 0).all()
    CLIP(config).load_state_dict(ours)


def test_a_shorter_context_is_the_beginning_of_a_longer_one() -> None:
    model = randomised(SMALL_VIT)
    state, config = resized(model.state_dict(), SMALL_VIT, context_length=16)
    short = CLIP(config).eval()
    short.load_state_dict(state)
    _, tokens = batch(SMALL_VIT)
    with torch.no_grad():
        assert torch.equal(short.encode_text(tokens), model.encode_text(tokens))


def test_an_image_size_that_patches_do_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="patch_size 8 does not divide image_size 36"):
        convert(saved(tmp_path, SMALL_VIT), tmp_path / "a.safetensors", "openwit", image_size=36)


def test_a_record_of_the_first_format_still_loads(tmp_path: Path) -> None:
    """It has no `logit_bias`."""
    model = randomised(SMALL_VIT)
    save_weights(tmp_path / "a.safetensors", model, {})
    data = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    field = rb"\"logit_bias\": false, "
    assert field in header
    older = header.replace(field, b"")
    older += b" " * (length - len(older))
    (tmp_path / "a.safetensors").write_bytes(data[:8] + older + data[8 + length :])
    loaded, _ = load_weights(tmp_path / "a.safetensors")
    assert loaded.config == SMALL_VIT
    assert_same_bits(loaded.state_dict(), model.state_dict())
