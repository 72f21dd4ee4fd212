"""Runs that are stopped, killed or damaged go on: the same samples, and the same bits."""

import itertools
import json
import random
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.folders import coloured_pairs, write_dataset
from tests.support.micro import MICRO, config, result_bytes
from tests.support.ranks import World, note, noted, rank, run_world
from trainer.checkpoints import manager
from trainer.checkpoints.weights import load_weights
from trainer.config import RunConfig, TrainConfig
from trainer.data.batch import Batch
from trainer.data.loader import Loader, Source
from trainer.errors import CheckpointError, Diverged, Stopped
from trainer.losses.objectives import LossOutput, contrastive_loss
from trainer.models.config import MODELS
from trainer.run import loop, step
from trainer.run.heartbeat import EXIT_TRY_AGAIN
from trainer.train import train

pytestmark = [pytest.mark.usefixtures("micro"), pytest.mark.slow]

Squares = Callable[..., Path]
STEPS = 24


def go(made: TrainConfig, dataset: Path, workdir: Path, **options: Any) -> loop.TrainResult:
    stop_signal = options.pop("stop_signal", None)
    settings = RunConfig(num_threads=1, **options)
    return train(made, [Source(dataset)], workdir, settings, stop_signal=stop_signal)


def once_after(step: int) -> Callable[[], bool]:
    """Asked after every step: to stop is asked for after that one alone."""
    asked = itertools.count(1)
    return lambda: next(asked) == step


def newest_step(workdir: Path) -> int:
    names = [path.name for path in (workdir / "checkpoints").glob("step-*")]
    return int(max(names).removeprefix("step-"))


@pytest.mark.parametrize("stop_after", [1, 7, 15, 29])
def test_a_run_stopped_by_a_signal_goes_on_bit_for_bit(
    squares: Squares, tmp_path: Path, stop_after: int
) -> None:
    dataset = squares(25)
    with pytest.raises(Stopped, match=f"after step {stop_after};"):
        go(config(), dataset, tmp_path / "stopped", stop_signal=once_after(stop_after))
    assert newest_step(tmp_path / "stopped") == stop_after
    again = go(config(), dataset, tmp_path / "stopped")
    whole = go(config(), dataset, tmp_path / "whole")
    assert result_bytes(tmp_path / "stopped") == result_bytes(tmp_path / "whole")
    assert again.metrics == whole.metrics
    assert np.array_equal(again.seen, whole.seen)


class Noting(Loader):
    """A loader that notes the uids of every batch, per step and rank."""

    folder: Path

    def batches(self, first: int, last: int) -> Generator[Batch]:
        for number, batch in enumerate(super().batches(first, last), first):
            note(self.folder / f"samples-{rank()}", [number, batch.uids.tolist()])
            yield batch


def noted_run(dataset: Path, workdir: Path, notes: Path, options: dict[str, Any]) -> None:
    """A run in a process of its own that notes samples and losses of every step."""
    MODELS["micro"] = MICRO
    Noting.folder = notes
    pytest.MonkeyPatch().setattr(loop, "Loader", Noting)  # the process ends with the run
    made = config(steps=STEPS, batch_size=8, log_every=1)
    rest = {name: value for name, value in options.items() if name != "held"}
    settings = RunConfig(num_threads=1, checkpoint_every_steps=3, **rest)

    def told(row: Any) -> None:
        _loss(notes, row)
        if options.get("held") and row.step == STEPS - 1:
            time.sleep(3600)  # the kill comes first, however late it is

    train(made, [Source(dataset)], workdir, settings, progress=told)


def _loss(notes: Path, row: Any) -> None:
    if rank() == 0:
        note(notes / "losses", [row.step, row.loss, row.grad_norm])


def samples(notes: Path) -> dict[int, list[Any]]:
    """Per step the uids of the whole batch, ranks in order, each as it was noted last."""
    steps: dict[int, dict[int, list[Any]]] = {}
    for path in sorted(notes.glob("samples-*")):
        for number, uids in noted(path):
            steps.setdefault(number, {})[int(path.name.split("-")[1])] = uids
    return {
        number: [uid for r in sorted(each) for uid in each[r]] for number, each in steps.items()
    }


