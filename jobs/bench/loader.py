"""The loader against webdataset with Pillow and torchvision's transforms, on one core.

Both read the same tar of pictures whose short side is 256, cut from photographs that are found on
this machine, and hand over batches. Times are of the processor, so that neighbours do not count.
"""

import io
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from curation.pack.shard import PackParams, pack
from jobs.bench.table import Measurement, against, interleaved
from pipeline.dataset.manifest import FileRef, Manifest, Part, digest, digest_of
from pipeline.dataset.uid import UID_TYPE
from trainer.config import TrainConfig
from trainer.data.augment import MEAN, STD, prepare
from trainer.data.loader import Loader, Source
from trainer.measure.peers import torchvision_without_operators
from trainer.text.tokenizer import encode_batch

PHOTOS = ("/usr/share/backgrounds", "/usr/share/wallpapers")
NUM_PAIRS = 1024
BATCH = 128
LEAST_SIDE = 400
CONFIG = TrainConfig(model="ViT-B-32", steps=NUM_PAIRS // BATCH, batch_size=BATCH)
HOST_GOAL, WHOLE_GOAL = 4.0, 2.5


def measure(repeats: int) -> list[Measurement]:
    """Milliseconds of one core for a picture: what a worker does, and up to the tower's input."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            kind = write_dataset(Path(folder))
            calls = (_host(Path(folder)), _whole(Path(folder)), _peer(Path(folder)))
            host, whole, peer = interleaved(calls, repeats)
    finally:
        torch.set_num_threads(threads)
    name, unit = "webdataset + PIL + torchvision", "ms a picture"
    return [
        against(f"loader: host work, {kind}", host, peer, name, unit, HOST_GOAL),
        against(
            f"loader: with crop and resize on the CPU, {kind}", whole, peer, name, unit, WHOLE_GOAL
        ),
    ]


def write_dataset(folder: Path) -> str:
    """A dataset of one shard with `NUM_PAIRS` pictures, and what these were cut from."""
    photos = _photos()
    pictures = _crops(photos) if photos else _noise()
    encoded = [_jpeg(picture) for picture in pictures]
    captions = [f"picture number {index}" for index in range(NUM_PAIRS)]
    table = pa.table(
        {
            "uid": pa.array([index.to_bytes(16, "big") for index in range(NUM_PAIRS)], UID_TYPE),
            "caption": captions,
            "url": captions,
            "language": captions,
            "sha256": pa.array([bytes(32)] * NUM_PAIRS, pa.binary(32)),
        }
    )
    packed = pack(table, encoded, encode_batch(captions), PackParams())
    sidecar = io.BytesIO()
    pq.write_table(packed.table, sidecar)
    _finish(folder, {"parquet": sidecar.getvalue(), "tar": packed.tar})
    kilobytes = len(packed.tar) / NUM_PAIRS / 1000
    return f"{len(photos) or 'no'} photos, {kilobytes:.0f} KB"


def _finish(folder: Path, files: dict[str, bytes]) -> None:
    refs = {}
    for suffix, data in files.items():
        (folder / f"00000.{suffix}").write_bytes(data)
        refs[suffix] = FileRef(f"00000.{suffix}", digest(data), len(data))
    part = Part(0, NUM_PAIRS, NUM_PAIRS, 0, {}, refs)
    manifest = Manifest(
        stage="shard",
        stage_version=1,
        key="0" * 32,
        params={},
        inputs={},
        conserves=True,
        content_digest=digest_of([part.content_digest]),
        ledger_digest=digest(b""),
        rows_in=NUM_PAIRS,
        rows_kept=NUM_PAIRS,
        rows_dropped=0,
        reasons={},
        parts=(part,),
    )
    (folder / "manifest.json").write_text(manifest.to_json())


def _photos() -> list[Path]:
    """JPEGs of the desktop's backgrounds and of scikit-learn, large enough to cut from."""
    folders = [Path(name) for name in PHOTOS]
    if (package := find_spec("sklearn")) and package.origin:
        folders.append(Path(package.origin).parent / "datasets" / "images")
    photos = sorted(path for folder in folders for path in folder.rglob("*.jpg"))
    return [path for path in photos if min(Image.open(path).size) >= LEAST_SIDE]


def _crops(photos: list[Path]) -> Iterator[Image.Image]:
    """Random crops in the proportions of cameras, as often from each photograph."""
    rng = np.random.default_rng(0)
    for number in range(NUM_PAIRS):
        if number % -(-NUM_PAIRS // len(photos)) == 0:
            photo = Image.open(photos[number * len(photos) // NUM_PAIRS]).convert("RGB")
        high = int(rng.integers(LEAST_SIDE * 2 // 3, min(photo.size) * 2 // 3))
        wide = high * int(rng.choice([3, 4, 4, 6])) // int(rng.choice([3, 4]))
        wide = min(wide, photo.width)
        left, top = (
            int(rng.integers(room + 1)) for room in (photo.width - wide, photo.height - high)
        )
        yield photo.crop((left, top, left + wide, top + high))


def _noise() -> Iterator[Image.Image]:
    """Noise whose amplitudes fall with frequency as those of photographs do."""
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(256)[:, None, None], np.fft.fftfreq(341)[None, :, None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / 341)
    for _ in range(NUM_PAIRS):
        waves = np.fft.fft2(rng.normal(size=(256, 341, 3)), axes=(0, 1)) * falling
        pixels = np.fft.ifft2(waves, axes=(0, 1)).real
        yield Image.fromarray((128 + 50 * pixels / pixels.std()).clip(0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=95)
    return out.getvalue()


def _host(folder: Path) -> Callable[[], float]:
    loader = Loader([Source(folder)], CONFIG)
    return lambda: _milliseconds(lambda: [loader.batch(step) for step in range(CONFIG.steps)])


def _whole(folder: Path) -> Callable[[], float]:
    loader = Loader([Source(folder)], CONFIG)

    def run() -> None:
        for step in range(CONFIG.steps):
            prepare(loader.batch(step), CONFIG)

    return lambda: _milliseconds(run)


def _peer(folder: Path) -> Callable[[], float]:
    import webdataset

    transform = _usual_transform()
    shard = webdataset.WebDataset(str(folder / "00000.tar"), shardshuffle=False)
    pairs = shard.decode("pil").to_tuple("jpg", "txt").map_tuple(transform, str)

    def run() -> None:
        assert sum(len(images) for images, _ in pairs.batched(BATCH)) == NUM_PAIRS

    return lambda: _milliseconds(run)


def _usual_transform() -> Callable[[Image.Image], Any]:
    """What open_clip trains with: a random resized crop, to a float tensor, standardised."""
    with torchvision_without_operators():
        transforms = import_module("torchvision.transforms")
    usual: Callable[[Image.Image], Any] = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                224, scale=(0.9, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return usual


def _milliseconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1000 / NUM_PAIRS
