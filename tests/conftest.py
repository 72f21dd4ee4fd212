"""Settings that hold for all tests: no clocks in property tests, machines are shared and noisy."""

from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
