"""What people write to name a result: NAME, NAME/STAGE, a recipe, or a stage's folder.

Stores are looked for where recipes put them by default (runs/NAME/store) unless one is named.
"""

from dataclasses import dataclass
from pathlib import Path

from jobs.commands.recipes import load_recipe
from pipeline.dataset.errors import UserError
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.refs import Ref
from pipeline.store.result import Result


@dataclass(frozen=True)
class Target:
    """A build in a store, and the stage that was named, if one was."""

    store: Store
    ref: Ref
    stage: str | None = None

    @property
    def datasets(self) -> dict[str, Result]:
        """All finished stages of the build, in order."""
        return self.ref.results(self.store)

    @property
    def dataset(self) -> Result:
        """The stage that was named; UserError if only a build was."""
        if self.stage is None:
            stages = ", ".join(f"{self.ref.name}/{stage}" for stage in self.ref.folders)
            raise UserError(f"{self.ref.name} is a whole build; name one stage of it: {stages}")
        return self.ref.result(self.store, self.stage)


def find_target(ref: str | None, store: str | None) -> Target:
    """The build (and stage) that `ref` names; the only build there is if it is None.

    Raises UserError where there is no such build, or more than one to choose from.
    """
    if ref is not None and ref.endswith((".yaml", ".yml")):
        recipe = load_recipe(Path(ref))
        return _named(recipe.name, None, [store or recipe.store])
    stores = [store] if store else [str(path) for path in sorted(Path("runs").glob("*/store"))]
    if not stores:
        raise UserError(
            "there is no runs/*/store here; run a recipe first, or name a store with --store"
        )
    if ref is not None:
        name, _, stage = ref.partition("/")
        return _named(name, stage or None, stores)
    builds = [(url, name) for url in stores for name in refs.names(Store(url))]
    if len(builds) != 1:
        names = ", ".join(name for _, name in builds) or "none"
        raise UserError(f"say which build is meant with --ref NAME; there are: {names}")
    url, name = builds[0]
    return _named(name, None, [url])


def _named(name: str, stage: str | None, stores: list[str]) -> Target:
    """The build `name` in the first of the stores that has it."""
    for url in stores:
        store = Store(url)
        ref = refs.read(store, name)
        if ref is not None:
            if stage is not None:
                ref.result(store, stage)
            return Target(store, ref, stage)
    known = sorted(name for url in stores for name in refs.names(Store(url)))
    there = ", ".join(known) or "none"
    raise UserError(f"no build is called {name!r} in {', '.join(stores)}; there are: {there}")


def dataset_at(where: str, store: str | None = None) -> Result:
    """A stage by its folder (one that holds manifest.json) or by NAME/STAGE."""
    folder = Path(where)
    if (folder / "manifest.json").is_file():
        root = folder.absolute().parent.parent
        return Result(Store(str(root)), f"{folder.absolute().parent.name}/{folder.name}")
    if folder.exists():
        raise UserError(f"{where}: holds no manifest.json, so it is no finished stage")
    if folder.is_absolute() or where.startswith("."):
        raise UserError(f"{where}: there is neither a file nor a stage's folder; check the path")
    return find_target(where, store).dataset
