"""Runs: a recipe carried out stage by stage, each resumed where it stands and committed last of
all.

The driver holds no state that is not on storage: it lists what is committed, has the rest done,
checks that no row was lost, and writes the manifest. Running again is the retry.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.dataset.manifest import Manifest, Part, digest_of
from pipeline.dataset.provenance import revision, versions
from pipeline.errors import StageFailed
from pipeline.identity import canonical_json, source_digest
from pipeline.inputs import Files
from pipeline.plan import Planner, Step
from pipeline.recipe import Node, Recipe
from pipeline.schedule.scheduler import Scheduler
from pipeline.stage import Exchange, Fold, Map, Side
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.result import Result
from pipeline.watch.progress import Progress
from pipeline.work import FOLD_GROUP, StageRun, num_buckets, part, spill


@dataclass(frozen=True)
class Loss:
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
    losses: list[Loss] = field(default_factory=list)


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
    planner = Planner(recipe, store, given)
    result = Build(recipe, store, finished=planner.finished)
    for node in recipe.nodes:
        step = planner.step(node)
        assert step.folder is not None and step.key is not None
        dataset = Result(store, step.folder)
        progress.begin(step)
        if not step.done:
            run_stage(step, stage_run(planner, step), scheduler, progress)
        progress.end(step, dataset.manifest)
        planner.finished[node.name] = dataset
        result.steps.append(step)
        result.losses.extend(_loss(node, dataset.manifest))
        refs.move(store, refs.Ref(recipe.name, _folders(planner.finished)))
        if node.name == until:
            break
    return result


def stage_run(planner: Planner, step: Step) -> StageRun:
    """The work order for a step whose inputs are all finished."""
    node, folder = step.node, step.folder
    upstream = planner.side(node.upstream)
    sides = {name: planner.side(source) for name, source in node.sides.items()}
    assert folder is not None and upstream is not None
    ready = {name: side for name, side in sides.items() if side is not None}
    return StageRun(node.stage, node.params, node.execution, planner.store, folder, upstream, ready)


def run_stage(step: Step, run: StageRun, scheduler: Scheduler, progress: Progress) -> Manifest:
    """Finish one stage: spill if its shape needs it, make the parts, commit the manifest."""
    _freeze_plan(step, run)
    if not isinstance(run.stage.shape, Map):
        _spill_all(run, scheduler, progress)
    total = _num_parts(run)
    _do_rest(run, "done", total, scheduler, progress)
    manifest = _manifest(step, run, total)
    run.store.create(f"{run.folder}/manifest.json", manifest.to_json().encode())
    _clear_spills(run)
    return manifest


def _freeze_plan(step: Step, run: StageRun) -> None:
    plan = {
        "stage": run.stage.name,
        "version": run.stage.version,
        "key": step.key,
        "params": run.params.model_dump(mode="json"),
        "inputs": dict(step.inputs or {}),
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
    shape, upstream = run.stage.shape, run.upstream
    if isinstance(shape, Exchange):
        return num_buckets(run)
    if isinstance(shape, Fold) or shape.whole:
        return 1
    return len(upstream.files) if isinstance(upstream, Files) else len(upstream.manifest.parts)


def _spill_all(run: StageRun, scheduler: Scheduler, progress: Progress) -> None:
    if run.index.exists():
        return
    assert isinstance(run.upstream, Result)
    sources = len(run.upstream.manifest.parts)
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
        progress.tell(run.status())


def _manifest(step: Step, run: StageRun, total: int) -> Manifest:
    records = run.writer.records("done", range(total))
    parts = tuple(Part.from_json(record) for record in records)
    dropped = [part.files["dropped"].digest for part in parts if "dropped" in part.files]
    manifest = Manifest(
        stage=run.stage.name,
        version=run.stage.version,
        key=step.key or "",
        params=run.params.model_dump(mode="json"),
        inputs=dict(step.inputs or {}),
        conserves=run.stage.conserves,
        content=digest_of([part.content for part in parts]),
        ledger=digest_of(dropped),
        rows_in=sum(part.rows_in for part in parts),
        rows_kept=sum(part.rows_kept for part in parts),
        rows_dropped=sum(part.rows_dropped for part in parts),
        reasons=_totals(parts),
        parts=parts,
        provenance=_provenance(run),
        reason_list=_reason_list(run),
        summary=run.stage.summary,
    )
    _check_conservation(run, manifest)
    return manifest


def _totals(parts: tuple[Part, ...]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for each in parts:
        for reason, count in each.reasons.items():
            totals[reason] = totals.get(reason, 0) + count
    return dict(sorted(totals.items()))


def _check_conservation(run: StageRun, manifest: Manifest) -> None:
    if not run.stage.conserves:
        return
    name = run.stage.name
    if manifest.rows_in != manifest.rows_kept + manifest.rows_dropped:
        raise StageFailed(
            f"{name}: {manifest.rows_in} rows went in, {manifest.rows_kept} were kept and "
            f"{manifest.rows_dropped} dropped: they do not add up"
        )
    if isinstance(run.upstream, Result) and manifest.rows_in != run.upstream.manifest.rows_kept:
        given = run.upstream.manifest.rows_kept
        raise StageFailed(f"{name}: was given {given} rows and saw {manifest.rows_in}")


def _reason_list(run: StageRun) -> dict[str, dict[str, object]]:
    return {
        str(reason): {
            "label": str(getattr(reason, "label", reason)),
            "hint": str(getattr(reason, "hint", "")),
            "damage": bool(getattr(reason, "damage", False)),
        }
        for reason in run.stage.reasons or ()
    }


def _clear_spills(run: StageRun) -> None:
    if isinstance(run.stage.shape, Map):
        return
    kept = ("parts/", "dropped/", "done/", "plan.json", "manifest.json")
    paths = run.store.paths(run.folder)
    run.store.delete(
        [path for path in paths if not path.removeprefix(f"{run.folder}/").startswith(kept)]
    )


def _provenance(run: StageRun) -> dict[str, Any]:
    source = source_digest(run.stage.modules)
    return {"source": source, "versions": versions(), "revision": revision()}


def _loss(node: Node, manifest: Manifest) -> list[Loss]:
    damages = node.stage.damages()
    reasons = {name: count for name, count in manifest.reasons.items() if name in damages}
    lost, budget = sum(reasons.values()), node.execution.loss_budget
    if lost <= budget * manifest.rows_in:
        return []
    return [Loss(node.name, manifest.rows_in, lost, budget, reasons)]


def _folders(finished: Mapping[str, Result]) -> dict[str, str]:
    return {name: dataset.folder for name, dataset in finished.items()}


def summary(build: Build) -> dict[str, Any]:
    """A build in plain values: for `--json` and for tests that compare runs."""
    stages = {}
    for name, dataset in build.finished.items():
        manifest = asdict(dataset.manifest)
        fields = (
            "key",
            "content",
            "ledger",
            "rows_in",
            "rows_kept",
            "rows_dropped",
            "reasons",
        )
        stages[name] = {field: manifest[field] for field in fields} | {"folder": dataset.folder}
    actions = {step.node.name: step.action.value for step in build.steps}
    return {
        "name": build.recipe.name,
        "stages": {name: {**stages[name], "action": actions[name]} for name in stages},
        "losses": [asdict(loss) for loss in build.losses],
    }
