"""The tokenizer against open_clip's on real texts: the ids of each, and the time that they take.

The texts are lines of a file, or else what every install has: prose in the Python packages around,
and the captions of the quickstart's pages. Process time, one core. Every timed text is met for the
first time, after a slice of others, as in a long run; the peer takes only the start of each slice.
"""

import gzip
import re
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.bench.table import Measurement, against, bounded, interleaved
from trainer.text.tokenizer import OPEN_CLIP_MARKERS, encode_batch

WEB = Path(__file__).parent.parent / "quickstart" / "web"
TEXTS = 1_000_000
SAMPLE = 50_000
PROSE = (".py", ".pyi", ".md", ".txt", ".rst")


def measure(repeats: int, texts: Path | None = None, every: int = 20) -> list[Measurement]:
    """Time per text, and how many of every `every`-th text have other ids than open_clip's.

    Texts that hold a marker are compared in the mode that reads it, as open_clip always does.
    """
    lines = list(islice(dict.fromkeys(_lines(texts) if texts else local_texts()), TEXTS))
    peer = _open_clip()
    slices = [lines[first :: repeats + 1] for first in range(repeats + 1)]
    calls = [
        _timed(encode_batch, slices),
        _timed(lambda part: list(map(peer.encode, part)), [part[:SAMPLE] for part in slices]),
    ]
    ours, theirs = interleaved(calls, repeats)
    compared = lines[::every]
    return [
        against(f"ids of a text, of {len(lines):,}", ours, theirs, "open_clip", "us", 40),
        bounded(f"other ids, of {len(compared):,}", _differing(compared, peer), "texts", 0),
    ]


def _timed(
    encode: Callable[[Sequence[str]], object], samples: Sequence[Sequence[str]]
) -> Callable[[], float]:
    """Microseconds of process time per text, of one sample after another."""
    parts = iter(samples)

    def call() -> float:
        part = next(parts)
        start = time.process_time()
        encode(part)
        return (time.process_time() - start) / len(part) * 1e6

    return call


def _differing(lines: Sequence[str], peer: Any) -> int:
    marked = [any(marker in line.lower() for marker in OPEN_CLIP_MARKERS) for line in lines]
    rows = encode_batch(lines)
    for index, is_marked in enumerate(marked):
        if is_marked:
            [rows[index]] = encode_batch([lines[index]], markers=OPEN_CLIP_MARKERS)
    return sum(
        ours[1:-1].tolist() != peer.encode(line)[:75]
        for ours, line in zip(rows, lines, strict=True)
    )


def _open_clip() -> Any:
    """Its tokenizer's file alone: the package would import torchvision."""
    package = find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip_torch")
    place = Path(package.submodule_search_locations[0], "tokenizer.py")
    spec = spec_from_file_location("open_clip_tokenizer", place)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(errors="replace").split("\n") if line.strip()]


def local_texts() -> Iterator[str]:
    """Captions of the quickstart's pages, then lines of prose in the installed packages."""
    for pages in sorted(WEB.glob("pages-*.warc.gz")):
        alts = re.findall(rb'alt="([^"]+)"', gzip.decompress(pages.read_bytes()))
        yield from (" ".join(alt.decode(errors="replace").split("\n")) for alt in alts)
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*")):
        if path.suffix in PROSE or path.name == "METADATA":
            yield from filter(_is_prose, map(str.strip, _lines(path)))


def _is_prose(line: str) -> bool:
    """Three words or more of which four fifths are letters."""
    letters = sum(map(str.isalpha, line)) + line.count(" ")
    return line.count(" ") > 1 and letters >= 0.8 * len(line)
