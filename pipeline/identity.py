"""What makes a result the same result: canonical JSON, recipe keys and source hashes.

Only literal values bear identity. Cores, memory, addresses and paths of stores never enter a key.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.dataset.manifest import DIGEST_BYTES


def canonical_json(value: Any) -> str:
    """The one spelling of a value of dicts, lists, strings, numbers, booleans and None.

    Raises TypeError on any other type and ValueError on NaN, rather than guessing a spelling.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def recipe_key(
    stage: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """The key of a stage's result: name, version, parameters and its inputs' content digests."""
    payload = {
        "stage": stage,
        "version": version,
        "params": params,
        "inputs": dict(inputs),
    }
    text = canonical_json(payload)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def source_digest(modules: Iterable[str]) -> str:
    """A digest of the modules' source text: advisory, to report drift, never part of a key."""
    text = hashlib.blake2b(digest_size=8)
    for name in sorted(set(modules)):
        spec = find_spec(name)
        text.update(f"{name}\n".encode())
        text.update(Path(spec.origin).read_bytes() if spec and spec.origin else b"")
    return text.hexdigest()
