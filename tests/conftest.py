"""Settings that hold for all tests, and which tests are fast, slow or start Ray.

Machines are shared, noisy and small. The same examples in every run of the property tests, and no
clocks in them. One thread per process, and one that sleeps while it waits: threads that spin for
each other beside another busy process take many times as long. Ray's workers are as nice as their
neighbours, and its start may take minutes.
"""

import os
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
MARKS: dict[str, tuple[str, ...]] = {
    "chaos/test_kills.py": ("slow",),
    "jobs/commands/test_cli.py": ("slow", "ray"),
    "jobs/ray/test_ray_job.py": ("slow", "ray"),
    "jobs/ray/test_train_elastic.py": ("slow", "ray"),
    "jobs/ray/test_train_job.py": ("slow", "ray"),
    "jobs/test_end_to_end.py": ("slow", "ray"),
    "pipeline/schedule/test_schedulers.py": ("slow", "ray"),
}
"""Marks of whole modules, by path; a test of any other module is fast unless it says otherwise."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run under a table of marks that has not kept up with the modules."""
    if missing := [path for path in MARKS if not (TESTS / path).is_file()]:
        raise pytest.UsageError(f"{__file__}: MARKS lists modules that are not there: {missing}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test as fast or slow, and spread modules over workers, the longest first.

    A module stays on one worker, which then owns its fixtures; all tests that start Ray share one,
    so that two clusters never compete for two cores. (`pytest -n 2 --dist loadgroup`.)
    """
    for item in items:
        module = item.path.relative_to(TESTS).as_posix()
        for mark in MARKS.get(module, ()):
            item.add_marker(mark)
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
