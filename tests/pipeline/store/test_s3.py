"""The engine on S3 (moto, on loopback): the same commits, the same bytes, no change of design."""

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.ledger.funnel import funnel
from pipeline.schedule.inline import Inline
from pipeline.store import gc, refs
from pipeline.store.objects import Store
from tests.support.schedulers import Chaotic, Killed
from tests.support.toy import build_toy, contents, write_recipe


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="builds")
    yield "s3://builds/store"
    server.stop()


def test_a_build_in_a_bucket_is_resumed_and_equal_to_a_local_one(tmp_path, bucket):
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


def test_of_two_writers_the_bucket_lets_one_commit(bucket):
    store = Store(bucket)
    assert store.create("done/1.json", b"first")
    assert not store.create("done/1.json", b"second")
    assert bytes(store.get("done/1.json")) == b"first"
