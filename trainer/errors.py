"""Errors for people: what was wrong, where, and what to do. Anything else is a defect of ours."""


class TrainerError(Exception):
    """The root; its message is one line that a person can act on."""


class ConfigError(TrainerError):
    """A configuration that names something unknown or impossible."""


class DatasetError(TrainerError):
    """A dataset or evaluation set that is incomplete or cannot be read."""


class CheckpointError(TrainerError):
    """A run's folder that belongs to another configuration or dataset."""


class Diverged(TrainerError):
    """The loss stayed not finite for too many steps in a row."""


class Interrupted(TrainerError):
    """The run was asked to stop; everything up to `step` is saved and will be taken up again."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped and saved after step {step}; run the same command to go on")
        self.step = step
