"""The engine's own errors for people, by what a person does about them."""

from pipeline.dataset.errors import Exit, OpenwitError, UserError


class RecipeError(UserError):
    """A recipe that cannot be read: the message names file, line, field, value and what is
    allowed.
    """


class StorageError(UserError):
    """The store refused to read or write: a full disk, a missing bucket, no permission."""


class StageFailed(OpenwitError):
    """A stage's own code broke a contract or crashed; everything committed so far stands."""


class Interrupted(OpenwitError):
    """The user stopped the run; everything committed so far stands."""

    exit_code = Exit.INTERRUPTED
