"""Plans: what a run would do and why, stage by stage, without doing it.

A stage's key needs the content of its inputs, so it is known only as far as they are finished;
beyond that a plan says what the stage waits for. It reads manifests and refs and changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipeline.dataset.manifest import Manifest
from pipeline.identity import recipe_key, source_digest
from pipeline.inputs import resolve
from pipeline.recipe import Node, Recipe
from pipeline.stage import Side
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.result import Result

KEY_DIGITS = 16


class Action(StrEnum):
    """What will become of a stage."""

    REUSED = "reused"
    NEW = "new"
    INPUT_CHANGED = "input changed"
    PARAMS_CHANGED = "params changed"
    VERSION_CHANGED = "version changed"
    RESUMED = "resumed"
    WAITS = "waits"
    DRIFT = "drift"


@dataclass(frozen=True)
class Step:
    """One stage of a plan: what will be done, why, and its folder as far as it is known."""

    node: Node
    action: Action
    why: str
    key: str | None = None
    folder: str | None = None
    inputs: Mapping[str, str] | None = None

    @property
    def done(self) -> bool:
        """Whether the stage is complete and needs no work."""
        return self.action in (Action.REUSED, Action.DRIFT)


class Planner:
    """Answers for one stage at a time, in order; a run asks it again as stages finish."""

    def __init__(
        self, recipe: Recipe, store: Store, given: Mapping[str, Side] | None = None
    ) -> None:
        self.recipe, self.store = recipe, store
        self._given: dict[str, Side] = {
            **resolve(recipe.inputs, recipe.path.parent, store),
            **(given or {}),
        }
        self.finished: dict[str, Result] = {}
        self._before = list(refs.history(store, recipe.name))

    def side(self, source: str) -> Side | None:
        """A finished stage or input by name, None while the stage is not finished."""
        return self._given.get(source) or self.finished.get(source)

    def step(self, node: Node) -> Step:
        """What to do about a stage, given what is finished so far."""
        sources = {"": node.upstream, **node.sides}
        contents: dict[str, str] = {}
        for side, source in sources.items():
            found = self.side(source)
            if found is None:
                return Step(node, Action.WAITS, f"for {source}")
            contents[side or "upstream"] = found.content
        params = node.params.model_dump(mode="json")
        key = recipe_key(node.stage.name, node.stage.version, params, contents)
        folder = f"{node.stage.name}/{key[:KEY_DIGITS]}"
        if self.store.exists(f"{folder}/manifest.json"):
            return self._reused(node, key, folder, contents)
        action, why = self._reason(node, params, contents, folder)
        return Step(node, action, why, key, folder, contents)

    def _reused(self, node: Node, key: str, folder: str, inputs: Mapping[str, str]) -> Step:
        manifest = Result(self.store, folder).manifest
        if manifest.provenance.get("source") == source_digest(node.stage.modules):
            return Step(node, Action.REUSED, "", key, folder, inputs)
        why = (
            f"made by other code of {node.stage.name} v{node.stage.version}; reused, bump the "
            "stage's version to make it anew"
        )
        return Step(node, Action.DRIFT, why, key, folder, inputs)

    def _reason(
        self,
        node: Node,
        params: Mapping[str, Any],
        inputs: Mapping[str, str],
        folder: str,
    ) -> tuple[Action, str]:
        if done := len(self.store.paths(f"{folder}/done")):
            return Action.RESUMED, f"{done} partitions are committed already"
        before = self._previous(node)
        if before is None:
            return Action.NEW, "never made for this build"
        if before.version != node.stage.version:
            return Action.VERSION_CHANGED, f"{before.version} -> {node.stage.version}"
        if dict(before.params) != dict(params):
            return Action.PARAMS_CHANGED, _changes(before.params, params)
        changed = [name for name, content in inputs.items() if before.inputs.get(name) != content]
        sources = {"upstream": node.upstream, **node.sides}
        return Action.INPUT_CHANGED, ", ".join(sources[name] for name in changed)

    def _previous(self, node: Node) -> Manifest | None:
        """The newest result that this build had for a stage and the store still has."""
        for ref in self._before:
            if node.name in ref.folders:
                try:
                    return ref.dataset(self.store, node.name).manifest
                except FileNotFoundError:
                    continue
        return None


def make(recipe: Recipe, store: Store) -> list[Step]:
    """The plan of a recipe: one step a stage, in order."""
    planner, steps = Planner(recipe, store), []
    for node in recipe.nodes:
        step = planner.step(node)
        if step.done and step.folder:
            planner.finished[node.name] = Result(store, step.folder)
        steps.append(step)
    return steps


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    fields = sorted({*before, *now})
    changed = (field for field in fields if before.get(field) != now.get(field))
    return ", ".join(
        f"{field} {before.get(field)}\N{RIGHTWARDS ARROW}{now.get(field)}" for field in changed
    )
