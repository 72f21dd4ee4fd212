"""The peers that serve as oracles, and datasets of coloured squares."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import coloured_pairs, write_dataset
from micro import MICRO

from trainer.models.config import MODELS


@pytest.fixture(scope="session")
def torchvision_without_operators() -> None:
    """Import a torchvision whose compiled operators are missing, as beside a CPU build of torch.

    It registers fakes of operators that are not there; peers need its transforms alone.
    """
    register = torch.library.register_fake

    def skip(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return register(op, *args, **kwargs)

    torch.library.register_fake = skip
    try:
        pytest.importorskip("torchvision")
    finally:
        torch.library.register_fake = register


@pytest.fixture(scope="session")
def open_clip(torchvision_without_operators: None) -> Any:
    return pytest.importorskip("open_clip")


@pytest.fixture(scope="session")
def transformers(torchvision_without_operators: None) -> Any:
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
