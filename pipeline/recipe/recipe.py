"""Recipes: a build described in YAML, read into typed stages or refused with the line to mend.

A recipe names its input files, lists its stages in order, and says apart from them how they run. A
stage reads the rows of the stage before it unless `of` says otherwise; `from` redirects its other
inputs; `use` runs a stage under another name. Everything else in its entry is its parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import RecipeError
from pipeline.recipe.wiring import Catalogue, Node, Wiring
from pipeline.recipe.yaml_file import RecipeFile


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    store: str | None = None
    inputs: dict[str, str | list[str]] = {}
    stages: dict[str, dict[str, Any] | None]
    execution: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Recipe:
    """A build: its name, where it stores, its input patterns and its nodes in order.

    `store` is relative to where the command runs, `inputs` to the recipe's own folder.
    """

    name: str
    path: Path
    store: str
    inputs: Mapping[str, tuple[str, ...]]
    nodes: tuple[Node, ...]


def load(
    path: str | Path, catalogue: Catalogue, overrides: Mapping[str, str] | None = None
) -> Recipe:
    """Read a recipe; RecipeError names file, line, field, value and what would be allowed.

    `overrides` maps "stage.field" to values for the execution section, as the command line gives
    them.
    """
    source = RecipeFile(Path(path))
    content = source.validated(_Recipe, source.content, ())
    execution = {stage: dict(fields) for stage, fields in content.execution.items()}
    for target, value in (overrides or {}).items():
        stage, _, field = target.partition(".")
        try:
            execution.setdefault(stage, {})[field] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--exec {target}={value}: {value!r} is no value in YAML") from None
    nodes = Wiring(source, catalogue, set(content.inputs), execution)
    for name, entry in content.stages.items():
        nodes.add(name, entry or {})
    nodes.check_execution()
    inputs = {
        name: (patterns,) if isinstance(patterns, str) else tuple(patterns)
        for name, patterns in content.inputs.items()
    }
    store = content.store or f"runs/{content.name}/store"
    return Recipe(content.name, source.path, store, inputs, tuple(nodes.nodes))
