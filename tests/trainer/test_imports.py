"""What the trainer needs installed: torch, numpy, pyarrow and safetensors, and neither pydantic nor
Ray; the ground floor under it does without torch.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ABSENT = """
import sys
from importlib import import_module

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} was imported", name=name)

sys.meta_path.insert(0, Absent())
for name in {modules!r}:
    import_module(name)
print(sorted(name for name in sys.modules if name.partition(".")[0] in {absent!r}))
"""
OPTIONAL = ("pydantic", "ray", "rich", "tensorboard", "wandb", "ftfy", "simplejpeg", "triton")
READERS = tuple(
    f"pipeline.dataset.read.{path.stem}"
    for path in sorted((ROOT / "pipeline/dataset/read").glob("[a-z]*.py"))
)


def imported(modules: tuple[str, ...], absent: tuple[str, ...]) -> str:
    """Import modules where `absent` packages raise; which of those were loaded, as printed."""
    source = ABSENT.format(modules=modules, absent=set(absent))
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["trainer.train", "trainer.bench_gpu", "trainer.evaluate.run"])
def test_the_trainer_imports_without_the_engines_packages(module: str) -> None:
    assert imported((module,), OPTIONAL) == "[]"


def test_the_readers_need_neither_torch_nor_pydantic_nor_ray() -> None:
    assert len(READERS) >= 5
    assert imported(READERS, ("torch", "pydantic", "ray", "PIL", "trainer")) == "[]"


def test_the_ground_floor_and_the_configuration_load_no_torch() -> None:
    modules = ("pipeline.dataset", "pipeline.dataset.manifest", "trainer.config")
    assert imported(modules, ("torch", "pydantic", "ray")) == "[]"


def test_a_package_that_is_needed_is_missed() -> None:
    with pytest.raises(AssertionError, match="torch was imported"):
        imported(("trainer.train",), ("torch",))


@pytest.mark.parametrize("command", ["trainer.train", "trainer.bench_gpu"])
def test_the_documented_commands_start(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m {command}")
