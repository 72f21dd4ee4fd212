"""Errors for people: what was wrong, where, and what to do, in one line; each with an exit code.

Anything else that reaches the command is a defect of ours and keeps its traceback.
"""

from enum import IntEnum


class Exit(IntEnum):
    """What the command's exit code means."""

    OK = 0
    USER_ERROR = 1
    LOSSES_OVER_BUDGET = 2
    INTERNAL = 3
    INTERRUPTED = 130


class OpenwitError(Exception):
    """The root; its message is one line that a person can act on."""

    exit_code = Exit.INTERNAL


class UserError(OpenwitError):
    """Something that the user can put right: a recipe, a path, a full disk."""

    exit_code = Exit.USER_ERROR


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
