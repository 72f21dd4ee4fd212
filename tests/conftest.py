"""Settings that hold for all tests: machines are shared, noisy and small.

The same examples in every run of the property tests, and no clocks in them. One thread a process
that sleeps when it waits: threads that spin for each other beside another busy process take many
times as long. Ray's workers are as nice as their neighbours, and its start may take minutes.
"""

import os

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
