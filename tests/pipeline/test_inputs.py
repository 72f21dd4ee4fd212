"""Inputs: files by path or URL, identified by content or by what their server says of them."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest

from pipeline.dataset.errors import UserError
from pipeline.inputs import Files, resolve
from pipeline.schedule.inline import Inline
from pipeline.store.objects import Store
from tests.support.buckets import s3_bucket
from tests.support.toy import RECIPE, build_toy, contents, write_recipe

TREE = {
    "a.txt": b"a",
    "b.txt": b"bb",
    "deep/c.txt": b"ccc",
    "deep/er/d.txt": b"dddd",
    "deep/e.csv": b"e",
    "we[i]rd *name.txt": b"weird",
}
PATTERNS = {
    "*.txt": ["a.txt", "b.txt", "we[i]rd *name.txt"],
    "?.txt": ["a.txt", "b.txt"],
    "[!a].txt": ["b.txt"],
    "[a-b].txt": ["a.txt", "b.txt"],
    "**": sorted(TREE),
    "**/*.txt": sorted(name for name in TREE if name.endswith(".txt")),
    "deep/*": ["c.txt", "e.csv"],
    "deep/**": ["c.txt", "e.csv", "er/d.txt"],
    "deep/er/d.txt": ["d.txt"],
    "*/*.csv": ["deep/e.csv"],
}
"""What each pattern matches, by the names that go into the digest."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def _write(folder: Path) -> None:
    for name, data in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _upload(bucket: str, folder: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"])
    for name, data in TREE.items():
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=f"{folder}/{name}", Body=data)


def _names(files: Files) -> list[str]:
    return [file.name for file in files.files]


def test_patterns_match_alike_on_a_disk_and_in_a_bucket(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "tree")
    with s3_bucket(monkeypatch) as bucket:
        _upload(bucket, "tree")
        for pattern, names in PATTERNS.items():
            local = resolve({"x": (f"tree/{pattern}",)}, tmp_path, store)["x"]
            remote = resolve({"x": (f"{bucket}/tree/{pattern}",)}, tmp_path, store)["x"]
            assert _names(local) == sorted(names), pattern
            assert _names(remote) == sorted(names), pattern
            assert [file.read() for file in local.files] == [file.read() for file in remote.files]
            assert {file.identified_by for file in remote.files} == {"version"}


def test_a_build_reads_its_input_from_a_bucket(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path)
    local = contents(build_toy(path, store, Inline()))
    with s3_bucket(monkeypatch) as bucket:
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"])
        for seed in range(5):
            key = f"seeds/{seed:03d}"
            client.put_object(Bucket="builds", Key=key, Body=str(seed).encode())
        path.write_text(RECIPE.replace("seeds/*", f"{bucket}/seeds/*"))
        made = build_toy(path, store, Inline())
        assert contents(made) == local
        assert build_toy(path, store, Inline()).steps[0].action == "reused"
        client.put_object(Bucket="builds", Key="seeds/002", Body=b"77")
        changed = build_toy(path, store, Inline())
        assert (changed.steps[0].action, changed.steps[0].why) == ("input changed", "seeds")
    part = made.finished["numbers"].manifest.parts[2]
    record = bytes(store.get(f"{made.finished['numbers'].folder}/done/{part.index:05d}.json"))
    assert f"{bucket}/seeds/002".encode() in record and b'"version"' in record


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_files_of_a_web_server_are_named_one_by_one(tmp_path: Path, store: Store) -> None:
    _write(tmp_path / "tree")
    big = os.urandom(9_000_001)
    (tmp_path / "tree" / "big.bin").write_bytes(big)
    with _served(tmp_path / "tree") as url:
        pair = (f"{url}/deep/c.txt", f"{url}/big.bin")
        files = resolve({"x": pair}, tmp_path, store)["x"]
        assert _names(files) == ["0/c.txt", "1/big.bin"]
        assert [file.size_bytes for file in files.files] == [3, len(big)]
        with files.files[1].open() as stream:
            assert stream.read(5) == big[:5] and stream.read() == big[5:]
        with pytest.raises(UserError, match=r"inputs\.x: .*lists no files; name each file"):
            resolve({"x": (f"{url}/*.txt",)}, tmp_path, store)
        with pytest.raises(UserError, match=r"inputs\.x: no file matches .*absent\.txt"):
            resolve({"x": (f"{url}/absent.txt",)}, tmp_path, store)


def test_a_bucket_that_is_not_there_is_one_line(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_bucket(monkeypatch), pytest.raises(UserError, match=r"inputs\.x: .*nowhere") as caught:
        resolve({"x": ("s3://nowhere/tree/*",)}, tmp_path, store)
    assert "\n" not in str(caught.value)


def test_a_path_that_matches_nothing_says_where_it_looked(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match=r"no file matches 'crawl/\*' in .*relative to the recipe"):
        resolve({"pages": ("crawl/*",)}, tmp_path, store)


def test_lines_end_as_on_any_system(tmp_path: Path, store: Store) -> None:
    (tmp_path / "words.txt").write_bytes(b"red\r\n\r\ngreen apple\nblue\rgrey")
    files = resolve({"x": ("words.txt",)}, tmp_path, store)["x"]
    assert files.lines() == ("red", "green apple", "blue", "grey")
