"""The manifest of a stage whose parts are all committed: totals, checked, and what explains it."""

from collections.abc import Mapping, Sequence

from pipeline.dataset.manifest import InputRef, Manifest, Part, digest_of
from pipeline.dataset.provenance import revision, versions
from pipeline.errors import StageFailed
from pipeline.identity import stage_source
from pipeline.stage import AnyStage
from pipeline.store.result import Result
from pipeline.work import StageRun


def make_manifest(run: StageRun, key: str, inputs: Mapping[str, InputRef], total: int) -> Manifest:
    """From the records of `total` parts; StageFailed unless every row is accounted for."""
    parts = tuple(Part.from_json(record) for record in run.writer.records("done", range(total)))
    dropped = [part.files["dropped"].digest for part in parts if "dropped" in part.files]
    stage = run.stage
    manifest = Manifest(
        stage=stage.name,
        stage_version=stage.version,
        summary=stage.summary,
        key=key,
        params=run.params.model_dump(mode="json"),
        inputs=dict(inputs),
        conserves=stage.conserves,
        columns=_columns(stage, run),
        content_digest=digest_of([part.content_digest for part in parts]),
        ledger_digest=digest_of(dropped),
        rows_in=sum(part.rows_in for part in parts),
        rows_kept=sum(part.rows_kept for part in parts),
        rows_dropped=sum(part.rows_dropped for part in parts),
        reasons=_totals(parts),
        reason_list=stage.reason_list(),
        parts=parts,
        provenance={
            "source": stage_source(stage),
            "versions": versions(),
            "revision": revision(),
        },
    )
    _check_conservation(run, manifest)
    return manifest


def _columns(stage: AnyStage, run: StageRun) -> list[Mapping[str, str]]:
    """What every column holds: its input's columns as recorded there, and those it adds."""
    inherited = stage.conserves and isinstance(run.upstream, Result)
    before = run.rows.manifest.columns if inherited else ()
    added = [column.as_json() for column in stage.adds]
    return list({column["name"]: column for column in (*before, *added)}.values())


def _totals(parts: Sequence[Part]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for part in parts:
        for reason, count in part.reasons.items():
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
    if isinstance(run.upstream, Result) and manifest.rows_in != run.rows.manifest.rows_kept:
        expected = run.rows.manifest.rows_kept
        raise StageFailed(f"{name}: was given {expected} rows and saw {manifest.rows_in}")
