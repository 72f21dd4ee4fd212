"""Evaluation against brute force, webdataset's reader and published values."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.dataset.errors import DatasetError
from tests.support.folders import coloured_pairs, png, write_dataset, write_eval_set
from tests.support.micro import MICRO, config
from trainer.checkpoints.weights import load_weights, save_weights
from trainer.config import RunConfig
from trainer.data import augment, images
from trainer.data.loader import Source
from trainer.evaluate.intervals import wilson
from trainer.evaluate.run import evaluate
from trainer.evaluate.sets import read_set
from trainer.evaluate.tasks import retrieval, zeroshot
from trainer.models.clip import CLIP
from trainer.models.init import new_clip
from trainer.text.tokenizer import encode_batch, pad
from trainer.train import train

CPU = torch.device("cpu")
CLASSES = ["crimson red", "grass green", "sky blue", "white", "black", "orange"]
COLOURS = [(220, 20, 60), (30, 200, 40), (90, 160, 250), (255, 255, 255), (0, 0, 0), (250, 150, 0)]
TEMPLATES = ["a {c} square", "a photo of something {c}.", "{c}"]


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator), dim=-1)


def square(colour: tuple[int, int, int], size: int = 20) -> bytes:
    return png(np.full((size, size, 3), colour, np.uint8))


def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(path, new_clip(MICRO, seed=0), {"train": {"model": "micro"}})
    return path


def class_set(folder: Path, count: int = 30) -> Path:
    samples = [(square(COLOURS[n % 6], 16 + n), str(n % 6)) for n in range(count)]
    return write_eval_set(folder, samples, classes=CLASSES, templates=TEMPLATES)


def brute_force_scores(model: CLIP, samples: list[tuple[bytes, str]]) -> Tensor:
    """Formulas of CLIP's notebook, one image, class and prompt at a time."""

    def text(prompt: str) -> Tensor:
        tokens = torch.from_numpy(pad(encode_batch([prompt], MICRO.context_length)))
        return F.normalize(model.encode_text(tokens)[0], dim=0)

    weights = []
    for name in CLASSES:
        mean = torch.stack([text(template.format(c=name)) for template in TEMPLATES]).mean(dim=0)
        weights.append(mean / mean.norm())
    rows = []
    for image, _ in samples:
        pixels = torch.from_numpy(images.square(image, MICRO.image_size).copy())[None]
        feature = model.encode_image(augment.normalise(pixels))[0]
        rows.append(torch.stack(weights) @ (feature / feature.norm()))
    return torch.stack(rows)


