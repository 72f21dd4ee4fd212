"""Runs: a recipe carried out stage by stage, each resumed where it stands and committed last of
all.

The driver holds no state that is not on storage: it lists what is committed, has the rest done,
checks that no row was lost, and writes the manifest. Running again is the retry.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.contract import check_inputs
from pipeline.dataset.manifest import Manifest
from pipeline.errors import StageFailed
from pipeline.identity import canonical_json
from pipeline.manifesting import make_manifest
from pipeline.plan import Planner, Step, check_place
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.wiring import Node
from pipeline.schedule.scheduler import Scheduler
from pipeline.stage import Exchange, Fold, Read, Side, Whole
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.result import Result
from pipeline.watch.progress import Progress
from pipeline.work import FOLD_GROUP, StageRun, num_buckets, part, spill


@dataclass(frozen=True)
class DamageLoss:
    """A stage that lost more rows to damage than its budget allows."""

    node: str
    rows: int
    lost: int
    budget: float
    reasons: Mapping[str, int]

    def __str__(self) -> str:
        """One line for people."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.items())
        return (
            f"{self.node}: {self.lost:,} of {self.rows:,} rows lost to damage ({reasons}), over "
            f"the budget of {self.budget:.2%}; look at them with `openwit funnel`, or raise "
            f"execution.{self.node}.loss_budget"
        )


@dataclass
class Build:
    """What a run came to: the finished stages in order, the steps taken, and losses over budget."""

    recipe: Recipe
    store: Store
    steps: list[Step] = field(default_factory=list)
    finished: dict[str, Result] = field(default_factory=dict)
    losses: list[DamageLoss] = field(default_factory=list)

    def __repr__(self) -> str:
        reused = sum(step.done for step in self.steps)
        stages = f"{len(self.finished)} stages, {reused} reused"
        return f"<Build {self.recipe.name}: {stages}, {len(self.losses)} over their loss budget>"


def build(
    recipe: Recipe,
    store: Store,
    scheduler: Scheduler,
    progress: Progress,
    until: str | None = None,
    given: Mapping[str, Side] | None = None,
) -> Build:
    """Carry out a recipe up to and including the stage `until`, reusing whatever stands.

    `given` are inputs made elsewhere, by the names that the recipe's nodes use for them.

    Raises UserError, StageFailed or Interrupted; everything committed before stays.
    """
    check_place(recipe, store, until)
    planner = Planner(recipe, store, given)
    result = Build(recipe, store, finished=planner.finished)
    for node in recipe.nodes:
        step = planner.step(node)
        stage = Result(store, step.folder)
        progress.begin(step)
        if not step.done:
            run_stage(step, stage_run(planner, step), scheduler, progress)
        progress.end(step, stage.manifest)
        planner.finished[node.name] = stage
        result.steps.append(step)
        result.losses.extend(_loss(node, stage.manifest))
        refs.move(store, refs.Ref(recipe.name, _folders(planner.finished)))
        if node.name == until:
            break
    return result


def stage_run(planner: Planner, step: Step) -> StageRun:
    """The work order for a step; UserError unless its inputs are finished and fit the stage."""
    node = step.node
    upstream = planner.finished_side(node.upstream)
    sides = {name: planner.finished_side(source) for name, source in node.sides.items()}
    check_inputs(node.stage, upstream, sides)
    folder = step.folder
    return StageRun(node.stage, node.params, node.execution, planner.store, folder, upstream, sides)


def run_stage(step: Step, run: StageRun, scheduler: Scheduler, progress: Progress) -> Manifest:
    """Finish one stage: spill if its shape needs it, make the parts, commit the manifest."""
    _freeze_plan(step, run)
    if isinstance(run.stage.shape, Exchange | Fold):
        _spill_all(run, scheduler, progress)
    total = _num_parts(run)
    _do_rest(run, "done", total, scheduler, progress)
    manifest = make_manifest(run, step.key, step.inputs, total)
    run.store.create(f"{run.folder}/manifest.json", manifest.to_json().encode())
    _clear_spills(run)
    return manifest


def _freeze_plan(step: Step, run: StageRun) -> None:
    plan = {
        "stage": run.stage.name,
        "version": run.stage.version,
        "key": step.key,
        "inputs": {side: source.digest for side, source in step.inputs.items()},
        "partitions": _num_parts(run),
    }
    data = (canonical_json(plan) + "\n").encode()
    path = f"{run.folder}/plan.json"
    if not run.store.create(path, data) and bytes(run.store.get(path)) != data:
        raise StageFailed(
            f"{run.stage.name}: {path} was frozen with other partitions than are planned now; the "
            "stage's shape changed under the same version: bump it"
        )


def _num_parts(run: StageRun) -> int:
    match run.stage.shape:
        case Read():
            return len(run.files.files)
        case Exchange() as shape:
            return num_buckets(run, shape)
        case Fold() | Whole():
            return 1
    return len(run.rows.manifest.parts)


def _spill_all(run: StageRun, scheduler: Scheduler, progress: Progress) -> None:
    if run.index.exists():
        return
    sources = len(run.rows.manifest.parts)
    total = -(-sources // FOLD_GROUP) if isinstance(run.stage.shape, Fold) else sources
    _do_rest(run, "spilled", total, scheduler, progress)
    records = run.writer.records("spilled", range(total))
    spills = [(record["path"], record["offsets"]) for record in records]
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(records[0]["schema"])))
    run.index.write(spills, schema)


def _do_rest(
    run: StageRun, kind: str, total: int, scheduler: Scheduler, progress: Progress
) -> None:
    committed = run.writer.committed(kind)
    rest = [index for index in range(total) if index not in committed]
    progress.work("spill" if kind == "spilled" else "parts", total, len(committed))
    for done in scheduler.run(spill if kind == "spilled" else part, run, rest):
        if done is not None:
            progress.advance(done)
        progress.status(run.status())


def _clear_spills(run: StageRun) -> None:
    if not isinstance(run.stage.shape, Exchange | Fold):
        return
    kept = ("parts/", "dropped/", "done/", "plan.json", "manifest.json")
    paths = run.store.paths(run.folder)
    run.store.delete(
        [path for path in paths if not path.removeprefix(f"{run.folder}/").startswith(kept)]
    )


def _loss(node: Node, manifest: Manifest) -> list[DamageLoss]:
    damages = manifest.damages()
    reasons = {name: count for name, count in manifest.reasons.items() if name in damages}
    lost, budget = sum(reasons.values()), node.execution.loss_budget
    if lost <= budget * manifest.rows_in:
        return []
    return [DamageLoss(node.name, manifest.rows_in, lost, budget, reasons)]


def _folders(finished: Mapping[str, Result]) -> dict[str, str]:
    return {name: result.folder for name, result in finished.items()}


def summary(build: Build) -> dict[str, Any]:
    """A build in plain values: for `--json` and for tests that compare runs."""
    fields = ("key", "content_digest", "ledger_digest", "rows_in", "rows_kept", "rows_dropped")
    stages = {}
    for step in build.steps:
        result = build.finished[step.node.name]
        manifest = result.manifest
        stages[step.node.name] = {
            **{name: getattr(manifest, name) for name in fields},
            "reasons": dict(manifest.reasons),
            "folder": result.folder,
            "action": step.action.value,
        }
    return {
        "name": build.recipe.name,
        "stages": stages,
        "losses": [asdict(loss) for loss in build.losses],
    }
