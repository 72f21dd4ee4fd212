"""A build submitted with `ray job submit --working-dir .` to a Ray head of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jobs.quickstart.serve import ReplayServer
from tests.support.folders import coloured_pairs, write_dataset
from tests.support.ranks import free_port
from tests.support.small import ROOT, digests, kill_tree, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TEXT_STAGES = "near-dedup"
TRAINING = {
    "model": "ViT-Ti-8-32px",
    "steps": 20,
    "batch_size": 16,
    "warmup_steps": 2,
    "log_every": 4,
    "num_threads": 1,
}


Head = tuple[str, dict[str, str]]


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray head on loopback: the address of its dashboard and the environment of its clients."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_ADDRESS": "",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }
    subprocess.run(
        ["ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True
    )
    port = free_port()
    arguments = ["ray", "start", "--head", "--block", "--num-cpus=2", f"--port={free_port()}"]
    arguments += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    arguments += [f"--dashboard-port={port}", f"--ray-client-server-port={free_port()}"]
    arguments += ["--disable-usage-stats"]
    log = home / "head.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(process, address, log)
        yield address, environment
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            kill_tree(process)


def _wait_for(
    process: "subprocess.Popen[str]", address: str, log: Path, seconds: float = 300
) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2)
            return
        except urllib.error.HTTPError:
            return  # it answers; it only wants a token
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"no Ray head at {address} after {seconds} s")


def test_a_submitted_job_builds_what_a_local_run_builds(head: Head, tmp_path: Path) -> None:
    address, environment = head
    recipe, store = write_recipe(tmp_path), tmp_path / "store"
    with ReplayServer() as web:
        build = ["python", "-m", "jobs.build", str(recipe), "--store", str(store)]
        build += ["--exec", f"fetch.connect_to={web.address}", "--until", TEXT_STAGES]
        submitted = _submit(address, environment, build)
        assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
        here = [sys.executable, *build[1:]]
        here[here.index(str(store))] = str(tmp_path / "local")
        local = subprocess.run([*here, "--inline"], cwd=ROOT, capture_output=True, check=False)
    assert local.returncode == 0, local.stderr
    assert digests(store) == digests(tmp_path / "local")
    assert not [p for p in psutil.process_iter() if str(store) in " ".join(_words(p))]


@pytest.mark.chaos
def test_a_submitted_training_ends_in_the_bits_of_torchrun(head: Head, tmp_path: Path) -> None:
    address, environment = head
    dataset = write_dataset(tmp_path / "squares", coloured_pairs(64))
    files = {}
    for name in ("submitted", "alone"):
        record = {**TRAINING, "dataset": str(dataset), "workdir": str(tmp_path / name)}
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(record))
    entry = ["python", "-m", "jobs.train", str(files["submitted"]), "--num-workers", "2"]
    submitted = _submit(address, environment, entry)
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "trainer.train", str(files["alone"])]
    alone = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr[-3000:]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in files]
    assert weights[0] == weights[1]


def _submit(
    address: str, environment: dict[str, str], entry: list[str], seconds: float = 600
) -> "subprocess.CompletedProcess[str]":
    """`ray job submit`, again while the young head cannot take a job yet."""
    ends = time.monotonic() + seconds
    while True:
        done = subprocess.run(
            ["ray", "job", "submit", "--address", address, "--working-dir", ".", "--", *entry],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if "submitted successfully" in done.stdout + done.stderr or time.monotonic() > ends:
            return done
        time.sleep(1)


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
