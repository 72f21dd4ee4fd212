"""The trainer's rows by group; each group is a module with a `measure` of its own."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from jobs.bench.table import Measurement
from pipeline.dataset.errors import UserError

GROUPS = ("tokenizer", "loss", "loader", "step")


def measure(
    repeats: int, groups: Sequence[str], texts: Path | None, progress: Callable[[str], None]
) -> list[Measurement]:
    """The rows of `groups`, in their order; UserError on an unknown one, or a peer that is missing.

    `texts` has captions to tokenise, one per line, in place of those that every machine has.
    """
    if unknown := [name for name in groups if name not in GROUPS]:
        raise UserError(f"--only: there is no {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    rows = []
    for name in groups:
        progress(f"measuring {name} ...")
        options = {"texts": texts} if name == "tokenizer" and texts is not None else {}
        try:
            rows += import_module(f"jobs.bench.{name}").measure(repeats, **options)
        except ModuleNotFoundError as error:
            raise missing(error) from None
    return rows


def missing(error: ModuleNotFoundError) -> UserError:
    """A peer that is not installed, as one line that says how to get it."""
    return UserError(f"{error.name} is missing: pip install 'openwit[bench]'")
