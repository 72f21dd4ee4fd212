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
MODULES: dict[str, tuple[str, ...]] = {
    "chaos/test_kills.py": ("slow",),
    "jobs/bench/test_bench_trainer.py": ("slow",),
    "jobs/commands/test_cli.py": ("slow",),
    "jobs/commands/test_convert.py": ("slow",),
    "jobs/ray/test_ray_job.py": ("slow", "ray"),
    "jobs/ray/test_train_elastic.py": ("slow", "ray"),
    "jobs/ray/test_train_job.py": ("slow", "ray"),
    "jobs/test_end_to_end.py": ("slow", "ray"),
    "pipeline/schedule/test_schedulers.py": ("slow", "ray"),
    "pipeline/store/test_s3.py": ("slow",),
    "trainer/data/test_loader.py": ("slow",),
    "trainer/evaluate/test_probe.py": ("slow",),
    "trainer/interchange/test_convert.py": ("slow",),
    "trainer/losses/test_distributed_losses.py": ("slow",),
    "trainer/measure/test_bench_gpu.py": ("slow",),
    "trainer/models/test_models.py": ("slow",),
    "trainer/run/test_heartbeat.py": ("slow",),
    "trainer/run/test_resume.py": ("slow",),
    "trainer/run/test_step.py": ("slow",),
    "trainer/test_train.py": ("slow",),
}
"""Marks of all tests of a module; a test that is not slow is fast."""

SINGLE_TESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "jobs/commands/test_cli.py": {
        "test_a_full_disk_is_one_line_and_the_same_command_goes_on": ("ray", "root"),
    },
    "pipeline/store/test_store.py": {
        "test_a_full_disk_is_one_line_that_says_what_to_do": ("root",),
    },
    "trainer/checkpoints/test_manager.py": {
        "test_a_full_disk_costs_the_save_and_nothing_else": ("root",),
        "test_a_saver_killed_at_any_moment_leaves_a_sound_checkpoint": ("slow",),
        "test_the_lock_of_a_killed_run_does_not_outlive_it_in_its_workers": ("slow",),
    },
    "trainer/evaluate/test_evaluate.py": {
        "test_a_trained_model_tells_its_colours_apart": ("slow",),
    },
    "trainer/models/test_resnet.py": {
        "test_a_model_of_full_size_embeds_like_open_clips": ("slow",),
    },
    "trainer/run/test_trackers.py": {
        "test_weights_and_biases_is_told_rows_and_configuration_and_nothing_else": ("slow",),
    },
}
"""Further marks of single tests, by module."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run under tables of marks that have not kept up with the tests."""
    missing = [module for module in {*MODULES, *SINGLE_TESTS} if not (TESTS / module).is_file()]
    for module, tests in SINGLE_TESTS.items():
        text = "" if module in missing else (TESTS / module).read_text(encoding="utf-8")
        missing += [f"{module}::{test}" for test in tests if f"def {test}(" not in text]
    if missing:
        raise pytest.UsageError(f"{__file__}: marks of tests that are not there: {missing}")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by how many they are, unless they are short and readable.

    What gzip writes holds the time of day, and workers must agree on the name of every test.
    """
    if isinstance(val, bytes) and not (len(val) <= 40 and val.decode("latin-1").isprintable()):
        return f"{len(val)} bytes"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test as fast or slow, and spread modules over workers, the longest first.

    A module stays on one worker, which then owns its fixtures; all tests that start Ray share one,
    so that two clusters never compete for two cores. (`pytest -n 2 --dist loadgroup`.)
    """
    for item in items:
        module = item.path.relative_to(TESTS).as_posix()
        test = getattr(item, "originalname", item.name)
        single = SINGLE_TESTS.get(module, {}).get(test, ())
        for mark in (*MODULES.get(module, ()), *single):
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
