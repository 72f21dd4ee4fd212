"""The account: sums that add up, and the life of a single row."""

from pathlib import Path

import pytest

from pipeline.dataset.errors import UserError
from pipeline.ledger import why
from pipeline.ledger.funnel import funnel
from pipeline.run import Build
from pipeline.schedule.inline import Inline
from pipeline.store import gc, refs
from pipeline.store.objects import Store
from tests.support.toy import RECIPE, build_toy, digest, write_recipe

Built = tuple[refs.Ref, Store, Build]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("ledger")
    store = Store(str(folder / "store"))
    made = build_toy(write_recipe(folder), store, Inline())
    ref = refs.read(store, "toy")
    assert ref is not None
    return ref, store, made


def test_the_funnel_adds_up_from_the_first_stage_to_the_last(built: Built) -> None:
    ref, store, _ = built
    rows = funnel(ref, store)
    assert [row.stage for row in rows] == ["numbers", "divide", "distinct", "rarest"]
    assert rows[0].rows_in == 5 * 300
    assert rows[0].rows_in == sum(row.rows_dropped for row in rows) + rows[-1].rows_kept
    assert all(sum(row.reasons.values()) == row.rows_dropped for row in rows)


def test_the_life_of_every_row_ends_where_the_stages_say(built: Built) -> None:
    ref, store, made = built
    kept = set(made.finished["rarest"].table()["url"].to_pylist())
    for row in range(0, 300, 37):
        url = f"http://n.example/2/{row}"
        [life] = why.why(ref, store, url)
        assert life.uid == digest(url).hex() and life.url == url
        assert life.events[-1].kept == (url in kept)
        assert all(event.kept for event in life.events[:-1])


def test_a_dropped_row_tells_reason_value_and_bound(built: Built) -> None:
    ref, store, made = built
    dropped = next(iter(made.finished["divide"].dropped())).to_pylist()
    divisible = next(row for row in dropped if row["reason"] == "divisible")
    [life] = why.why(ref, store, divisible["uid"].hex())
    last = life.events[-1]
    assert (last.stage, last.reason) == ("divide", "divisible")
    assert (last.value, last.threshold) == (divisible["number"], 3)
    assert life.events[0].changes["number"] == divisible["number"]


def test_an_unknown_url_is_answered_with_close_ones(built: Built) -> None:
    ref, store, _ = built
    with pytest.raises(UserError, match=r"did you mean http://n\.example/0/1"):
        why.why(ref, store, "https://n.example/0/1#fragment")
    with pytest.raises(UserError, match="no candidate of toy has the uid"):
        why.why(ref, store, "0" * 32)


def test_names_move_with_a_log_and_gc_takes_what_no_name_reaches(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    path = write_recipe(tmp_path)
    build_toy(path, store, Inline())
    first = refs.read(store, "toy")
    assert not gc.garbage(store).folders
    write_recipe(tmp_path, RECIPE.replace("divisor: 3", "divisor: 5"))
    made = build_toy(path, store, Inline())
    second = refs.read(store, "toy")
    assert first is not None and second is not None and first != second
    garbage = gc.garbage(store)
    stale = {first.folders[name] for name in ("divide", "distinct", "count", "rarest")}
    assert set(garbage.folders) == stale
    store.put(f"{second.folders['divide']}/parts/00000-deadbeef.parquet", b"left by a kill")
    garbage = gc.garbage(store)
    assert len(garbage.objects) == 1
    gc.collect(store, garbage)
    assert gc.garbage(store) == gc.Garbage((), ())
    assert made.finished["rarest"].table().num_rows
    assert len(store.paths("refs/toy.log")) >= 2
