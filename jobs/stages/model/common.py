"""What the model stages have in common: the JSON beside their rows, and their name in errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.dataset.errors import UserError


@contextmanager
def stage_named(stage: str) -> Iterator[None]:
    """An error for people with the stage that it came from."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{stage}: {error}") from error


def json_bytes(record: object) -> bytes:
    """A record as the JSON file that a stage keeps beside its rows."""
    return (json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
