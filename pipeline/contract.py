"""What a stage promised and what it returned: the rows of its input, the columns it declared."""

import pyarrow as pa

from pipeline.dataset.column import Column
from pipeline.dataset.errors import UserError
from pipeline.errors import StageFailed
from pipeline.inputs import Files
from pipeline.stage import AnyStage, FilesSide, RowsSide, Side
from pipeline.store.parts import VERDICT
from pipeline.store.result import Result


def check_conserved(before: pa.Table, after: pa.Table) -> None:
    """StageFailed unless the same rows come back in the same order."""
    if after.num_rows != before.num_rows:
        raise StageFailed(f"was given {before.num_rows} rows and returned {after.num_rows}")
    if not after["uid"].equals(before["uid"]):
        raise StageFailed("returned other rows than it was given, or in another order")


def check_columns(stage: AnyStage, before: pa.Table | None, after: pa.Table) -> None:
    """StageFailed unless a stage returned its input's columns and those it adds, each once."""
    kept = before.schema if before is not None and stage.conserves else pa.schema([])
    expected = {field.name: field.type for field in kept}
    expected |= {column.name: column.type for column in stage.adds}
    names = [name for name in after.column_names if name != VERDICT]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise StageFailed(f"returned several columns called {', '.join(doubled)}")
    if lacking := sorted(expected.keys() - set(names)):
        raise StageFailed(f"left out the columns {', '.join(lacking)}")
    if undeclared := sorted(set(names) - expected.keys()):
        raise StageFailed(f"added columns that it does not declare: {', '.join(undeclared)}")
    for name in names:
        if after.schema.field(name).type != expected[name]:
            kind = after.schema.field(name).type
            raise StageFailed(f"returned column {name} as {kind}, declared is {expected[name]}")


def check_inputs(stage: AnyStage, upstream: Side, sides: dict[str, Side]) -> None:
    """UserError unless what a stage is about to read is of the kind and has the columns it needs.

    A recipe has been checked when it was read; this is for results named on the command line, and
    for those made by stages of other versions.
    """
    if stage.reads_files:
        _check_files(f"{stage.name}: its input", upstream)
    else:
        _check_rows(f"{stage.name}: its input", upstream, stage.needs, stage.needs_files)
    for name, spec in stage.sides.items():
        where = f"{stage.name}: its side {name!r}"
        match spec:
            case FilesSide():
                _check_files(where, sides[name])
            case RowsSide(needs=needs, files=files):
                _check_rows(where, sides[name], needs, files)


def _check_files(where: str, side: Side) -> None:
    if not isinstance(side, Files):
        raise UserError(f"{where} must be files, and {side.where} is the result of a stage")


def _check_rows(where: str, side: Side, needs: tuple[Column, ...], files: tuple[str, ...]) -> None:
    if not isinstance(side, Result):
        raise UserError(f"{where} must be the result of a stage, and files were given")
    manifest = side.manifest
    have = {column["name"]: column["type"] for column in manifest.columns}
    for column in needs:
        if column.name not in have:
            raise UserError(
                f"{where} lacks the column {column.name!r} ({column.about.rstrip('.')}); "
                f"{side.where} has {', '.join(have)}"
            )
        if have[column.name] != str(column.type):
            kinds = f"{have[column.name]}, not {column.type}"
            raise UserError(f"{where}: column {column.name!r} of {side.where} is of type {kinds}")
    for suffix in files:
        if manifest.parts and suffix not in manifest.parts[0].files:
            raise UserError(f"{where} must have .{suffix} files, and {side.where} has none")
