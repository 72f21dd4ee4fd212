"""What the panels of a report see of a build: its stages, their funnel, and what they wrote.

Stages are told apart by what they are, as their manifests say, never by their names in a recipe.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.report.counts import QueryCounts, query_counts
from jobs.report.pictures import Pictures
from pipeline.dataset.manifest import Manifest, digest_of
from pipeline.ledger.funnel import FunnelRow
from pipeline.store.result import Result

Record = Mapping[str, Any]


@dataclass(frozen=True)
class BuildView:
    """The finished stages of a build, by name and in order."""

    name: str
    datasets: Mapping[str, Result]
    funnel: Sequence[FunnelRow]
    """One row per stage that passes rows on."""
    upstreams: Mapping[str, str]
    """Where each stage took its rows from."""
    queries: Sequence[str] | None = None
    """What query ids stand for."""
    timings: Mapping[str, float] | None = None
    """Seconds per stage; None leaves them out."""

    def __repr__(self) -> str:
        return f"BuildView({self.name!r}: {', '.join(self.datasets)})"

    def last(self, stage: str) -> Result | None:
        """The last dataset that a stage made."""
        results = [result for result in self.datasets.values() if result.manifest.stage == stage]
        return results[-1] if results else None

    def manifest(self, name: str) -> Manifest:
        """The manifest of a stage by its name in the build."""
        return self.datasets[name].manifest

    @property
    def line(self) -> list[str]:
        """The stages that pass rows on, by name and in order."""
        return [row.stage for row in self.funnel]

    @property
    def content(self) -> str:
        """The digest of everything that the build kept."""
        return digest_of(
            [f"{name} {result.content_digest}" for name, result in self.datasets.items()]
        )

    @property
    def candidates(self) -> Result | None:
        """Where the rows began."""
        return self.datasets[self.line[0]] if self.line else None

    @property
    def kept(self) -> Result | None:
        """The pairs that were kept: the shards, or the last list of pairs before any training."""
        pairs = [name for name in self.line if self.manifest(name).stage != "train"]
        return self.last("shard") or (self.datasets[pairs[-1]] if pairs else None)

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures that the build fetched and packed."""
        return Pictures(self.last("fetch"))

    @cached_property
    def query_counts(self) -> QueryCounts | None:
        """Pairs of each query; None if the build counts none."""
        counted = self.last("count")
        if counted is None:
            return None
        return query_counts(counted, self.last("balance"), self.last("shard"))

    @cached_property
    def training(self) -> Record | None:
        """What the training wrote of itself."""
        trained = self.last("train")
        return None if trained is None else _json(trained)

    @cached_property
    def scores(self) -> list[Record]:
        """The evaluation's summaries, one per set and task."""
        evaluated = self.last("evaluate")
        return [] if evaluated is None else list(_json(evaluated)["results"])


def _json(result: Result) -> Any:
    return json.loads(bytes(result.read(result.manifest.parts[0].files["json"])))
