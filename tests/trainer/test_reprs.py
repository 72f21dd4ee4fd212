"""What a person sees of datasets and results in a console: one short line, never their contents."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.dataset.read.folder import PairFolder
from pipeline.dataset.read.shards import Columns
from pipeline.dataset.read.webdataset import TarFolder
from tests.support.folders import coloured_pairs, write_dataset
from tests.support.micro import MICRO, config
from trainer.checkpoints.manager import Checkpoint
from trainer.config import RunConfig
from trainer.data.sources import Source, open_source
from trainer.interchange.convert import Weights
from trainer.models.init import new_clip
from trainer.train import train

SHORT = 200


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "pairs", coloured_pairs(12), parts=3, images="tar")


def test_a_dataset_says_where_and_which_it_is_and_how_large(dataset: Path) -> None:
    pairs = PairFolder.at(dataset)
    digits = pairs.content[:8]
    assert repr(pairs) == f"PairFolder('{dataset}', 12 pairs in 3 shards, content {digits})"


def test_a_subset_counts_its_own_pairs(dataset: Path, tmp_path: Path) -> None:
    listed = np.array([(0, index) for index in (1, 5)], np.dtype("u8,u8"))
    np.save(tmp_path / "some.npy", listed)
    subset = open_source(Source(dataset, subset=tmp_path / "some.npy"), tmp_path / "index")
    digits = subset.content[:8]
    assert repr(subset) == f"Subset('{dataset}', 2 pairs in 3 shards, content {digits})"


@pytest.mark.filterwarnings("ignore:.*lack an image or a caption")
def test_foreign_tars_look_like_any_dataset(dataset: Path, tmp_path: Path) -> None:
    tars = TarFolder.at(dataset / "parts", tmp_path / "index")
    assert repr(tars).startswith(f"TarFolder('{dataset}/parts', 0 pairs in 3 shards, content ")


def test_a_shard_names_its_columns(dataset: Path) -> None:
    shard = PairFolder.at(dataset).open(0, Columns())
    assert repr(shard) == "Shard(4 pairs: images, captions)"


@pytest.mark.usefixtures("micro")
def test_a_finished_run_says_what_it_did(dataset: Path, tmp_path: Path) -> None:
    result = train(config(steps=4), [Source(dataset)], tmp_path / "run", RunConfig(num_threads=1))
    loss = f"{result.metrics[-1].loss:.4f}"
    assert repr(result) == (
        f"TrainResult('{tmp_path}/run/model.safetensors', 4 steps on 64 samples, loss {loss}, "
        "0 refused, 0 rewinds)"
    )


def test_tensors_are_counted_and_not_shown() -> None:
    state = new_clip(MICRO, 0).state_dict()
    assert repr(Checkpoint(1200, state, {"first.x": torch.zeros(3)}, {})).startswith(
        f"Checkpoint(step 1,200, {len(state) + 1} tensors, "
    )
    weights = Weights(state, MICRO, {})
    count = sum(value.numel() for value in state.values())
    assert repr(weights) == f"Weights(custom, {len(state)} tensors, {count:,} values)"
    assert len(repr(weights)) < SHORT
