"""What makes a result the same result: canonical JSON, recipe keys, and the source of a stage.

Only literal values bear identity, and of parameters only those that differ from their defaults: a
new field with a neutral default leaves every key as it was. Cores, memory, addresses and paths of
stores never enter a key. The source is advisory: it is compared to report drift.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.dataset.manifest import DIGEST_BYTES
from pipeline.stage import AnyStage

OURS = ("curation", "jobs", "pipeline", "trainer")
FLOOR = "pipeline.dataset"
"""Of the engine only this belongs to a stage's source: how stages run cannot change what they
make."""
DECLARATIONS = f"{FLOOR}.schema"
"""Declares the columns of all stages; what a stage declares counts by itself, so that one more
column is no drift of every other stage."""
COLUMNS = "its columns"
"""The name of that entry in a stage's source."""


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


def chosen(params: BaseModel) -> dict[str, Any]:
    """The parameters that differ from their defaults, and those that have none, in plain values."""
    return params.model_dump(mode="json", exclude_defaults=True)


def defaults(params: type[BaseModel]) -> dict[str, Any]:
    """The defaults of the parameters that have one, in plain values."""
    optional = {
        name: field.get_default(call_default_factory=True)
        for name, field in params.model_fields.items()
        if not field.is_required()
    }
    plain: dict[str, Any] = json.loads(json.dumps(optional))
    return plain


def recipe_key(stage: AnyStage, params: BaseModel, inputs: Mapping[str, str]) -> str:
    """The key of a stage's result: name, version, chosen parameters, its inputs' digests."""
    payload = {
        "stage": stage.name,
        "version": stage.version,
        "params": chosen(params),
        "inputs": dict(inputs),
    }
    text = canonical_json(payload)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def stage_source(stage: AnyStage) -> dict[str, str]:
    """A digest of every module whose code makes up a stage, by name.

    These are the modules of its functions, parameters and reasons, and all that those import, at
    the top or inside functions, from our packages and from the package that the stage comes from.
    The columns that it declares have an entry of their own.
    """
    owners = [*stage.functions(), stage.params, *([stage.reasons] if stage.reasons else [])]
    roots = {_home(owner.__module__) for owner in owners}
    packages = tuple(sorted({*OURS, *(root.partition(".")[0] for root in roots)}))
    waiting, digests = sorted(roots), {COLUMNS: _columns(stage)}
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if module in digests or path is None or not _belongs(module):
            continue
        state = path.stat()
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        version = (state.st_mtime_ns, state.st_size)
        digests[module], imported = _read(path, package, packages, version)
        waiting += [*imported, *_parents(module)]
    return dict(sorted(digests.items()))


def _home(module: str) -> str:
    """The name under which a module can be found again: a script's own is __main__."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return spec.name if module == "__main__" and spec else module


def _columns(stage: AnyStage) -> str:
    names = [f"{column.name} {column.type}" for column in (*stage.needs, *stage.adds)]
    return hashlib.blake2b("\n".join(names).encode(), digest_size=4).hexdigest()


def _belongs(module: str) -> bool:
    of_engine = module.partition(".")[0] == "pipeline"
    of_floor = module == FLOOR or module.startswith(f"{FLOOR}.")
    return module != DECLARATIONS and (of_floor or not of_engine)


def _parents(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


@lru_cache(maxsize=64)
def _roots(package: str) -> tuple[Path, ...]:
    """The folders of a top-level package, or the file of a top-level module."""
    spec = find_spec(package)
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        return ()
    return tuple(map(Path, spec.submodule_search_locations or [str(spec.origin)]))


@lru_cache(maxsize=4096)
def _path(module: str) -> Path | None:
    """The file of a module; nothing is imported to find it."""
    package, *rest = module.split(".")
    for root in _roots(package):
        if root.is_file():
            return root if not rest else None
        base = root.joinpath(*rest)
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file() and (rest or path.name == "__init__.py"):
                return path
    return None


@lru_cache(maxsize=4096)
def _read(
    path: Path, package: str, packages: tuple[str, ...], version: tuple[int, int]
) -> tuple[str, tuple[str, ...]]:
    """The digest of a file and the modules of `packages` that it imports.

    `package` is what its relative imports are relative to, `version` tells its states apart.
    """
    text = path.read_bytes()
    digest = hashlib.blake2b(text, digest_size=4).hexdigest()
    return digest, tuple(sorted(_imports(ast.parse(text), package, packages)))


def _imports(tree: ast.AST, package: str, packages: tuple[str, ...]) -> Iterator[str]:
    """Modules named in import statements, those inside functions too, TYPE_CHECKING's not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            yield from _imports(node, package, packages)
            continue
        for name in names:
            if name.partition(".")[0] in packages and _path(name) is not None:
                yield name
