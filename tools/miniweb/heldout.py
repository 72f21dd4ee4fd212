"""The held-out drawing style: OpenMoji as a zero-shot eval set that the mini-web never shows.

Written in clip-benchmark's webdataset layout (classnames.txt, templates, test/0.tar). One class is
one emoji that the training vendors draw too; men's and women's versions of a picture are left out,
for at 64 px they differ by a hair. OpenMoji's drawings are CC BY-SA 4.0.
"""

import io
import re
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from tools.miniweb import pictures
from tools.miniweb.captions import article
from tools.miniweb.draw import pick
from tools.miniweb.sources import Emoji

TEMPLATES = (
    "{c}",
    "{c} emoji",
    "{c} emoji icon",
    "{c} icon",
    "{c} sticker",
    "{c} clip art",
    "a drawing of {c}",
    "an illustration of {c}",
    "a picture of {c}",
    "a small drawing of {c} on a white background",
)
GENDERED = re.compile(r"(man|woman|men|women|mx|mrs\.?|family|kiss|couple with heart)\b.")
CAPTIONS = ("{Name} emoji", "Illustration of {a}", "Drawing of {a}", "{Name} icon in colour")


def classes(emoji: list[Emoji], openmoji: Path) -> list[tuple[Emoji, Path]]:
    """The emoji that OpenMoji draws as well, without gendered doubles, with their SVG files."""
    found = []
    for one in emoji:
        files = [openmoji / "color/svg" / f"{code}.svg" for code in _file_codes(one)]
        there = [path for path in files if path.exists()]
        if there and not GENDERED.match(one.name):
            found.append((one, there[0]))
    return found


def _file_codes(one: Emoji) -> list[str]:
    full = "-".join(f"{ord(letter):04X}" for letter in one.text)
    return [full, full.replace("-FE0F", "")]


def render(svg: Path, side: int = 64) -> Image.Image:
    """The drawing on white, `side` pixels square, by rsvg-convert."""
    command = ["rsvg-convert", "-w", str(2 * side), "-h", str(2 * side), str(svg)]
    done = subprocess.run(command, check=True, capture_output=True)
    with Image.open(io.BytesIO(done.stdout)) as opened:
        image = pictures.flat(opened.convert("RGBA"))
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _small(image: Image.Image, limit: int = 1024) -> bytes:
    """The best WebP within two blocks of a tar file."""
    for quality in (90, 85, 80, 75, 70, 65, 60, 50, 40, 25, 10):
        data = pictures.encode(image.convert("RGBA"), "webp", quality=quality)
        if len(data) <= limit:
            break
    return data


def write(emoji: list[Emoji], openmoji: Path, folder: Path) -> int:
    """Write the eval set under `folder`; returns the number of classes.

    Raises FileNotFoundError if rsvg-convert is not installed.
    """
    if shutil.which("rsvg-convert") is None:
        raise FileNotFoundError("rsvg-convert is missing: install librsvg2-bin")
    chosen = classes(emoji, openmoji)
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(lambda item: _small(render(item[1])), chosen))
    (folder / "test").mkdir(parents=True, exist_ok=True)
    names = "".join(f"{one.name}\n" for one, _ in chosen)
    (folder / "classnames.txt").write_text(names, "utf-8")
    templates = "".join(f"{template}\n" for template in TEMPLATES)
    (folder / "zeroshot_classification_templates.txt").write_text(templates, "utf-8")
    (folder / "test/nshards.txt").write_text("1\n", "utf-8")
    with tarfile.open(folder / "test/0.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for place, ((one, _), data) in enumerate(zip(chosen, images, strict=True)):
            caption = pick(CAPTIONS, "held out", one.code).format(
                Name=one.name[:1].upper() + one.name[1:], a=article(one.name)
            )
            _add(tar, f"s{place:07d}.cls", str(place).encode())
            _add(tar, f"s{place:07d}.txt", caption.encode())
            _add(tar, f"s{place:07d}.webp", data)
    return len(chosen)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
