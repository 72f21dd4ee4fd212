"""Worlds of processes for tests, forked from one server that has torch and the trainer loaded."""

import json
import multiprocessing
import os
import random
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["trainer.train", "torch.distributed"])


def free_port() -> int:
    """Between those of Ray's workers and those that the kernel gives to connections meanwhile."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 50):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


class World:
    """`size` processes on loopback that each call `target(*arguments)`, as under torchrun."""

    def __init__(self, size: int, target: Callable[..., None], *arguments: Any) -> None:
        port = free_port()
        self.processes: list[ForkServerProcess] = []
        for rank in range(size):
            process = CONTEXT.Process(target=_enter, args=(rank, size, port, target, arguments))
            process.start()
            self.processes.append(process)

    def wait(self, timeout: float = 900) -> list[int | None]:
        """The exit codes, once all have ended."""
        for process in self.processes:
            process.join(timeout)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def kill(self) -> None:
        """SIGKILL to all that still run."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def run_world(size: int, target: Callable[..., None], *arguments: Any) -> None:
    """Call `target` in every process of a world and insist that all end well."""
    assert World(size, target, *arguments).wait() == [0] * size


def rank() -> int:
    return int(os.environ["RANK"])


def note(path: Path, record: Any) -> None:
    """Append a line of JSON to a file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def noted(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _enter(
    rank: int, size: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch

    torch.set_num_threads(1)
    try:
        target(*arguments)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None