def test_zero_shot_is_the_brute_force_formula(tmp_path: Path) -> None:
    samples = [(square(COLOURS[n % 6], 16 + n), str(n % 6)) for n in range(31)]
    folder = write_eval_set(tmp_path / "wds_colours", samples, classes=CLASSES, templates=TEMPLATES)
    weights = model_file(tmp_path)
    [got] = evaluate(weights, folder, batch_size=7)
    with torch.no_grad():
        scores = brute_force_scores(load_weights(weights)[0], samples).numpy()
    labels = np.array([int(label) for _, label in samples])
    own = scores[np.arange(31), labels]
    others = np.where(np.eye(6, dtype=bool)[labels], -np.inf, scores)
    table = got.outcomes
    assert table["prediction"].to_pylist() == scores.argmax(axis=1).tolist()
    assert table["rank"].to_pylist() == (others > own[:, None]).sum(axis=1).tolist()
    assert np.allclose(table["margin"].to_numpy(), own - others.max(axis=1), atol=1e-6)
    best = np.argsort(-scores, axis=1)
    expected = {
        "acc1": np.mean(best[:, 0] == labels),
        "acc5": np.mean([label in row[:5] for label, row in zip(labels, best, strict=True)]),
        "mean_per_class_recall": np.mean(
            [np.mean(best[labels == label, 0] == label) for label in range(6)]
        ),
    }
    assert got.summary["metrics"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_trained_model_tells_its_colours_apart(micro: None, tmp_path: Path) -> None:
    pairs = coloured_pairs(60)
    for index, pair in enumerate(pairs):
        caption = f"a {CLASSES[index % 6]} square"
        pairs[index] = type(pair)(pair.uid, square(COLOURS[index % 6]), caption)
    dataset = write_dataset(tmp_path / "data", pairs)
    run = train(config(steps=250), [Source(dataset)], tmp_path / "run", RunConfig(num_threads=1))
    [got] = evaluate(run.weights, class_set(tmp_path / "wds_colours"))
    assert got.summary["ci95"]["acc1"]["low"] > 2 * got.summary["chance"]


def test_the_summary_says_what_it_depends_on(tmp_path: Path) -> None:
    weights = model_file(tmp_path)
    first = evaluate(weights, class_set(tmp_path / "wds_colours"))[0].summary
    again = evaluate(weights, class_set(tmp_path / "copy" / "wds_colours"))[0].summary
    assert first == again
    for name in ("dataset", "model", "pretrained", "task", "metrics", "language"):
        assert name in first, f"clip-benchmark writes {name}"
    assert (first["dataset"], first["n"], first["undecodable"]) == ("colours", 30, 0)
    smaller = evaluate(weights, class_set(tmp_path / "wds_fewer", 29))[0].summary
    assert smaller["set_sha256"] != first["set_sha256"]
    assert smaller["templates_sha256"] == first["templates_sha256"]


def test_an_image_that_does_not_decode_is_counted_and_wrong(tmp_path: Path) -> None:
    samples = [(square(COLOURS[n % 6]), str(n % 6)) for n in range(12)]
    samples[4] = (b"damaged", "4")
    folder = write_eval_set(tmp_path / "set", samples, classes=CLASSES, templates=TEMPLATES)
    [got] = evaluate(model_file(tmp_path), folder)
    row = got.outcomes.slice(4, 1).to_pylist()[0]
    assert (row["prediction"], row["correct"], row["margin"]) == (-1, False, None)
    assert got.summary["undecodable"] == 1 and got.summary["n"] == 12


def test_an_image_that_does_not_decode_is_not_among_the_top_five_of_five() -> None:
    scores = torch.zeros(1, 5)
    table = zeroshot.outcomes(["a"], np.array([2]), scores, torch.zeros(1).bool())
    assert zeroshot.hits(table, 5) == {"acc1": 0, "acc5": 0}


@pytest.mark.parametrize("where", ["visual.proj", "text_projection"])
@pytest.mark.parametrize("classes", [1, 4, 6])
def test_a_model_that_is_not_finite_scores_nothing(
    tmp_path: Path, where: str, classes: int
) -> None:
    model = new_clip(MICRO, seed=0)
    model.state_dict()[where][0, 0] = torch.nan
    save_weights(tmp_path / "broken.safetensors", model, {"train": {"model": "micro"}})
    named = write_eval_set(
        tmp_path / "named",
        [(square(COLOURS[n]), str(n)) for n in range(classes)],
        classes=CLASSES[:classes],
        templates=TEMPLATES,
    )
    told = write_eval_set(
        tmp_path / "told", [(square(COLOURS[n]), CLASSES[n]) for n in range(classes)]
    )
    for folder in (named, told):
        [got] = evaluate(tmp_path / "broken.safetensors", folder)
        assert set(got.summary["metrics"].values()) == {0.0}
        assert got.outcomes["margin"].null_count == len(got.outcomes)


def test_one_class_leaves_no_margin() -> None:
    table = zeroshot.outcomes(["a"], np.array([0]), torch.tensor([[0.3]]), torch.ones(1).bool())
    assert table["margin"].to_pylist() == [None] and table["correct"].to_pylist() == [True]


def test_a_tie_in_retrieval_counts_against_the_truth() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    table = retrieval.outcomes(["a", "b", "c"], rows, rows, np.arange(3), torch.ones(3).bool())
    assert table["rank"].to_pylist() == [1, 1, 0] * 2


def test_an_image_that_does_not_decode_is_no_answer_and_its_captions_are_not_found() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[-1.0, 0.0], [0.1, 0.0], [0.0, 1.0]])
    decoded = torch.tensor([True, False, True])
    rows = retrieval.outcomes(["a", "b", "c"], image, text, np.arange(3), decoded).to_pylist()
    asked = {(row["direction"], row["sample_id"]): row for row in rows}
    assert asked["image", "a"]["rank"] == 1, "behind c, and not behind b"
    for way in ("image", "text"):
        assert not asked[way, "b"]["correct"] and asked[way, "b"]["margin"] is None


def test_a_tie_with_the_truth_counts_against_it() -> None:
    scores = torch.tensor([[0.5, 0.5, 0.1], [0.2, 0.9, 0.1]])
    table = zeroshot.outcomes(["a", "b"], np.array([0, 1]), scores, torch.ones(2).bool())
    assert table["rank"].to_pylist() == [1, 0]
    assert table["correct"].to_pylist() == [False, True]