def losses(notes: Path) -> dict[int, tuple[float, float]]:
    return {number: (loss, norm) for number, loss, norm in noted(notes / "losses")}


class Trial:
    """One run that is killed and taken up by other worlds, beside one left alone."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        self.folder, self.dataset = folder, dataset
        folder.mkdir()

    def start(self, name: str, part: str, size: int, **options: Any) -> World:
        notes = self.folder / name / part
        notes.mkdir(parents=True)
        workdir = self.folder / name / "run"
        return World(size, noted_run, self.dataset, workdir, notes, options)

    def kill_at(self, name: str, part: str, size: int, at: int) -> None:
        """Start, and SIGKILL all ranks once step `at` has been reported."""
        world = self.start(name, part, size, held=True)
        notes = self.folder / name / part / "losses"
        deadline = time.monotonic() + 600
        try:
            while not (notes.exists() and notes.read_text().count("\n") >= at):
                assert time.monotonic() < deadline, f"step {at} did not come"
                time.sleep(0.002)
        finally:
            world.kill()

    def notes(self, name: str) -> tuple[dict[int, list[Any]], dict[int, tuple[float, float]]]:
        """Samples and losses of all parts of a run, later parts over earlier ones."""
        seen: dict[int, list[Any]] = {}
        lost: dict[int, tuple[float, float]] = {}
        for part in sorted((self.folder / name).glob("part*")):
            seen |= samples(part)
            lost |= losses(part)
        return seen, lost


def kill_and_compare(folder: Path, dataset: Path, worlds: list[tuple[int, int]], at: int) -> None:
    """For (size before, size after) of `worlds`: the samples of a run that nobody killed, and for
    unchanged worlds its losses to the bit.
    """
    trial = Trial(folder, dataset)
    for number, (before, after) in enumerate(worlds):
        name = f"killed-{number}"
        trial.kill_at(name, "part0", before, at)
        assert trial.start(name, "part1", after).wait() == [0] * after
        whole = f"whole-{before}"
        if not (folder / whole).exists():
            assert trial.start(whole, "part0", before).wait() == [0] * before
        seen, lost = trial.notes(name)
        expected, unbroken = trial.notes(whole)
        assert seen == expected and sorted(seen) == list(range(STEPS))
        if before == after:
            assert lost == unbroken


def test_a_killed_run_goes_on_with_the_same_samples_on_other_worlds(
    squares: Squares, tmp_path: Path
) -> None:
    worlds = [(1, 2), (2, 1), (4, 4)]
    kill_and_compare(tmp_path / "trial", squares(40), worlds, at=random.randint(4, STEPS - 4))


@pytest.mark.chaos
@pytest.mark.parametrize("trial", range(30))
def test_kills_at_random_steps_and_restarts_on_one_two_and_four_ranks(
    squares: Squares, tmp_path: Path, trial: int
) -> None:
    worlds = [(1, 1), (2, 2), (1, 2), (2, 4), (4, 1), (4, 4), (4, 2), (2, 1), (1, 4)]
    picked = [worlds[trial % 9]]
    kill_and_compare(tmp_path / "trial", squares(40), picked, at=random.randint(4, STEPS - 2))


def endless(dataset: Path, workdir: Path) -> None:
    from trainer.train import main

    MODELS["micro"] = MICRO
    record = {"model": "micro", "steps": 100_000, "batch_size": 16, "checkpoint_every_steps": 20}
    order = workdir.parent / "run.json"
    if rank() == 0:
        note(order, record | {"dataset": str(dataset), "workdir": str(workdir), "num_threads": 1})
    while not order.exists():
        time.sleep(0.01)
    raise SystemExit(main([str(order)]))


@pytest.mark.parametrize("size", [1, 2])
def test_sigterm_to_one_process_saves_and_all_exit_75(
    squares: Squares, tmp_path: Path, size: int
) -> None:
    world = World(size, endless, squares(30), tmp_path / "run")
    deadline = time.monotonic() + 600
    try:
        while not list((tmp_path / "run").glob("checkpoints/step-*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        world.processes[-1].terminate()
        assert world.wait() == [EXIT_TRY_AGAIN] * size
    finally:
        world.kill()
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    told = json.loads(log[-1])["step"] if log else 0
    assert told <= newest_step(tmp_path / "run") < told + 10


def test_a_damaged_last_checkpoint_costs_steps_but_not_the_result(
    squares: Squares, tmp_path: Path
) -> None:
    dataset, workdir = squares(25), tmp_path / "run"
    go(config(), dataset, workdir, checkpoint_every_steps=10)
    before = result_bytes(workdir)
    last = workdir / "checkpoints" / "step-00000030" / "moments.safetensors"
    last.write_bytes(last.read_bytes()[:-5])
    (workdir / "model.safetensors").unlink()
    go(config(), dataset, workdir, checkpoint_every_steps=10)
    assert result_bytes(workdir) == before


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({"lr": 1e-4}, 25, r"lr: 0\.003 there, 0\.0001 here"),
        ({"model": "ViT-Ti-8-32px"}, 25, "model: 'micro' there, 'ViT-Ti-8-32px' here"),
        ({}, 26, "dataset: digest"),
    ],
)
def test_a_run_of_something_else_is_not_taken_up_and_what_differs_is_said(
    squares: Squares, tmp_path: Path, changes: dict[str, Any], rows: int, message: str
) -> None:
    workdir = tmp_path / "run"
    go(config(), squares(25), workdir)
    with pytest.raises(CheckpointError, match=message):
        go(config(**changes), write_dataset(tmp_path / "other", coloured_pairs(rows)), workdir)


def test_how_a_run_is_carried_out_may_change_on_the_way(squares: Squares, tmp_path: Path) -> None:
    dataset, workdir = squares(25), tmp_path / "run"
    go(config(), dataset, workdir)
    go(config(), dataset, workdir, micro_batch=5, keep_last=3, checkpoint_every_steps=7)


def test_a_run_that_goes_astray_is_rewound_and_ends_with_finite_weights(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 12 to 15 have no finite loss; two of them rewind to step 10, and the run goes on."""
    asked = iter(range(1000))

    def broken(*arguments: Any, **options: Any) -> LossOutput:
        loss = contrastive_loss(*arguments, **options)
        bad = 12 <= next(asked) < 16
        return LossOutput(loss.value * (torch.nan if bad else 1), loss.positive_cosine, loss.margin)

    monkeypatch.setattr(step, "contrastive_loss", broken)
    dataset = squares(25)
    result = go(config(refused_limit=2), dataset, tmp_path / "run", checkpoint_every_steps=5)
    assert (result.steps, result.refused_steps, result.rewinds) == (30, 4, 2)
    assert all(np.isfinite(row.loss) for row in result.metrics)
    monkeypatch.setattr(
        step, "contrastive_loss", lambda *a, **o: _nothing(contrastive_loss(*a, **o))
    )
    with pytest.raises(Diverged, match="lower lr"):
        go(config(seed=1), dataset, tmp_path / "hopeless", checkpoint_every_steps=5)


