"""The exchange: every row arrives once, in the bucket of its key, in the order it had."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchange import SpillIndex, bucket_of, cut, leading_words, sort_by_uid
from pipeline.stage import Keyed
from pipeline.store.objects import Store

KEYS = st.lists(st.binary(min_size=16, max_size=16), max_size=60)
ALIKE = st.lists(
    st.builds(lambda end: b"\x00" * 15 + bytes([end]), st.integers(0, 3)), min_size=1, max_size=20
)


def _table(keys: list[bytes]) -> pa.Table:
    column = pa.array(keys, pa.binary(16))
    return pa.table({"uid": column, "row": list(range(len(keys)))})


@given(KEYS, st.integers(1, 300))
def test_buckets_are_ranges_of_keys(keys: list[bytes], num_buckets: int) -> None:
    buckets = bucket_of(pa.array(keys, pa.binary(16)), num_buckets).tolist()
    expected = [int.from_bytes(key[:4], "big") * num_buckets >> 32 for key in keys]
    assert buckets == expected
    in_order = [bucket for _, bucket in sorted(zip(keys, buckets, strict=True))]
    assert in_order == sorted(in_order)


@given(st.one_of(KEYS, ALIKE))
def test_sorting_by_uid_is_stable_even_for_uids_with_equal_leading_words(uids: list[bytes]) -> None:
    rows = sort_by_uid(_table(uids))["row"].to_pylist()
    assert rows == sorted(range(len(uids)), key=lambda row: (uids[row], row))


@given(KEYS.filter(len))
def test_words_of_a_slice_are_those_of_its_rows(keys: list[bytes]) -> None:
    whole = pa.array(keys, pa.binary(16))
    expected = [int.from_bytes(key[:8], "big") for key in keys]
    for start in range(len(keys)):
        assert leading_words(whole.slice(start)).tolist() == expected[start:]


@given(st.lists(KEYS, min_size=1, max_size=4), st.integers(1, 9))
def test_every_row_arrives_once_in_its_bucket_and_in_source_order(
    partitions: list[list[bytes]], num_buckets: int
) -> None:
    store = Store("memory://exchange")
    index = SpillIndex(store, "x")
    spills, schema = [], _table([]).schema
    for number, keys in enumerate(partitions):
        table = _table(keys).set_column(
            1, "row", pa.array([number * 100 + r for r in range(len(keys))])
        )
        spill = cut(Keyed(table, table["uid"].combine_chunks()), num_buckets)
        store.put(f"x/spill/{number}", spill.data)
        spills.append((f"spill/{number}", spill.offsets))
    index.write(spills, schema)
    expected: dict[int, list[int]] = {bucket: [] for bucket in range(num_buckets)}
    for number, keys in enumerate(partitions):
        for row, key in enumerate(keys):
            expected[int.from_bytes(key[:4], "big") * num_buckets >> 32].append(number * 100 + row)
    for bucket, rows in expected.items():
        found = [row for section in index.sections(bucket) for row in section["row"].to_pylist()]
        assert found == rows
    assert index.schema() == schema
