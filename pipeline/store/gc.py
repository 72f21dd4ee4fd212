"""Garbage collection: folders that no ref reaches, and what a kill left half-written.

Changed parameters make new folders and never overwrite old ones, so a store grows until this runs.
"""

from dataclasses import dataclass

from pipeline.dataset.manifest import Manifest
from pipeline.store import refs
from pipeline.store.objects import Store

OURS = ("refs", "inputs")


@dataclass(frozen=True)
class Garbage:
    """What can go: folders out of reach, and objects inside kept folders that no manifest names."""

    folders: tuple[str, ...]
    objects: tuple[str, ...]


def garbage(store: Store) -> Garbage:
    """Everything that no ref reaches. A stage that is still running counts as out of reach."""
    reached = _reached(store)
    folders = [
        folder
        for stage in store.folders()
        if stage not in OURS
        for folder in store.folders(stage)
        if folder not in reached
    ]
    strays = [path for folder in reached for path in _strays(store, folder)]
    return Garbage(tuple(sorted(folders)), tuple(sorted(strays)))


def collect(store: Store, found: Garbage) -> int:
    """Delete garbage; returns how many objects went."""
    paths = [path for folder in found.folders for path in store.paths(folder)]
    # Manifests first: a folder half-deleted must not look complete.
    paths.sort(key=lambda path: (not path.endswith("manifest.json"), path))
    store.delete([*paths, *found.objects])
    return len(paths) + len(found.objects)


def _reached(store: Store) -> set[str]:
    named = (refs.read(store, name) for name in refs.names(store))
    return {folder for ref in named if ref for folder in ref.folders.values()}


def _strays(store: Store, folder: str) -> list[str]:
    try:
        manifest = Manifest.from_json(bytes(store.get(f"{folder}/manifest.json")))
    except FileNotFoundError:
        return []
    named = {ref.path for part in manifest.parts for ref in part.files.values()}
    named |= {f"done/{part.index:05d}.json" for part in manifest.parts}
    named |= {"plan.json", "manifest.json"}
    paths = (path.removeprefix(f"{folder}/") for path in store.paths(folder))
    return [f"{folder}/{path}" for path in paths if path not in named]
