"""Datasets read from their folders, and batches that are pure functions of the step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import Pair, coloured_pairs, write_dataset

from trainer.config import TrainConfig
from trainer.data import Dataset
from trainer.errors import DatasetError
from trainer.loader import Batch, Loader
from trainer.tokenizer import encode_batch

CONFIG = TrainConfig(model="ViT-Ti-8-32px", steps=100, batch_size=16)

Squares = Callable[..., Path]


def equal(one: Batch, two: Batch) -> bool:
    names = ("rows", "bad", "pixels", "tokens", "draws")
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in names)


@pytest.mark.parametrize("images", ["arrow", "tar"])
@pytest.mark.parametrize("parts", [1, 3])
def test_rows_are_the_pairs_in_the_order_of_the_parts(
    squares: Squares, images: str, parts: int
) -> None:
    dataset = Dataset(squares(20, parts=parts, images=images))
    pairs = coloured_pairs(20)
    assert len(dataset) == 20
    for row, pair in enumerate(pairs):
        assert bytes(dataset.image(row)) == pair.image
        assert dataset.uid_hex(row) == pair.uid.hex()
        assert dataset.tokens(row, 77).tolist() == encode_batch([pair.caption])[0].tolist()


@pytest.mark.parametrize("images", ["arrow", "tar"])
def test_a_part_may_be_empty(squares: Squares, images: str) -> None:
    dataset = Dataset(squares(2, parts=3, images=images))
    assert [dataset.uid_hex(row)[-1] for row in range(len(dataset))] == ["0", "1"]


def test_arrow_and_tar_give_the_same_batches(tmp_path: Path) -> None:
    folders = [
        write_dataset(tmp_path / images, coloured_pairs(30), images=images)
        for images in ("arrow", "tar")
    ]
    arrow, tar = (Dataset(folder) for folder in folders)
    tar.content = arrow.content
    assert equal(Loader(arrow, CONFIG).batch(3), Loader(tar, CONFIG).batch(3))


def test_batches_do_not_depend_on_what_was_read_before_nor_on_the_cache(squares: Squares) -> None:
    dataset = Dataset(squares(30))
    running = Loader(dataset, CONFIG)
    for step, batch in enumerate(running.batches(0, 5)):
        assert equal(batch, Loader(dataset, CONFIG).batch(step))
        assert equal(batch, Loader(dataset, CONFIG, cache_bytes=0).batch(step))


def test_a_batch_holds_the_pairs_that_the_order_names(squares: Squares) -> None:
    dataset = Dataset(squares(30))
    loader = Loader(dataset, CONFIG)
    batch = loader.batch(1)
    assert batch.rows.tolist() == loader.rows(1).tolist()
    for row, tokens in zip(batch.rows.tolist(), batch.tokens, strict=True):
        ids = dataset.tokens(row, loader.context_length)
        assert tokens[: len(ids)].tolist() == ids.tolist()
        assert not tokens[len(ids) :].any()


def test_a_bad_image_is_replaced_by_the_next_sound_pair_and_reported(tmp_path: Path) -> None:
    pairs = coloured_pairs(20)
    for row in (7, 8):
        pairs[row] = Pair(pairs[row].uid, b"not an image", pairs[row].caption)
    dataset = Dataset(write_dataset(tmp_path / "damaged", pairs))
    loader = Loader(dataset, CONFIG)
    for step in range(5):
        asked, batch = loader.rows(step), loader.batch(step)
        expected = np.where(np.isin(asked, (7, 8)), 9, asked)
        assert batch.rows.tolist() == expected.tolist()
        assert batch.bad.tolist() == asked[np.isin(asked, (7, 8))].tolist()


def test_a_dataset_without_a_sound_image_is_refused(tmp_path: Path) -> None:
    pairs = [Pair(pair.uid, b"", pair.caption) for pair in coloured_pairs(3)]
    loader = Loader(Dataset(write_dataset(tmp_path / "damaged", pairs)), CONFIG)
    with pytest.raises(DatasetError, match="no image"):
        loader.batch(0)


def test_folders_that_are_no_datasets_are_refused_with_what_to_do(
    squares: Squares, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"build it first"):
        Dataset(tmp_path)
    folder = squares(10)
    parquet = folder / "parts" / "00001.parquet"
    parquet.write_bytes(parquet.read_bytes()[:-1] + b"?")
    with pytest.raises(DatasetError, match=r"00001\.parquet"):
        Dataset(folder)


def test_an_arrow_file_of_other_pairs_is_refused(squares: Squares) -> None:
    folder = squares(10)
    first, second = (folder / "parts" / f"0000{index}.arrow" for index in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(DatasetError, match="uids"):
        Dataset(folder)
    first.write_bytes(second.read_bytes()[:200])
    with pytest.raises(DatasetError, match="build the dataset again"):
        Dataset(folder)
