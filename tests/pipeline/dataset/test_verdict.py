"""Verdicts: the rows stay as they were, the first reason stands, null means kept."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.verdict import VERDICT, Judge, Reason


class Fruit(Reason):
    SOUR = "sour", "too sour", "add sugar"
    ROTTEN = "rotten", "gone bad", "", True


TABLE = pa.table({"name": ["lemon", "apple", "plum"]})


def test_a_reason_is_its_value_and_carries_label_hint_and_damage() -> None:
    by_value: Any = Fruit
    assert by_value("rotten") is Fruit.ROTTEN
    assert str(Fruit.SOUR) == Fruit.SOUR.value == "sour"
    assert (Fruit.SOUR.label, Fruit.SOUR.hint, Fruit.SOUR.damage) == (
        "too sour",
        "add sugar",
        False,
    )
    assert Fruit.ROTTEN.damage


def test_rows_without_a_reason_have_a_null_verdict() -> None:
    judge = Judge(TABLE)
    judge.drop(np.array([True, False, False]), Fruit.SOUR, [9.0, 1.0, 2.0], 5.0, "pH 2")
    assert judge.table()["verdict"].to_pylist() == [
        {"reason": "sour", "value": 9.0, "threshold": 5.0, "evidence": "pH 2"},
        None,
        None,
    ]


def test_the_first_reason_stands() -> None:
    judge = Judge(TABLE)
    judge.drop(np.array([True, True, False]), Fruit.SOUR)
    judge.drop(np.array([False, True, True]), Fruit.ROTTEN, evidence=["a", "b", "c"])
    reasons = judge.table()["verdict"].to_pylist()
    assert [verdict["reason"] for verdict in reasons] == ["sour", "sour", "rotten"]
    assert [verdict["evidence"] for verdict in reasons] == [None, None, "c"]
    assert not judge.kept.any()


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_the_column_has_the_agreed_type_whatever_happened(rows: int) -> None:
    judge = Judge(pa.table({"x": pa.array(range(rows))}))
    assert judge.table().schema.field("verdict").type == VERDICT
    judge.drop(np.ones(rows, bool), Fruit.SOUR)
    assert judge.table().schema.field("verdict").type == VERDICT


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_rows_are_conserved_and_every_dropped_row_has_the_first_reason_that_fits(
    masks: list[tuple[bool, bool]],
) -> None:
    table = pa.table({"row": pa.array(range(len(masks)), pa.int64())})
    judge = Judge(table)
    judge.drop(np.array([first for first, _ in masks], bool), Fruit.SOUR)
    judge.drop(np.array([second for _, second in masks], bool), Fruit.ROTTEN)
    judged = judge.table()
    assert judged.drop_columns("verdict").equals(table)
    expected = ["sour" if a else "rotten" if b else None for a, b in masks]
    assert [v and v["reason"] for v in judged["verdict"].to_pylist()] == expected
