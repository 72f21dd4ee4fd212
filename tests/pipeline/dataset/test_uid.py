"""Identity: a uid depends on the pair alone, a coin on the seed, the purpose and the uid alone."""

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.uid import UID_TYPE, keyed_uniform, pair_uid, uid_words

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def uids(count: int) -> pa.Array:
    return pa.array(
        [pair_uid(f"http://example.com/{i}", "caption") for i in range(count)], UID_TYPE
    )


def test_the_uid_is_the_digest_of_url_nul_caption() -> None:
    expected = hashlib.blake2b(b"http://a/\0caf\xc3\xa9", digest_size=16).digest()
    assert pair_uid("http://a/", "caf\u00e9") == expected


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_has_a_uid_even_with_lone_surrogates(url: str, caption: str) -> None:
    assert len(pair_uid(url, caption)) == 16


def test_url_and_caption_cannot_flow_into_each_other() -> None:
    assert pair_uid("http://a/b", "c") != pair_uid("http://a/", "bc")


def test_words_order_as_the_uids_do() -> None:
    column = uids(500)
    words = uid_words(column)
    order = np.lexsort((words[:, 1], words[:, 0]))
    assert column.take(pa.array(order)).to_pylist() == sorted(column.to_pylist())


def test_slices_and_chunks_have_the_words_and_coins_of_their_rows() -> None:
    column = uids(100)
    chunked = pa.chunked_array([column[:30], column[30:]])
    assert np.array_equal(uid_words(column[10:20]), uid_words(column)[10:20])
    assert np.array_equal(uid_words(chunked), uid_words(column))
    whole = keyed_uniform(7, "balance", column)
    assert np.array_equal(keyed_uniform(7, "balance", column[25:75]), whole[25:75])
    assert np.array_equal(keyed_uniform(7, "balance", chunked), whole)


def test_coins_are_uniform_and_independent_of_other_seeds_and_purposes() -> None:
    column = uids(20_000)
    draws = [keyed_uniform(*key, column) for key in [(0, "a"), (1, "a"), (0, "b")]]
    for draw in draws:
        assert draw.min() >= 0 and draw.max() < 1
        counts = np.histogram(draw, bins=20, range=(0, 1))[0]
        chi_square = ((counts - 1000) ** 2 / 1000).sum()
        assert chi_square < 43.8  # 99.9 % of chi-square with 19 degrees of freedom
    correlations = np.abs(np.asarray(np.corrcoef(draws))[np.triu_indices(3, 1)])
    assert correlations.max() < 4 / np.sqrt(20_000)


def test_coins_never_change() -> None:
    """Fixed figures: a change of the hash would silently draw every published sample anew."""
    assert keyed_uniform(0, "balance", uids(3)).tolist() == [
        0.1353166413283038,
        0.31765870455379364,
        0.8869020900333376,
    ]
