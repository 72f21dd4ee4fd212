"""Batches are pure functions of the step: whoever prepares them, from wherever a run goes on."""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch

from pipeline.dataset.errors import DatasetError, UserError
from tests.support.folders import Pair, coloured_pairs, pictures, write_dataset
from trainer.config import TrainConfig
from trainer.data.loader import Batch, Loader, Source
from trainer.errors import ConfigError
from trainer.text.tokenizer import encode_batch

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(model="ViT-Ti-8-32px", steps=100, batch_size=12, shuffle_shards=2)
EVERYTHING = replace(CONFIG, flip=True, patch_dropout=0.5, mask_duplicates=True, crop_scale_min=0.3)

Squares = Callable[..., Path]


def assert_equal(one: Batch, two: Batch) -> None:
    for field in fields(Batch):
        left, right = getattr(one, field.name), getattr(two, field.name)
        same = torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right
        assert same, field.name


def joined(batches: list[Batch]) -> Batch:
    """Slices of a step one after another, tokens padded to the widest."""
    width = max(batch.tokens.shape[1] for batch in batches)
    values: dict[str, Any] = {}
    for field in fields(Batch):
        parts = [getattr(batch, field.name) for batch in batches]
        if field.name == "tokens":
            parts = [torch.nn.functional.pad(ids, (0, width - ids.shape[1])) for ids in parts]
        if field.name == "bad":
            values[field.name] = sum(parts, ())
        else:
            values[field.name] = None if parts[0] is None else torch.cat(parts)
    return Batch(**values)


def uids_of(batch: Batch) -> list[bytes]:
    return [row.astype(">u8").tobytes() for row in batch.uids.numpy().view(np.uint64)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "p", pictures(50), parts=7, images="tar")


