"""The store: whole objects, one winner, and errors that say where."""

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.store.objects import Store
from tests.support.disk import small_disk


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "s") if request.param == "local" else f"memory://{tmp_path}")


def test_what_is_put_is_read_back_whole_and_in_ranges(store: Store) -> None:
    store.put("a/b.bin", memoryview(b"0123456789"))
    assert bytes(store.get("a/b.bin")) == b"0123456789"
    assert [bytes(part) for part in store.get_ranges("a/b.bin", [0, 7], [2, 10])] == [b"01", b"789"]
    assert store.paths("a") == ["a/b.bin"] and store.exists("a/b.bin")
    assert store.folders() == ["a"]
    store.delete(["a/b.bin", "a/never"])
    assert not store.exists("a/b.bin")
    with pytest.raises(FileNotFoundError):
        store.get("a/b.bin")


def test_of_many_writers_one_creates(store: Store) -> None:
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda n: store.create("commit", b"%d" % n), range(32)))
    assert won.count(True) == 1
    assert bytes(store.get("commit")) == b"%d" % won.index(True)


def test_a_store_travels_by_its_url(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("x", b"1")
    assert bytes(pickle.loads(pickle.dumps(store)).get("x")) == b"1"


@pytest.mark.root
def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as small:
        with pytest.raises(StorageError, match="the disk is full; free some space") as caught:
            Store(str(small)).put("big", b"x" * 1_000_000)
        assert str(small) in str(caught.value) and "\n" not in str(caught.value)


def test_an_error_of_the_system_says_which_object(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("obstore.put", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*x/y.*Permission denied"):
        store.put("x/y", b"1")
