"""Settings that hold for all tests: machines are shared, noisy and small.

No clocks in property tests, and one thread a process that sleeps when it waits: threads that spin
for each other beside another busy process take many times as long.
"""

import os

from hypothesis import settings

for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("OMP_NUM_THREADS", "1")):
    os.environ.setdefault(name, value)
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
