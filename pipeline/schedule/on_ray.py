"""Ray tasks behind a bounded window, and what happens when a worker dies."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from pipeline.dataset.errors import UserError
from pipeline.errors import StageFailed
from pipeline.schedule.scheduler import Work
from pipeline.schedule.window import Window
from pipeline.work import Done, StageRun


class OnRay:
    """Ray tasks behind a bounded window, on an embedded local Ray or a cluster.

    Without an address (argument or RAY_ADDRESS) a local Ray of `workers` cores is started and ended
    with the run. A task whose worker dies is tried again by Ray; a straggler is hedged.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._workers = workers
        self._ray: Any = None
        self._owned = False

    def run(self, work: Work, run: StageRun, indices: Sequence[int]) -> Iterator[Done | None]:
        """Keep a window of tasks in flight until all indices are done."""
        if not indices:
            return
        ray, execution, cpus = self._started(), run.execution, self._cpus()
        if execution.num_cpus > cpus:
            raise UserError(
                f"execution.{run.stage.name}.num_cpus: {execution.num_cpus:g} cores are asked for, "
                f"but this Ray has {cpus:g}; lower it or use a larger cluster"
            )
        remote = ray.remote(_call).options(**_resources(run))
        window = Window(execution.hedge_after)
        # In a list, so that Ray hands over the reference: each worker unpacks the run only once.
        order = [ray.put(run)]
        waiting = deque(indices)
        limit = max(2, int(2 * cpus / execution.num_cpus))
        while len(window.landed) < len(indices):
            while waiting and len(window.flying) < limit:
                index = waiting.popleft()
                window.add(remote.remote(work, order, index), index)
            if not waiting:
                for index in window.stragglers():
                    window.add(remote.remote(work, order, index), index)
            yield from self._landed(window)
        # Attempts that lost to a hedge. A run that fails or is interrupted cancels nothing: its
        # driver ends and Ray ends what it flew; a cancel beside an arriving reply can abort Ray.
        for reference in window.flying:
            ray.cancel(reference, force=False)

    def _landed(self, window: "Window") -> Iterator[Done | None]:
        ready, _ = self._ray.wait(list(window.flying), num_returns=1, timeout=1.0)
        if not ready:
            yield None
        for reference in ready:
            index, first = window.land(reference)
            try:
                done: Done = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause or error from None
            except self._ray.exceptions.RayError as error:
                raise StageFailed(_worker_lost(index, error)) from error
            if first:
                yield done

    def _started(self) -> Any:
        """Ray, started for the first work there is: a build that is all reused needs none."""
        if self._ray is None:
            import ray

            self._ray, self._owned = ray, not ray.is_initialized()
            if self._owned:
                start_ray(ray, self._address, self._workers)
        return self._ray

    def _cpus(self) -> float:
        found: dict[str, float] = self._ray.cluster_resources()
        return found.get("CPU", 1.0)

    def close(self) -> None:
        """End the local Ray, or leave the cluster."""
        if self._owned:
            self._ray.shutdown()


def _call(work: Work, order: list[Any], index: int) -> Done:
    return work(_unpacked(order[0]), index)


@lru_cache(maxsize=2)
def _unpacked(reference: Any) -> StageRun:
    import ray

    run: StageRun = ray.get(reference)
    return run


def start_ray(ray: Any, address: str | None = None, workers: int | None = None) -> None:
    """Join the Ray at `address`, or start a local one of `workers` cores that ends with us.

    Raises UserError if nothing answers there.
    """
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else workers,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except ConnectionError as error:
        raise UserError(f"no Ray answers at {address}: {str(error).splitlines()[0]}") from None


def _resources(run: StageRun) -> dict[str, Any]:
    execution = run.execution
    options: dict[str, Any] = {
        "num_cpus": execution.num_cpus,
        "max_retries": execution.retries,
        "name": f"openwit:{run.stage.name}",
    }
    if execution.num_gpus:
        options["num_gpus"] = execution.num_gpus
    if execution.memory_gb:
        options["memory"] = int(execution.memory_gb * 1e9)
    return options


def _worker_lost(index: int, error: Exception) -> str:
    return (
        f"partition {index}: its worker died again and again ({type(error).__name__}); most often "
        "that is memory: raise execution.<stage>.memory_gb or start fewer workers"
    )
