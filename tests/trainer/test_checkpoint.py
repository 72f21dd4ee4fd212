"""Checkpoints: what comes back is what was saved, and damage costs one checkpoint, not the run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import Checkpoint

FILES = ["model.safetensors", "moments.safetensors", "rows.safetensors", "state.json"]


def at(step: int) -> Checkpoint:
    """A checkpoint whose every number depends on the step."""
    generator = torch.Generator().manual_seed(step)
    return Checkpoint(
        step=step,
        model={"weight": torch.randn(4, 3, generator=generator), "scale": torch.tensor(1.5)},
        moments={"first.weight": torch.randn(4, 3, generator=generator)},
        seen=np.arange(13) < step,
        bad=np.array([2, 5]),
        facts={"updates": step, "metrics": [{"loss": 0.1 * step}]},
    )


def same(one: Checkpoint, two: Checkpoint) -> bool:
    tensors = [(one.model, two.model), (one.moments, two.moments)]
    return (
        one.step == two.step
        and one.facts == two.facts
        and np.array_equal(one.seen, two.seen)
        and np.array_equal(one.bad, two.bad)
        and all(
            a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in tensors
        )
    )


def newest(root: Path) -> Checkpoint:
    found = checkpoint.newest(root)
    assert found is not None
    return found


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    checkpoint.save(tmp_path, at(3))
    assert same(newest(tmp_path), at(3))


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        checkpoint.save(tmp_path, at(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("damage", [flip, shorten, Path.unlink])
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    checkpoint.save(tmp_path, at(5))
    checkpoint.save(tmp_path, at(10))
    damage(tmp_path / "step-00000010" / name)
    assert same(newest(tmp_path), at(5))


def test_damage_is_not_counted_among_the_two_that_are_kept(tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint.save(tmp_path, at(step))
    flip(tmp_path / "step-00000010" / "model.safetensors")
    checkpoint.save(tmp_path, at(15))
    assert (tmp_path / "step-00000005").exists()
    checkpoint.save(tmp_path, at(20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def test_a_crash_while_writing_leaves_nothing_that_counts(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, at(5))
    aside = tmp_path / ".step-00000010.tmp"
    aside.mkdir()
    (aside / "model.safetensors").write_bytes(b"half")
    assert same(newest(tmp_path), at(5))
    checkpoint.save(tmp_path, at(10))
    assert same(newest(tmp_path), at(10)) and not aside.exists()


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, at(5))
    flip(tmp_path / "step-00000005" / "state.json")
    checkpoint.save(tmp_path, at(5))
    assert same(newest(tmp_path), at(5))
