"""The trainer's own errors for people, by what a person can do about them."""

from pipeline.dataset.errors import UserError


class ConfigError(UserError):
    """A configuration that names something unknown or impossible."""


class CheckpointError(UserError):
    """A run's folder that belongs to another configuration or dataset."""


class Diverged(UserError):
    """The loss stayed bad for too many steps in a row, or after too many rewinds."""


class Stopped(UserError):
    """The run was asked to stop; everything up to `step` is saved, and the run can be resumed."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped and saved after step {step}; run the same command to go on")
        self.step = step
