"""Input files: patterns of a recipe resolved to files, identified by what is in them.

Hashing a large input takes long, so a digest is remembered in the store under the file's path, size
and time of change; the memory is only a shortcut and may be deleted.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.errors import UserError
from pipeline.dataset.manifest import DIGEST_BYTES, digest, digest_of
from pipeline.store.objects import Store

READ_BYTES = 1 << 24


@dataclass(frozen=True)
class InputFile:
    """One file that the user gave: where it is, the name it goes by, its digest and size."""

    path: Path
    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Files:
    """An input of a recipe: files in the order of their names, identified by their content."""

    files: tuple[InputFile, ...]
    content: str

    def open(self, index: int) -> io.BufferedReader:
        """One file, for reading."""
        return self.files[index].path.open("rb")

    def lines(self) -> tuple[str, ...]:
        """The non-empty lines of all files, in order, without their ends."""
        texts = (file.path.read_text(encoding="utf-8") for file in self.files)
        return tuple(line for text in texts for line in text.split("\n") if line)


def resolve(inputs: Mapping[str, tuple[str, ...]], base: Path, store: Store) -> dict[str, Files]:
    """The files behind every input; UserError names a pattern that matches nothing.

    Patterns are relative to `base`; files are ordered by their names below their pattern.
    """
    return {name: _files(name, patterns, base, store) for name, patterns in inputs.items()}


def _files(name: str, patterns: tuple[str, ...], base: Path, store: Store) -> Files:
    found: dict[str, Path] = {}
    for number, pattern in enumerate(patterns):
        prefix = f"{number}/" if len(patterns) > 1 else ""
        matches = _matches(base, pattern)
        if not matches:
            raise UserError(
                f"inputs.{name}: no file matches {pattern!r} in {base.absolute()}; check the path, "
                "it is taken relative to the recipe"
            )
        found.update({prefix + short: path for short, path in matches.items()})
    files = tuple(_file(path, short, store) for short, path in sorted(found.items()))
    return Files(files, digest_of([f"{file.name} {file.digest}" for file in files]))


def _matches(base: Path, pattern: str) -> dict[str, Path]:
    """The files of a pattern by their names below its fixed part.

    Names enter the digest of the input, so they must not tell where on this machine it lies.
    """
    steps = Path(pattern).parts
    magic = [number for number, step in enumerate(steps) if any(mark in step for mark in "*?[")]
    if not magic:
        path = base / pattern
        return {path.name: path.resolve()} if path.is_file() else {}
    fixed = base.joinpath(*steps[: magic[0]])
    rest = str(Path(*steps[magic[0] :]))
    # `**` alone means folders to Path.glob before Python 3.13.
    rest = f"{rest}/*" if steps[-1] == "**" else rest
    paths = (path for path in fixed.glob(rest) if path.is_file())
    return {path.relative_to(fixed).as_posix(): path.resolve() for path in paths}


def _file(path: Path, name: str, store: Store) -> InputFile:
    try:
        facts = path.stat()
        known = f"inputs/{digest(f'{path} {facts.st_size} {facts.st_mtime_ns}'.encode())}.json"
        try:
            content = str(json.loads(bytes(store.get(known)))["digest"])
        except FileNotFoundError:
            content = _digest(path)
            store.put(known, json.dumps({"path": str(path), "digest": content}).encode())
    except PermissionError:
        raise UserError(f"{path}: no permission to read it; mend its mode or its owner") from None
    return InputFile(path, name, content, facts.st_size)


def _digest(path: Path) -> str:
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            state.update(block)
    return state.hexdigest()