@pytest.mark.parametrize(
    ("templates", "texts"),
    [
        (["a {c}.", "{c} {c}"], ["a crane.", "crane crane"]),
        (["a photo of a {}."], ["a photo of a crane."]),
        (["{c} in {braces}"], ["crane in {braces}"]),
        ({"crane": ["a bird", "long legs"]}, ["a bird", "long legs"]),
    ],
)
def test_templates_of_all_tools_are_understood(templates: Any, texts: list[str]) -> None:
    assert zeroshot.prompts("crane", templates) == texts


def test_class_weights_do_not_depend_on_the_batch_size() -> None:
    model = new_clip(MICRO, seed=0)
    one, all_at_once = (
        zeroshot.classifier(model, CLASSES, TEMPLATES, batch_size=size, device=CPU)
        for size in (1, 100)
    )
    torch.testing.assert_close(one, all_at_once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("block", [3, 1024])
def test_retrieval_is_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", block)
    image = unit_rows(20, 8, 0)
    owners = np.repeat(np.arange(20), [n % 3 + 1 for n in range(20)])
    text = F.normalize(image[torch.from_numpy(owners)] + unit_rows(len(owners), 8, 1), dim=-1)
    keys = [f"k{index}" for index in range(20)]
    found = retrieval.hits(retrieval.outcomes(keys, image, text, owners, torch.ones(20).bool()))
    scores = (image @ text.T).numpy()
    for top in (1, 5, 10):
        nearest = np.argsort(-scores, axis=1)[:, :top]
        texts = sum(bool((owners[row] == n).any()) for n, row in enumerate(nearest))
        images_ = sum(owners[n] in row for n, row in enumerate(np.argsort(-scores.T)[:, :top]))
        assert found[f"text_retrieval_recall@{top}"] == (texts, 20)
        assert found[f"image_retrieval_recall@{top}"] == (images_, len(owners))


def test_retrieval_sets_hold_any_number_of_captions(tmp_path: Path) -> None:
    samples = [
        (square(colour), f"a {name}\n{name} thing\n")
        for colour, name in zip(COLOURS, CLASSES, strict=True)
    ]
    samples[2] = (b"damaged", "sky")
    samples[3] = (samples[3][0], "one\u2028caption\x0bin a line\nand another")
    [got] = evaluate(model_file(tmp_path), write_eval_set(tmp_path / "wds_r", samples))
    assert got.summary["task"] == "zeroshot_retrieval"
    assert got.outcomes["direction"].to_pylist() == ["text"] * 6 + ["image"] * 11
    assert got.summary["ci95"]["image_retrieval_recall@5"]["n"] == 11
    assert got.summary["metrics"]["text_retrieval_recall@10"] <= 5 / 6
    lost = [row for row in got.outcomes.to_pylist() if row["label"] == 2]
    assert len(lost) == 2 and not any(row["correct"] for row in lost)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(
    successes: int, trials: int, low: float, high: float
) -> None:
    """The last three are the examples of Newcombe (1998), table I, method 3."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_sets_read_like_webdataset_reads_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    folder = class_set(tmp_path / "set", 13)
    ours = [(s.key, s.image, s.label) for s in read_set(folder).samples()]
    theirs = []
    for shard in (0, 1):
        path = str(folder / "test" / f"{shard}.tar")
        for sample in webdataset.WebDataset(path, shardshuffle=False):
            theirs.append((sample["__key__"], sample["png"], int(sample["cls"])))
    assert ours == theirs


def test_sets_that_are_not_sound_are_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nshards\.txt"):
        read_set(tmp_path)
    folder = class_set(tmp_path / "set")
    (folder / "test" / "1.tar").unlink()
    with pytest.raises(DatasetError, match=r"1\.tar"):
        read_set(folder)
    with tarfile.open(folder / "test" / "1.tar", "w") as tar:
        member = tarfile.TarInfo("s1.png")
        tar.addfile(member, io.BytesIO())
    with pytest.raises(DatasetError, match=r"1\.tar.*s1 needs an image and \.cls"):
        list(read_set(folder).samples())
    for name, text, told in (
        ("classnames.txt", "cat\n\ndog\n", "line 2 is empty"),
        ("classnames.txt", "\n", "this file is empty"),
        ("test/nshards.txt", "two\n", "'two' is no number"),
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(text)
        with pytest.raises(DatasetError, match=told):
            read_set(folder)
        (folder / name).write_text(before)
    (folder / "dataset_type.txt").write_text("multilabel\n")
    with pytest.raises(DatasetError, match="multilabel"):
        read_set(folder)
