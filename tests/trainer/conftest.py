"""The peers that serve as oracles, and datasets of coloured squares."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import coloured_pairs, write_dataset
from tests.support.micro import MICRO
from trainer.measure.peers import torchvision_without_operators
from trainer.models.config import MODELS


@pytest.fixture(scope="session")
def torchvision() -> Any:
    """Imported as beside a CPU build of torch, where its compiled operators are missing."""
    with torchvision_without_operators():
        return pytest.importorskip("torchvision")


@pytest.fixture(scope="session")
def open_clip(torchvision: Any) -> Any:
    return pytest.importorskip("open_clip")


@pytest.fixture(scope="session")
def transformers(torchvision: Any) -> Any:
    return pytest.importorskip("transformers")


@pytest.fixture
def squares(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset of coloured squares: `squares(count, **options) -> folder`."""

    def write(count: int, **options: Any) -> Path:
        return write_dataset(tmp_path / f"squares-{count}", coloured_pairs(count), **options)

    return write


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name "micro" stands for `micro.MICRO`."""
    monkeypatch.setitem(MODELS, "micro", MICRO)
