"""Errors for people: what was wrong, where, and what to do, in one line; each with an exit code.

Anything else that reaches the command is a defect of ours and keeps its traceback. Rooms above add
their own kinds; all of them descend from `OpenwitError`.
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


class DatasetError(UserError):
    """A dataset, a list of uids or an evaluation set that is incomplete or cannot be read."""


class DamagedFile(DatasetError):
    """A file does not have the digest that its manifest records."""


class NewerFormat(DatasetError):
    """A manifest of a later major format than this version of openwit reads."""