def test_batches_do_not_depend_on_what_was_read_before(photos: Path) -> None:
    running = Loader([Source(photos)], EVERYTHING)
    for step, batch in enumerate(running.batches(0, 9)):
        assert_equal(batch, Loader([Source(photos)], EVERYTHING).batch(step))
    for step, batch in zip(range(5, 8), running.batches(5, 8), strict=True):
        assert_equal(batch, running.batch(step))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_a_step_in_the_order_of_one(photos: Path, world_size: int) -> None:
    alone = Loader([Source(photos)], EVERYTHING)
    ranks = [
        Loader([Source(photos)], EVERYTHING, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in range(6):
        assert_equal(joined([rank.batch(step) for rank in ranks]), alone.batch(step))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")
def test_any_number_of_workers_gives_the_same_batches(photos: Path) -> None:
    sources = [Source(photos, 2.0), Source(photos, 1.0)]
    expected = list(Loader(sources, EVERYTHING).batches(2, 7))
    for num_workers in (1, 3):
        loader = Loader(sources, EVERYTHING, num_workers=num_workers)
        for one, two in zip(loader.batches(2, 7), expected, strict=True):
            assert_equal(one, two)


def test_arrow_tar_and_foreign_tars_give_the_same_batches(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    pairs = pictures(14)
    folders = [
        write_dataset(tmp_path / kind, pairs, parts=2, images=kind) for kind in ("arrow", "tar")
    ]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for part in range(2):
        with wds.TarWriter(str(foreign / f"{part}.tar")) as writer:
            for pair in pairs[7 * part : 7 * part + 7]:
                key = pair.uid.hex()
                sample = {"jpg": pair.image, "txt": pair.caption, "json": {"uid": key}}
                writer.write({"__key__": key, **sample})
    loaders = [Loader([Source(folder)], EVERYTHING) for folder in (*folders, foreign)]
    by_uid = []
    for loader in loaders:
        batch = joined([loader.batch(step) for step in range(7)])
        seen: dict[bytes, list[Any]] = {}
        for uid, canvas, ids in zip(uids_of(batch), batch.pixels, batch.tokens, strict=True):
            seen.setdefault(uid, []).append((canvas.tolist(), ids.tolist()))
        by_uid.append({uid: samples[:5] for uid, samples in seen.items()})
    assert by_uid[0] == by_uid[1] == by_uid[2]
    assert set(by_uid[0]) == {pair.uid for pair in pairs}


def test_every_epoch_holds_every_pair_once_with_its_own_caption(photos: Path) -> None:
    pairs = {pair.uid: pair for pair in pictures(50)}
    batch = joined(list(Loader([Source(photos)], CONFIG).batches(0, 25)))
    uids = uids_of(batch)
    for epoch in range(6):
        assert set(uids[50 * epoch : 50 * epoch + 50]) == set(pairs)
    for uid, ids in zip(uids, batch.tokens, strict=True):
        expected = encode_batch([pairs[uid].caption], CONFIG.shape().context_length)[0]
        assert ids[: len(expected)].tolist() == expected.tolist()
        assert not ids[len(expected) :].any()


def test_an_epochs_crops_are_not_the_last_ones(photos: Path) -> None:
    loader = Loader([Source(photos)], replace(EVERYTHING, batch_size=50))
    one, two = loader.batch(0), loader.batch(1)
    first, second = np.argsort(uids_of(one)), np.argsort(uids_of(two))
    assert (one.sides[first] != two.sides[second]).any()
    assert (one.jitter[first] != two.jitter[second]).any()
    assert (one.mirror[first] != two.mirror[second]).any()
    assert one.kept is not None and two.kept is not None
    assert (one.kept[first] != two.kept[second]).any()


def test_tokens_are_as_wide_as_the_longest_in_eights_and_no_wider_than_the_context(
    tmp_path: Path,
) -> None:
    pairs = pictures(12)
    for words, context, width in ((3, 32, 8), (9, 32, 16), (9, 10, 10), (60, 32, 32), (60, 77, 64)):
        long = [Pair(pair.uid, pair.image, "red " * words) for pair in pairs]
        folder = write_dataset(tmp_path / f"{words}-{context}", long)
        config = replace(CONFIG, context_length=context)
        assert Loader([Source(folder)], config).batch(0).tokens.shape == (12, width)


def test_patches_that_stay_are_distinct_ascending_and_evenly_drawn(photos: Path) -> None:
    loader = Loader([Source(photos)], replace(CONFIG, patch_dropout=0.7, batch_size=48))
    kept = torch.cat([batch.kept for batch in loader.batches(0, 30) if batch.kept is not None])
    assert kept.shape == (30 * 48, 5) and kept.dtype == torch.int64
    assert (kept.diff(dim=1) > 0).all() and kept.min() == 0 and kept.max() == 15
    share = torch.bincount(kept.flatten()) / len(kept)
    assert (share - 5 / 16).abs().max() < 0.06
    assert Loader([Source(photos)], CONFIG).batch(0).kept is None


def test_duplicates_have_equal_ids_with_and_without_recorded_digests(tmp_path: Path) -> None:
    pairs = pictures(12)
    pairs[3] = Pair(pairs[3].uid, pairs[8].image, pairs[3].caption)
    pairs[5] = Pair(pairs[5].uid, pairs[5].image, pairs[1].caption)
    digests = pa.array([bytes([3 if i == 8 else i]) * 32 for i in range(12)], pa.binary(32))
    for columns in ({}, {"sha256": digests}):
        folder = write_dataset(tmp_path / f"with-{len(columns)}", pairs, columns=columns)
        batch = Loader([Source(folder)], EVERYTHING).batch(0)
        assert batch.image_ids is not None and batch.text_ids is not None
        where = {uid: at for at, uid in enumerate(uids_of(batch))}
        for ids, one, two in ((batch.image_ids, 3, 8), (batch.text_ids, 1, 5)):
            assert len(set(ids.tolist())) == 11
            assert ids[where[pairs[one].uid]] == ids[where[pairs[two].uid]]
    plain = Loader([Source(folder)], CONFIG).batch(0)
    assert plain.image_ids is None and plain.text_ids is None and plain.weights is None


def test_weights_are_the_datasets(tmp_path: Path) -> None:
    pairs, weights = pictures(12), [float(index) / 4 for index in range(12)]
    folder = write_dataset(tmp_path / "w", pairs, columns={"weight": pa.array(weights)})
    batch = Loader([Source(folder)], replace(CONFIG, weighted=True)).batch(0)
    assert batch.weights is not None and batch.weights.dtype == torch.float32
    by_uid = {pair.uid: weight for pair, weight in zip(pairs, weights, strict=True)}
    assert batch.weights.tolist() == [by_uid[uid] for uid in uids_of(batch)]


def test_a_picture_has_one_id_in_whichever_source_it_is_met(tmp_path: Path) -> None:
    pairs = pictures(12)
    recorded = pa.array([hashlib.sha256(pair.image).digest() for pair in pairs], pa.binary(32))
    ours = write_dataset(tmp_path / "ours", pairs, columns={"sha256": recorded})
    bare = write_dataset(tmp_path / "bare", pairs)
    made = replace(CONFIG, batch_size=24, mask_duplicates=True)
    batch = Loader([Source(ours), Source(bare)], made).batch(0)
    assert batch.image_ids is not None and batch.text_ids is not None
    seen = {tuple(uid) for uid in batch.uids.tolist()}
    assert len(set(batch.image_ids.tolist())) == len(set(batch.text_ids.tolist())) == len(seen) > 6


@pytest.mark.parametrize("images", ["arrow", "tar"])
@pytest.mark.parametrize(("damaged", "stand_in"), [((7, 8), 9), ((9,), 10), ((18, 19), 0)])
def test_a_bad_image_is_replaced_by_the_next_sound_pair_and_reported(
    tmp_path: Path, images: str, damaged: tuple[int, ...], stand_in: int
) -> None:
    pairs = coloured_pairs(20)
    sound = Loader([Source(write_dataset(tmp_path / "sound", pairs, images=images))], CONFIG)
    for row in damaged:
        pairs[row] = Pair(pairs[row].uid, b"not an image", pairs[row].caption)
    folder = write_dataset(tmp_path / "damaged", pairs, images=images)
    loader = Loader([Source(folder)], CONFIG)
    # The order follows from the content, which differs; the same one makes the two comparable.
    loader._chunks.mixture = sound._chunks.mixture
    for step in range(4):
        asked = [int.from_bytes(uid, "big") for uid in uids_of(sound.batch(step))]
        batch = loader.batch(step)
        used = [int.from_bytes(uid, "big") for uid in uids_of(batch)]
        assert used == [stand_in if row in damaged else row for row in asked]
        assert batch.bad == tuple(f"{row:032x}" for row in asked if row in damaged)
        assert all(
            (batch.pixels[at, 0, 0] == batch.pixels[used.index(row), 0, 0]).all()
            for at, row in enumerate(used)
        )


def test_a_dataset_without_a_sound_image_is_refused(tmp_path: Path) -> None:
    pairs = [Pair(pair.uid, b"", pair.caption) for pair in coloured_pairs(3)]
    loader = Loader([Source(write_dataset(tmp_path / "damaged", pairs))], CONFIG)
    with pytest.raises(DatasetError, match="no image"):
        loader.batch(0)


def test_what_was_drawn_is_what_batches_held(photos: Path, tmp_path: Path) -> None:
    others = write_dataset(tmp_path / "others", coloured_pairs(30), parts=3)
    loader = Loader([Source(photos, 3.0), Source(others, 1.0)], CONFIG)
    held = {uid for batch in loader.batches(0, 4) for uid in uids_of(batch)}
    first, second = loader.drawn(4)
    asked = [pair.uid for pair, drawn in zip(pictures(50), first, strict=True) if drawn]
    asked += [pair.uid for pair, drawn in zip(coloured_pairs(30), second, strict=True) if drawn]
    assert sorted(asked) == sorted(held) and loader.num_rows == 80


def test_content_tells_mixtures_apart(photos: Path, squares: Squares) -> None:
    folder = squares(10)
    contents = [
        Loader([Source(photos, *weight), *more], CONFIG).content
        for weight, more in (((), []), ((1.0,), [Source(folder)]), ((2.0,), [Source(folder)]))
    ]
    assert len(set(contents)) == 3
    again = Loader([Source(photos, 4.0), Source(folder, 2.0)], CONFIG)
    assert again.content == contents[2]


def _open_files() -> list[str]:
    links = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # another thread may close one meanwhile
            links.append(str(file.readlink()))
    return links


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "resource_tracker, or ended"


def test_no_more_than_two_windows_of_shards_are_open(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "many", pictures(60), parts=20, images="tar")
    loader = Loader([Source(folder)], replace(CONFIG, shuffle_shards=3))
    most = 0
    for step in range(15):
        loader.batch(step)
        most = max(most, sum(link.startswith(str(folder)) for link in _open_files()))
    assert 3 <= most <= 6


def test_a_batch_that_the_processes_cannot_share_is_refused(photos: Path) -> None:
    with pytest.raises(ConfigError, match="12 is not divisible by 5"):
        Loader([Source(photos)], CONFIG, world_size=5)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_arrives_as_it_was(tmp_path: Path, num_workers: int) -> None:
    folder = write_dataset(tmp_path / "pairs", pictures(24))
    file = folder / "parts" / "00001.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    loader = Loader([Source(folder)], CONFIG, num_workers=num_workers)
    with pytest.raises(DatasetError, match=r"^[^\n]*00001\.parquet[^\n]*$"):
        list(loader.batches(0, 9))


def test_everything_ends_with_the_batches(photos: Path) -> None:
    threads, children = set(threading.enumerate()), psutil.Process().children()
    for num_workers in (0, 1):
        batches = Loader([Source(photos)], CONFIG, num_workers=num_workers).batches(0, 10_000)
        next(batches)
        assert set(threading.enumerate()) - threads
        batches.close()
        ends = time.monotonic() + 60  # multiprocessing does not wait for its queue's thread
        while set(threading.enumerate()) - threads and time.monotonic() < ends:
            time.sleep(0.01)
        assert not set(threading.enumerate()) - threads
    new = {child for child in psutil.Process().children() if child not in children}
    assert not [child for child in new if "resource_tracker" not in _title(child)]


def test_a_worker_that_is_killed_is_told(photos: Path) -> None:
    before = set(psutil.Process().children())
    batches = Loader([Source(photos)], CONFIG, num_workers=1).batches(0, 100_000)
    next(batches)
    for child in set(psutil.Process().children()) - before:
        if "resource_tracker" not in _title(child):
            child.kill()
    with pytest.raises(UserError, match=r"DataLoader worker .* use fewer num_workers"):
        for _ in batches:
            pass
