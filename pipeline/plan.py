"""Plans: what a run would do and why, stage by stage, without doing it.

A stage's key needs the content of its inputs, so it is known only as far as they are finished;
beyond that a plan says what the stage waits for. It reads manifests and refs and changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipeline.dataset.errors import DatasetError, UserError
from pipeline.dataset.manifest import InputRef, Manifest
from pipeline.errors import StageFailed
from pipeline.identity import defaults, recipe_key, stage_source
from pipeline.inputs import resolve
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.wiring import Node
from pipeline.stage import Side, Whole
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.result import Result

KEY_DIGITS = 16
NAMED = 3
UPSTREAM = "upstream"
"""What a manifest calls the input that a stage reads its rows from."""


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
    key: str = ""
    folder: str = ""
    inputs: Mapping[str, InputRef] = field(default_factory=dict)

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

    def finished_side(self, name: str) -> Side:
        """A finished stage or input; StageFailed where it is not finished yet."""
        source = self.side(name)
        if source is None:
            raise StageFailed(f"{name} is not finished, so nothing can be made from it")
        return source

    def step(self, node: Node) -> Step:
        """What to do about a stage, given what is finished so far."""
        inputs: dict[str, InputRef] = {}
        for side, name in {UPSTREAM: node.upstream, **node.sides}.items():
            source = self.side(name)
            if source is None:
                return Step(node, Action.WAITS, f"for {name}")
            inputs[side] = InputRef(name, source.content_digest)
        digests = {side: source.digest for side, source in inputs.items()}
        key = recipe_key(node.stage, node.params, digests)
        folder = f"{node.stage.name}/{key[:KEY_DIGITS]}"
        if self.store.exists(f"{folder}/manifest.json"):
            action, why = self._reused(node, folder)
        else:
            action, why = self._reason(node, inputs, folder)
        return Step(node, action, why, key, folder, inputs)

    def _reused(self, node: Node, folder: str) -> tuple[Action, str]:
        recorded = Result(self.store, folder).manifest.provenance.get("source", {})
        source = stage_source(node.stage)
        if recorded == source:
            return Action.REUSED, ""
        return Action.DRIFT, (
            f"made by other code of {node.stage.name} v{node.stage.version} "
            f"({_differing(recorded, source)}); reused, bump the stage's version to make it anew"
        )

    def _reason(
        self,
        node: Node,
        inputs: Mapping[str, InputRef],
        folder: str,
    ) -> tuple[Action, str]:
        if done := len(self.store.paths(f"{folder}/done")):
            return Action.RESUMED, f"{done} partitions are committed already"
        before = self._previous(node)
        if before is None:
            return Action.NEW, "never made for this build"
        if before.stage_version != node.stage.version:
            return Action.VERSION_CHANGED, f"{before.stage_version} -> {node.stage.version}"
        if changes := _changes(before.params, node):
            return Action.PARAMS_CHANGED, changes
        digests = {side: source.digest for side, source in before.inputs.items()}
        changed = [
            source.name for side, source in inputs.items() if digests.get(side) != source.digest
        ]
        return Action.INPUT_CHANGED, ", ".join(changed)

    def _previous(self, node: Node) -> Manifest | None:
        """The newest result that this build had for a stage and the store still has."""
        for ref in self._before:
            if node.name in ref.folders:
                try:
                    return ref.result(self.store, node.name).manifest
                except (FileNotFoundError, DatasetError):
                    continue
        return None


def check_place(recipe: Recipe, store: Store, until: str | None = None) -> None:
    """UserError if a stage up to `until` needs a local disk and the store is none."""
    for node in recipe.nodes:
        if isinstance(node.stage.shape, Whole) and store.local("") is None:
            raise UserError(
                f"stages.{node.name}: {node.stage.name} works on a local disk, and the store is "
                f"{store.url}; take a local store, or run --until the stage before it"
            )
        if node.name == until:
            return


def make(recipe: Recipe, store: Store) -> list[Step]:
    """The plan of a recipe: one step per stage, in order."""
    check_place(recipe, store)
    planner, steps = Planner(recipe, store), []
    for node in recipe.nodes:
        step = planner.step(node)
        if step.done:
            planner.finished[node.name] = Result(store, step.folder)
        steps.append(step)
    return steps


def _changes(before: Mapping[str, Any], node: Node) -> str:
    """The parameters that differ; one that was not recorded had today's default."""
    now = node.params.model_dump(mode="json")
    then = {**defaults(type(node.params)), **before}
    return ", ".join(
        f"{name} {then.get(name)}\N{RIGHTWARDS ARROW}{now.get(name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The modules whose code differs, the first few by name."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
