"""How many workers train and what Ray reserves for each: the options, and what rules them out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cyclopts import Parameter

from pipeline.dataset.errors import UserError


@Parameter(name="*")
@dataclass(frozen=True)
class Workers:
    """How many processes train, and what Ray reserves for each of them."""

    num_workers: int | None = None
    """Workers; 1 by default."""
    min_workers: int | None = None
    """Fewest workers of a run that starts again with fewer or more as machines go and come."""
    max_workers: int | None = None
    """Most workers of such a run; all numbers from the fewest to the most must divide the batch."""
    cpus_per_worker: int = 1
    """Cores of a worker: torch's threads on a CPU, unless the file says num_threads."""
    gpus_per_worker: int | None = None
    """GPUs reserved for a worker, which uses one; 1 where the file's device is cuda, else 0."""

    def bounds(self) -> tuple[int, int]:
        """Fewest and most workers; UserError if they contradict each other."""
        if self.min_workers is None and self.max_workers is None:
            least = most = 1 if self.num_workers is None else self.num_workers
        elif self.num_workers is None and self.min_workers and self.max_workers:
            least, most = self.min_workers, self.max_workers
        else:
            raise UserError("give either --num-workers or both --min-workers and --max-workers")
        if not 1 <= least <= most:
            raise UserError(f"{least} to {most} workers: give 1 or more, the fewest first")
        return least, most

    def resources(self, device: str) -> dict[str, float]:
        """What Ray reserves for a worker that trains on `device`; UserError if they disagree."""
        on_gpu = device.startswith("cuda")
        gpus = int(on_gpu) if self.gpus_per_worker is None else self.gpus_per_worker
        if on_gpu != (gpus > 0):
            raise UserError(f"--gpus-per-worker {gpus}: the file's device is {device}")
        return {"CPU": float(self.cpus_per_worker)} | ({"GPU": float(gpus)} if gpus else {})

    def check_batch(self, batch_size: int) -> None:
        """Raise UserError unless every number of workers that Ray may start divides the batch."""
        least, most = self.bounds()
        uneven = [number for number in range(least, most + 1) if batch_size % number]
        if uneven:
            even = [number for number in range(1, 2 * most + 1) if batch_size % number == 0]
            raise UserError(
                f"batch_size {batch_size} cannot be split evenly among {_listed(uneven)} workers; "
                f"among {_listed(even)} it can, or use a multiple of "
                f"{math.lcm(*range(least, most + 1))} as batch_size"
            )

    def check_room(self, available: Mapping[str, float], device: str) -> None:
        """Raise UserError unless one machine's resources are enough for the fewest workers.

        Only for a single machine: a cluster may grow, but here Ray would wait forever for what
        is missing.
        """
        least, _ = self.bounds()
        for name, amount in self.resources(device).items():
            if least * amount > available.get(name, 0):
                raise UserError(
                    f"{least} workers of {amount:g} {name} each are more than this machine's "
                    f"{available.get(name, 0):g}; use fewer, or --address of a cluster"
                )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + (" or " if numbers[1:] else "") + str(numbers[-1])
