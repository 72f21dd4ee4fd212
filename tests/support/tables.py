"""Small tables of pairs."""

from collections.abc import Sequence

import pyarrow as pa

from pipeline.dataset.uid import UID_TYPE, pair_uid


def pair_uids(urls: Sequence[str], captions: Sequence[str]) -> pa.Array:
    """The uid of every pair."""
    return pa.array(map(pair_uid, urls, captions), UID_TYPE)
