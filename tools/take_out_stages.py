"""Takes out one stage at a time and shows that nothing else needed it.

For each stage a copy of the checkout loses the stage's module, its line in the catalogue, the
modules that nothing else imports, and the tests that are about it: those that import what is gone
or name the stage. Then every remaining module is imported, the reference is printed anew, and the
remaining fast tests are run, those of the trainer aside, which a contract keeps from importing any
stage. No file is edited but the catalogue.

    python -m tools.take_out_stages [STAGE ...]
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grimp

from jobs.stages.catalogue import CATALOGUE, MODULES

ROOT = Path(__file__).parent.parent
PACKAGES = ("curation", "jobs", "pipeline", "trainer")
TESTS = ["-m", "pytest", "-q", "-n", "2", "-m", "fast", "--ignore", "tests/trainer"]
IMPORT_ALL = """
import pkgutil, importlib
for package in ("curation", "jobs", "pipeline", "trainer"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


@dataclass(frozen=True)
class Removal:
    """What goes with a stage: its own modules and the test files about it, as paths."""

    stage: str
    modules: Sequence[str]
    tests: Sequence[Path]


def removal_of(stage: str, graph: grimp.ImportGraph) -> Removal:
    """The stage's module, what only it imports, and the tests that need either or name it."""
    own = next(module for module in MODULES if _stage_of(module) == stage)
    gone = {own}
    while unused := {
        module for module in _imported_by(graph, gone) if _only_in(graph, module, gone)
    }:
        gone |= unused
    names = re.compile(rf"^\s*\"?{stage}\"?:|\[\"{stage}\"\]|/{stage}\b", re.MULTILINE)
    imports = re.compile("|".join(_import_of(module) for module in gone), re.MULTILINE)
    texts = {path: _text(path) for path in (ROOT / "tests").rglob("*.py")}
    tests = [path for path, text in texts.items() if names.search(text) or imports.search(text)]
    helpers = "|".join(path.stem for path in tests if path.parent.name == "support")
    if helpers:
        uses = re.compile(rf"tests\.support\.({helpers})\b|tests\.support import .*\b({helpers})\b")
        tests += [path for path, text in texts.items() if uses.search(text) and path not in tests]
    return Removal(stage, sorted(gone), sorted(path.relative_to(ROOT) for path in tests))


def _text(test: Path) -> str:
    """A test, and README with it if its recipe is what is tested."""
    text = test.read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return f"{text}\n{readme}" if '"README.md"' in text else text


def _stage_of(module: str) -> str | None:
    return next((name for name, stage in CATALOGUE.items() if _module_of(stage) == module), None)


def _module_of(stage: object) -> str:
    names = {id(getattr(sys.modules[module], "STAGE", None)): module for module in MODULES}
    return names.get(id(stage), "")


def _imported_by(graph: grimp.ImportGraph, modules: Iterable[str]) -> set[str]:
    return {name for module in modules for name in graph.find_modules_directly_imported_by(module)}


def _only_in(graph: grimp.ImportGraph, module: str, gone: set[str]) -> bool:
    """Whether only what is gone imports a module of curation."""
    users = graph.find_modules_that_directly_import(module)
    return module.startswith("curation.") and module not in gone and users <= gone


def _import_of(module: str) -> str:
    package, _, name = module.rpartition(".")
    return rf"from {re.escape(module)} import|from {re.escape(package)} import [^\n]*\b{name}\b"


def take_out(removal: Removal, copy: Path) -> tuple[bool, str]:
    """Whether the rest of the copy imports and passes its fast tests, and pytest's last line."""
    for module in removal.modules:
        copy.joinpath(*module.split(".")).with_suffix(".py").unlink()
    for test in removal.tests:
        (copy / test).unlink()
    catalogue = copy / "jobs" / "stages" / "catalogue.py"
    lines = catalogue.read_text(encoding="utf-8").splitlines(keepends=True)
    own = next(module for module in removal.modules if module.startswith("jobs.stages."))
    catalogue.write_text("".join(line for line in lines if f'"{own}"' not in line))
    environment = {"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin", "HOME": str(copy)}
    for arguments in (["-c", IMPORT_ALL], ["-m", "tools.reference"], TESTS):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return False, (done.stdout + done.stderr)[-2000:]
    return True, done.stdout.strip().splitlines()[-1]


def main(stages: Sequence[str]) -> int:
    """Take the stages out one after the other; 1 if any of them was needed elsewhere."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    failures = 0
    for stage in stages or list(CATALOGUE):
        removal = removal_of(stage, graph)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "openwit"
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "site"))
            sound, line = take_out(removal, copy)
        failures += not sound
        gone = f"{len(removal.modules)} modules, {len(removal.tests)} test files out"
        print(f"{stage:<17}{gone:<36}{'ok' if sound else 'FAILED'}  {line}", flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