def _at_steps(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """From now on the loss of these steps (from 0) is not finite, whoever takes them."""
    call, current = step.Stepper.__call__, [0]

    def noting(stepper: step.Stepper, number: int, batch: Batch) -> step.Outcome:
        current[0] = number
        return call(stepper, number, batch)

    def broken(*arguments: Any, **options: Any) -> LossOutput:
        loss = contrastive_loss(*arguments, **options)
        return _nothing(loss) if bad(current[0]) else loss

    monkeypatch.setattr(step.Stepper, "__call__", noting)
    monkeypatch.setattr(step, "contrastive_loss", broken)


def test_weights_that_an_update_ruined_are_not_gone_back_to(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 20 was written before any loss could tell that it is worthless."""
    call = step.Stepper.__call__
    ruined: list[int] = []

    def ruining(stepper: step.Stepper, number: int, batch: Batch) -> step.Outcome:
        outcome = call(stepper, number, batch)
        if number == 19 and not ruined:
            ruined.append(number)
            with torch.no_grad():
                for parameter in stepper.model.parameters():
                    parameter.fill_(torch.nan)
        return outcome

    monkeypatch.setattr(step.Stepper, "__call__", ruining)
    workdir = tmp_path / "run"
    made = config(steps=40, refused_limit=3)
    result = go(made, squares(25), workdir, checkpoint_every_steps=5)
    assert (result.refused_steps, result.rewinds) == (3, 1)
    weights, _ = load_weights(result.weights)
    assert all(bool(each.isfinite().all()) for each in weights.state_dict().values())


def test_weights_that_are_not_finite_are_no_result(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = step.Stepper.__call__

    def ruining(stepper: step.Stepper, number: int, batch: Batch) -> step.Outcome:
        outcome = call(stepper, number, batch)
        with torch.no_grad():
            visual: Any = stepper.model.visual
            visual.proj[0, 0] = torch.nan
        return outcome

    monkeypatch.setattr(step.Stepper, "__call__", ruining)
    with pytest.raises(Diverged, match="step 30: the weights are not finite"):
        go(config(refused_limit=99), squares(25), tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("options", [{}, {"checkpoint_every_s": 0.0}])
def test_where_a_run_is_stopped_or_saved_does_not_decide_what_it_goes_back_to(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    _at_steps(monkeypatch, lambda number: number in (14, 15))
    made, dataset = config(refused_limit=2), squares(25)
    whole = go(made, dataset, tmp_path / "whole", checkpoint_every_steps=10)
    options |= {"checkpoint_every_steps": 10}
    for stop_after in (12, 16):
        workdir = tmp_path / f"stopped-{stop_after}"
        with pytest.raises(Stopped):
            go(made, dataset, workdir, stop_signal=once_after(stop_after), **options)
        again = go(made, dataset, workdir, **options)
        assert again.rewinds == whole.rewinds == 1
        assert result_bytes(workdir) == result_bytes(tmp_path / "whole")
        assert again.metrics == whole.metrics


def rewound(dataset: Path, workdir: Path) -> None:
    """Rank 1 is late to read what both go back to."""
    MODELS["micro"] = MICRO
    read, writes = manager.newest, manager.CheckpointManager.save

    def late(root: Path, **asked: Any) -> Any:
        if asked.get("good") and rank() == 1:
            time.sleep(1)
        return read(root, **asked)

    def noting(checkpoints: Any, saved: Any, *rest: Any) -> None:
        note(workdir.parent / "saved", [time.monotonic(), saved.step])
        writes(checkpoints, saved, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "newest", late)
        patch.setattr(manager.CheckpointManager, "save", noting)
        _at_steps(patch, lambda number: 9 <= number < 14)
        settings = RunConfig(num_threads=1, checkpoint_every_steps=4)
        result = train(config(refused_limit=5), [Source(dataset)], workdir, settings)
    note(workdir.parent / f"rewinds-{rank()}", result.rewinds)


def test_nothing_is_saved_before_all_have_read_what_they_go_back_to(
    squares: Squares, tmp_path: Path
) -> None:
    run_world(2, rewound, squares(30), tmp_path / "run")
    assert noted(tmp_path / "rewinds-0") == noted(tmp_path / "rewinds-1") == [1]
    moments = {step: moment for moment, step in noted(tmp_path / "saved")}
    assert moments[14] - moments[12] > 1


def test_the_same_command_started_twice_harms_nothing(squares: Squares, tmp_path: Path) -> None:
    dataset, workdir, told = squares(25), tmp_path / "run", []

    def again(row: Any) -> None:
        if row.step == 12:
            with pytest.raises(CheckpointError, match="writes there; end it first") as refused:
                go(config(), dataset, workdir)
            told.append(refused.value)

    made = RunConfig(num_threads=1, checkpoint_every_steps=8)
    train(config(), [Source(dataset)], workdir, made, progress=again)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert told and [json.loads(line)["step"] for line in lines] == [*range(4, 30, 4), 30]


def _nothing(loss: LossOutput) -> LossOutput:
    return LossOutput(loss.value * torch.nan, loss.positive_cosine, loss.margin)


def test_a_batch_that_does_not_split_is_refused_before_anything_is_read(
    squares: Squares, tmp_path: Path
) -> None:
    from trainer.errors import ConfigError
    from trainer.parallel.world import World as Ranks

    ranks = Ranks(0, 3, torch.device("cpu"))
    with pytest.raises(ConfigError, match="batch_size 16 cannot be split evenly among 3"):
        loop.Run(config(), [Source(tmp_path / "nowhere")], tmp_path / "run", RunConfig(), ranks)
    assert not (tmp_path / "run").exists()
