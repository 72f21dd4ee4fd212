"""Refs: movable human names for finished stages, with a log of every move that is never rewritten.

`refs/NAME.json` maps the stages of a build to their folders. Re-running a changed recipe moves the
name; what it pointed to before stays in the store, and in the log, until `gc`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.dataset.errors import UserError
from pipeline.store.objects import Store
from pipeline.store.result import Result

HISTORY = 100
"""Moves that `history` looks back over."""


@dataclass(frozen=True)
class Ref:
    """A build's name and the folder of each of its finished stages, in the recipe's order."""

    name: str
    folders: Mapping[str, str]

    def result(self, store: Store, stage: str) -> Result:
        """One stage of the build; UserError if it has none of that name."""
        if stage not in self.folders:
            have = ", ".join(self.folders)
            raise UserError(f"{self.name} has no stage {stage!r}; it has: {have}")
        return Result(store, self.folders[stage])

    def results(self, store: Store) -> dict[str, Result]:
        """All stages of the build, in order."""
        return {stage: Result(store, folder) for stage, folder in self.folders.items()}


def read(store: Store, name: str) -> Ref | None:
    """The ref called `name`, or None."""
    try:
        record = json.loads(bytes(store.get(f"refs/{name}.json")))
    except FileNotFoundError:
        return None
    return Ref(name, record["stages"])


def history(store: Store, name: str) -> Iterator[Ref]:
    """What a name pointed to, newest first, as far back as anybody will ask."""
    for path in reversed(store.paths(f"refs/{name}.log")[-HISTORY:]):
        yield Ref(name, json.loads(bytes(store.get(path)))["stages"])


def names(store: Store) -> list[str]:
    """All refs of a store."""
    paths = (path.removeprefix("refs/") for path in store.paths("refs"))
    return [path.removesuffix(".json") for path in paths if "/" not in path]


def move(store: Store, ref: Ref) -> None:
    """Point a name somewhere else and log the move; a move to where it points already is none."""
    if read(store, ref.name) == ref:
        return
    record = {"stages": dict(ref.folders)}
    moved = {**record, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    number = len(store.paths(f"refs/{ref.name}.log"))
    while not store.create(f"refs/{ref.name}.log/{number:06d}.json", json.dumps(moved).encode()):
        number += 1
    store.put(f"refs/{ref.name}.json", json.dumps(record, indent=1).encode())
