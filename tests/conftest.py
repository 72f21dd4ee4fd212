"""Settings that hold for all tests, and how they are spread over cores.

Machines are shared, noisy and small. The same examples in every run of the property tests, and no
clocks in them. One thread per process, and one that sleeps while it waits: threads that spin for
each other beside another busy process take many times as long. Ray's workers are as nice as their
neighbours, and its start may take minutes.
"""

import os
import re
from pathlib import Path

import pytest
from hypothesis import settings

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_local_fs_capacity_threshold": "1",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "300",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")

TESTS = Path(__file__).parent
SLOW_MODULE = re.compile(r"^pytestmark = .*\bslow\b", re.MULTILINE)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by how many they are, unless they are short and readable.

    What gzip writes holds the time of day, and workers must agree on the name of every test.
    """
    if isinstance(val, bytes) and not (len(val) <= 40 and val.decode("latin-1").isprintable()):
        return f"{len(val)} bytes"
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only fast tests are wanted, spare the imports of slow modules, which take seconds."""
    if config.option.markexpr != "fast" or not collection_path.name.startswith("test_"):
        return None
    return bool(SLOW_MODULE.search(collection_path.read_text(encoding="utf-8"))) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is not slow as fast, and spread modules over workers, the longest first.

    A module stays on one worker, which then owns its fixtures; all tests that start Ray share one,
    so that two clusters never compete for two cores. (`pytest -n 2 --dist loadgroup`.)
    """
    for item in items:
        module = item.path.relative_to(TESTS).as_posix()
        if item.get_closest_marker("chaos"):
            item.add_marker("slow")
        if not item.get_closest_marker("slow"):
            item.add_marker("fast")
        group = "ray" if item.get_closest_marker("ray") else module
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    """Ray's tests begin first and the fast ones fill up what is left; sorting keeps the rest."""
    if item.get_closest_marker("ray"):
        return 0
    return 1 if item.get_closest_marker("slow") else 2
