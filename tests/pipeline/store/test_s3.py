"""The engine on S3 (moto, on loopback): the same commits, the same bytes, no change of design."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger.funnel import funnel
from pipeline.schedule.inline import Inline
from pipeline.store import gc, refs
from pipeline.store.objects import Store
from tests.support.buckets import s3_bucket
from tests.support.schedulers import Chaotic, Killed
from tests.support.toy import build_toy, contents, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_bucket(monkeypatch) as url:
        yield f"{url}/store"


def test_a_build_in_a_bucket_is_resumed_and_equal_to_a_local_one(
    tmp_path: Path, bucket: str
) -> None:
    path = write_recipe(tmp_path)
    local = build_toy(path, Store(str(tmp_path / "store")), Inline())
    store = Store(bucket)
    with pytest.raises(Killed):
        build_toy(path, store, Chaotic(1, lives=8))
    made = build_toy(path, store, Chaotic(2))
    assert contents(made) == contents(local)
    ref = refs.read(store, "toy")
    assert ref is not None
    assert funnel(ref, store) == funnel(ref, Store(str(tmp_path / "store")))
    assert gc.garbage(store) == gc.Garbage((), ())


def test_of_two_writers_the_bucket_lets_one_commit(bucket: str) -> None:
    store = Store(bucket)
    assert store.create("done/1.json", b"first")
    assert not store.create("done/1.json", b"second")
    assert bytes(store.get("done/1.json")) == b"first"
