"""Input files: patterns of a recipe resolved to files, identified by what is in them.

A pattern is a path (relative to the recipe) or a URL: s3://, gs://, az://, https://. Where files
can be listed, `*`, `?`, `[...]` and `**` match as in a shell. Local files are identified by their
digest, remembered in the store under path, size and time of change; remote ones by what their
server says of their version (etag or time of change), and by their digest where it says nothing.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipeline.dataset.errors import UserError
from pipeline.dataset.manifest import DIGEST_BYTES, digest, digest_of
from pipeline.store.objects import ObjectFacts, Store

READ_BYTES = 1 << 24
MAGIC = re.compile(r"[*?[]")
HTTP_MAGIC = re.compile(r"[*[]")
"""A question mark begins the query of an http address."""


@dataclass(frozen=True)
class InputFile:
    """One file that the user gave: where it is, the name it goes by, its identity and size.

    `root` and `path` say where: a folder or a URL's beginning, and the rest. `identity` is a digest
    of the content or, for `identified_by` "version", of what the server says of its version.
    """

    root: str
    path: str
    name: str
    identity: str
    size_bytes: int
    identified_by: str = "digest"

    @property
    def where(self) -> str:
        """The whole path or URL."""
        return f"{self.root}/{self.path}"

    @property
    def local(self) -> Path | None:
        """The file on a local disk, None for one at a URL."""
        return None if "://" in self.root else Path(self.root) / self.path

    def open(self) -> BinaryIO:
        """The file as a stream of bytes; a remote one is read as it is asked for."""
        if self.local is not None:
            return self.local.open("rb")
        return Store(self.root).open(self.path)

    def read(self) -> bytes:
        """All bytes of the file."""
        with self.open() as file:
            return file.read()

    def facts(self) -> dict[str, object]:
        """The file in plain values, as records keep it."""
        return {
            "where": self.where,
            "name": self.name,
            self.identified_by: self.identity,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True)
class Files:
    """An input of a recipe: files in the order of their names, identified by their content."""

    files: tuple[InputFile, ...]
    content_digest: str

    def __repr__(self) -> str:
        size = sum(file.size_bytes for file in self.files)
        return f"<Files: {len(self.files)}, {size:,} bytes, {self.content_digest[:12]}>"

    def lines(self) -> tuple[str, ...]:
        """The non-empty lines of all files, in order, without their ends."""
        texts = (file.read().decode() for file in self.files)
        return tuple(line for text in texts for line in re.split(r"\r\n|\n|\r", text) if line)


def resolve(inputs: Mapping[str, tuple[str, ...]], base: Path, store: Store) -> dict[str, Files]:
    """The files behind every input; UserError names a pattern that matches nothing.

    Patterns are relative to `base`; files are ordered by their names below their pattern.
    """
    return {name: _files(name, patterns, base, store) for name, patterns in inputs.items()}


def _files(name: str, patterns: tuple[str, ...], base: Path, store: Store) -> Files:
    files: list[InputFile] = []
    for number, pattern in enumerate(patterns):
        # Names enter the digest of an input, so they must not tell where it lies; with several
        # patterns the number keeps equal names apart.
        prefix = f"{number}/" if len(patterns) > 1 else ""
        matches = list(_matches(name, pattern, base, prefix, store))
        if not matches:
            place = "" if "://" in pattern else f" in {base.absolute()}"
            what = "" if place == "" else "; check the path, it is taken relative to the recipe"
            raise UserError(f"inputs.{name}: no file matches {pattern!r}{place}{what}")
        files += matches
    files.sort(key=lambda file: file.name)
    return Files(tuple(files), digest_of([f"{file.name} {file.identity}" for file in files]))


def _matches(name: str, pattern: str, base: Path, prefix: str, store: Store) -> Iterator[InputFile]:
    if "://" not in pattern:
        for short, path in _local_matches(base, pattern).items():
            yield _local_file(path, prefix + short, store)
        return
    try:
        for short, root, facts in _remote_matches(pattern):
            yield _remote_file(root, facts, prefix + short)
    except UserError as error:
        raise UserError(f"inputs.{name}: {error}") from error


def _local_matches(base: Path, pattern: str) -> dict[str, Path]:
    """The files of a pattern by their names below its fixed part."""
    steps = Path(pattern).parts
    magic = [number for number, step in enumerate(steps) if MAGIC.search(step)]
    if not magic:
        path = base / pattern
        return {path.name: path.resolve()} if path.is_file() else {}
    fixed = base.joinpath(*steps[: magic[0]])
    rest = str(Path(*steps[magic[0] :]))
    # `**` alone means folders to Path.glob before Python 3.13.
    rest = f"{rest}/*" if steps[-1] == "**" else rest
    paths = (path for path in fixed.glob(rest) if path.is_file())
    return {path.relative_to(fixed).as_posix(): path.resolve() for path in paths}


def _local_file(path: Path, name: str, store: Store) -> InputFile:
    try:
        facts = path.stat()
        known = f"inputs/{digest(f'{path} {facts.st_size} {facts.st_mtime_ns}'.encode())}.json"
        try:
            content = str(json.loads(bytes(store.get(known)))["digest"])
        except FileNotFoundError:
            with path.open("rb") as file:
                content = _digest(file)
            store.put(known, json.dumps({"path": str(path), "digest": content}).encode())
    except PermissionError:
        raise UserError(f"{path}: no permission to read it; mend its mode or its owner") from None
    return InputFile(str(path.parent), path.name, name, content, facts.st_size)


def _remote_matches(pattern: str) -> Iterator[tuple[str, str, ObjectFacts]]:
    """Names below the fixed part of a URL pattern, its root, and what the server says of each."""
    scheme, _, rest = pattern.partition("://")
    host, _, path = rest.partition("/")
    root, steps = f"{scheme}://{host}", path.split("/")
    store, by_http = Store(root), scheme in ("http", "https")
    marks = HTTP_MAGIC if by_http else MAGIC
    magic = [number for number, step in enumerate(steps) if marks.search(step)]
    if magic and by_http:
        raise UserError(f"{pattern}: {scheme} lists no files; name each file by its URL")
    if not magic:
        facts = store.facts(path)
        if facts is not None:
            yield PurePosixPath(path).name, root, facts
        return
    fixed = "/".join(steps[: magic[0]])
    matches = _glob("/".join(steps[magic[0] :]))
    for facts in store.listing(fixed):
        name = facts.path.removeprefix(f"{fixed}/") if fixed else facts.path
        if matches(name):
            yield name, root, facts


def _glob(pattern: str) -> Callable[[str], bool]:
    """Whether a path matches: `*` and `?` stay within a folder, `**` goes through any number."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    spelled = [
        words.get(part) or (_set_of(part) if part.startswith("[") else re.escape(part))
        for part in parts
    ]
    compiled = re.compile("".join(spelled), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def _set_of(part: str) -> str:
    """A set of characters as a shell writes it, `[!a-c]`, as a regular expression has it."""
    inside = part[1:-1].replace("\\", "\\\\")
    return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def _remote_file(root: str, facts: ObjectFacts, name: str) -> InputFile:
    if facts.version:
        identity = digest(f"{facts.version} {facts.size_bytes}".encode())
        return InputFile(root, facts.path, name, identity, facts.size_bytes, "version")
    with Store(root).open(facts.path) as file:
        return InputFile(root, facts.path, name, _digest(file), facts.size_bytes)


def _digest(file: BinaryIO | io.BufferedIOBase) -> str:
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while block := file.read(READ_BYTES):
        state.update(block)
    return state.hexdigest()
