"""A small build over a part of the mini-web, in a process that can be killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = ROOT / "jobs" / "quickstart"
RECIPE = f"""\
name: small
inputs:
  pages: {QUICKSTART}/web/pages-0[0-1].warc.gz
  queries: {QUICKSTART}/queries.txt
  heldout: {QUICKSTART}/heldout/**
stages:
  extract:
  captions:
  language:
  rules:
  url-dedup:
  match:
  count:
  balance: {{t: 100}}
  fetch:
  image-rules:
  image-dedup:
  image-neighbours:
  near-dedup:
  shard: {{pairs_per_shard: 200}}
  train: {{model: ViT-Ti-8-32px, steps: 12, batch_size: 32, warmup_steps: 2, log_every: 4}}
  evaluate:
  report:
execution:
  train: {{checkpoint_every_steps: 3, num_threads: 1}}
"""


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def command(recipe: Path, store: Path, address: str, *more: str) -> list[str]:
    fetch = f"fetch.connect_to={address}"
    return [
        sys.executable,
        "-m",
        "jobs.build",
        str(recipe),
        "--store",
        str(store),
        "--exec",
        fetch,
        *more,
    ]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    """The command in a session of its own, so that the whole of it can be killed."""
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell that runs something in the background lets it, and its children, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def kill_tree(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to the driver and everything it started, Ray's own processes included."""
    root = psutil.Process(process.pid)
    tree = {root, *_children(root)}
    _to_each(tree, psutil.Process.suspend)
    tree |= set(_children(root))  # what was started before its parent was suspended
    _to_each(tree, psutil.Process.kill)
    psutil.wait_procs(list(tree), timeout=20)
    process.communicate()


def _to_each(processes: Iterable[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # some end by themselves meanwhile
            act(process)


def _children(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(root.children(recursive=True))
    return []


def digests(store: Path) -> dict[str, tuple[str, str]]:
    """What identifies each stage's result."""
    folders = json.loads((store / "refs" / "small.json").read_text())["stages"]
    manifests = {
        name: json.loads((store / folder / "manifest.json").read_text())
        for name, folder in folders.items()
    }
    return {
        name: (record["content_digest"], record["ledger_digest"])
        for name, record in manifests.items()
    }
