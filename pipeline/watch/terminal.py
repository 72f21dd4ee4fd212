"""A live line in a terminal."""

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.dataset.manifest import Manifest
from pipeline.plan import Step
from pipeline.watch.meter import Clock, Meter, finished_line
from pipeline.watch.progress import Progress
from pipeline.work import Done


class LiveTerminal(Progress):
    """A live line for the stage at hand above which finished stages stay."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._meter = Meter(clock)
        self._live: Live | None = None

    def begin(self, step: Step) -> None:
        """Show the stage at once, with a clock that runs while its parts do."""
        self._meter.begin(step.node.name)
        if not step.done:
            self._live = Live(
                console=self._console,
                get_renderable=lambda: Text(f"{self._meter.line()}  {self._meter.seconds:,.0f} s"),
                transient=True,
            )
            self._live.start()

    def work(self, kind: str, total: int, done: int) -> None:
        """Start a round."""
        self._meter.reset(kind, total, done)

    def advance(self, done: Done) -> None:
        """Count."""
        self._meter.add(done)

    def status(self, line: str) -> None:
        """Show it behind the counts."""
        self._meter.said = line

    def end(self, step: Step, manifest: Manifest) -> None:
        """Leave one line for the stage."""
        self.close()
        self._console.print(Text(finished_line(step, manifest, self._meter.seconds)))

    def close(self) -> None:
        """Take the live line away."""
        if self._live:
            self._live.stop()
            self._live = None
