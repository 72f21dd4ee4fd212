"""Signs of life of every process of a run, and a watchdog that ends a run whose steps do not end.

Each process keeps `heartbeat/rank-00003.json` fresh. When no step has ended for too long, it writes
the stacks of its threads, names the processes that are gone or lag behind, and exits so that a
launcher starts the run again. It reads files only, for a collective may be what hangs.
"""

import faulthandler
import json
import logging
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

EXIT_TRY_AGAIN = 75
"""EX_TEMPFAIL: the same command goes on from the last checkpoint."""
TIMES_MEDIAN = 10
"""A step may take this many times the median of the recent ones."""
TIMES_FIRST = 10
"""The first step may take this many times `hang_after_s`: it compiles and tunes."""
BEAT_S = 1.0
LOOK_S = 3.5
"""How long the others are watched: a live process beats three times meanwhile."""

Beat = dict[str, Any] | None
Beats = dict[int, Beat]

log = logging.getLogger(__name__)


def exit_to_be_started_again() -> None:
    """End the process at once; a thread that hangs cannot be ended otherwise."""
    os._exit(EXIT_TRY_AGAIN)


class Heartbeat:
    """A context in which steps are expected to end: call `beat` after each.

    `hang_after_s` is the least time without a step that counts as a hang; then `on_hang` is called
    in the watchdog's thread.
    """

    def __init__(
        self,
        workdir: Path,
        rank: int,
        world_size: int,
        hang_after_s: float,
        on_hang: Callable[[], None] = exit_to_be_started_again,
    ) -> None:
        self._folder, self._rank, self._size = workdir / "heartbeat", rank, world_size
        self._hang_after_s, self._on_hang = hang_after_s, on_hang
        self._path = self._file(rank)
        self._durations: deque[float] = deque(maxlen=64)
        self._step = self._count = self._pauses = 0
        self._ended = self._paused_at = time.monotonic()
        self._over = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"hang-rank-{self._rank:05d}.txt").unlink(missing_ok=True)
        self._ended = time.monotonic()
        self._write("running")
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watchdog.join()
        self._path.unlink(missing_ok=True)

    def beat(self, step: int) -> None:
        """`step` has just ended; what it was paused for does not count."""
        now = time.monotonic()
        if not self._pauses:
            self._durations.append(now - self._ended)
        self._step, self._ended = step, now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No step ends in here (a save, a rewind), and that is no hang unless it is endless.

        Other processes wait for one that is paused.
        """
        if not self._pauses:
            self._paused_at = time.monotonic()
        self._pauses += 1
        try:
            yield
        finally:
            if self._pauses == 1:
                self._ended += time.monotonic() - self._paused_at
            self._pauses -= 1

    def limit_s(self) -> float:
        """How long the step at hand may take."""
        if not self._durations:
            return TIMES_FIRST * self._hang_after_s
        return max(self._hang_after_s, TIMES_MEDIAN * statistics.median(self._durations.copy()))

    def _watch(self) -> None:
        while not self._over.wait(BEAT_S):
            now = time.monotonic()
            paused = self._pauses and now - self._paused_at <= TIMES_FIRST * self._hang_after_s
            if paused or (not self._pauses and now - self._ended <= self.limit_s()):
                self._write("paused" if paused else "running")
            elif self._hangs():
                self._on_hang()
                return

    def _hangs(self) -> bool:
        """Report a step that does not end; False if it ended while the others were watched."""
        state = (self._step, self._ended, self._pauses)
        step, ended, _ = state
        stacks = self._folder / f"hang-rank-{self._rank:05d}.txt"
        _dump_stacks(stacks)
        self._write("hangs")
        before = self._others()
        self._over.wait(LOOK_S)
        after = self._others()
        waits = any(_is_paused(beat, before[rank]) for rank, beat in after.items())
        if self._over.is_set() or waits or (self._step, self._ended, self._pauses) != state:
            stacks.unlink(missing_ok=True)
            return False
        suspects = self._suspects(before, after)
        log.error(
            "rank %d: no step has ended for %.0f s since step %d; %s; stacks are in %s",
            self._rank,
            time.monotonic() - ended,
            step,
            "; ".join(suspects) or "every rank lives and is at the same step",
            stacks,
        )
        return True

    def _suspects(self, before: Beats, after: Beats) -> list[str]:
        """Ranks that did not beat while they were watched, and ranks at an earlier step."""
        suspects = []
        for rank, beat in after.items():
            if beat is None:
                suspects.append(f"rank {rank} has not begun, or has ended")
            elif beat == before[rank] and beat["state"] != "hangs":
                suspects.append(f"rank {rank} does not beat any more (step {beat['step']})")
            elif beat["step"] < self._step:
                suspects.append(f"rank {rank} is behind (step {beat['step']})")
        return suspects

    def _others(self) -> Beats:
        """The last beat of each other rank."""
        return {rank: _read(self._file(rank)) for rank in range(self._size) if rank != self._rank}

    def _file(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05d}.json"

    def _write(self, state: str) -> None:
        """Renamed into place but not synced: it means nothing after a crash of the machine."""
        self._count += 1
        beat = {
            "rank": self._rank,
            "step": self._step,
            "state": state,
            "count": self._count,
            "time": time.time(),
        }
        aside = self._path.with_suffix(".tmp")
        try:
            aside.write_text(json.dumps(beat))
            aside.replace(self._path)
        except OSError as error:
            # A full disk is no reason to stop watching.
            log.warning("%s: no heartbeat written, %s", self._path, error)


def _is_paused(now: Beat, before: Beat) -> bool:
    """Of a process that lives: one that was killed in a pause beats no more."""
    return now is not None and now["state"] == "paused" and now != before


def _dump_stacks(path: Path) -> None:
    try:
        with path.open("w") as file:
            faulthandler.dump_traceback(file)
    except OSError as error:
        # A full disk is no reason to go on hanging.
        log.warning("%s: no stacks written, %s", path, error)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        beat: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return beat
