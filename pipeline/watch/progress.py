"""The events of a run, in order, for whoever watches it: the base, which shows nothing."""

from pipeline.dataset.manifest import Manifest
from pipeline.plan import Step
from pipeline.work import Done


class Progress:
    """Told of what happens, in order; says nothing itself."""

    def begin(self, step: Step) -> None:
        """A stage is about to run or to be reused."""

    def work(self, kind: str, total: int, done: int) -> None:
        """A round of `total` pieces starts, `done` of them committed before."""

    def advance(self, done: Done) -> None:
        """A piece is committed."""

    def status(self, line: str) -> None:
        """What a long task says of how far it is."""

    def end(self, step: Step, manifest: Manifest) -> None:
        """The stage is complete."""

    def close(self) -> None:
        """Nothing more will happen: leave the screen as it should stay."""
