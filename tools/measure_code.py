"""How long functions are, which class names are used twice, how full folders are.

`python -m tools.measure_code` prints it for the four packages; a test holds the bounds.
"""

import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "curation", "trainer", "jobs")
FEWEST_MODULES, MOST_MODULES = 3, 10


@dataclass(frozen=True)
class Function:
    """A function and how many lines it has, from its first decorator to its last line."""

    where: str
    lines: int


@dataclass(frozen=True)
class Measures:
    """What is measured: functions, places of each class name, modules per folder."""

    functions: tuple[Function, ...]
    classes: Mapping[str, tuple[str, ...]]
    folders: Mapping[str, int]

    def percentile(self, share: float) -> int:
        """The length that this share of functions does not exceed, in lines."""
        lengths = sorted(function.lines for function in self.functions)
        return lengths[min(int(share * len(lengths)), len(lengths) - 1)]

    def longest(self, count: int) -> list[Function]:
        """The longest functions, the longest first."""
        return sorted(self.functions, key=lambda function: -function.lines)[:count]

    def twins(self) -> dict[str, tuple[str, ...]]:
        """Class names that are defined more than once, with the places."""
        return {name: places for name, places in self.classes.items() if len(places) > 1}

    def ill_filled(self) -> dict[str, int]:
        """Folders with too many or too few modules, and how many they have."""
        allowed = range(FEWEST_MODULES, MOST_MODULES + 1)
        return {folder: count for folder, count in self.folders.items() if count not in allowed}


def measure(root: Path = ROOT, packages: Sequence[str] = PACKAGES) -> Measures:
    """Measure the packages under `root`; the bodies of nested functions count for both."""
    functions: list[Function] = []
    classes: dict[str, list[str]] = defaultdict(list)
    folders: dict[str, int] = defaultdict(int)
    for path in (path for package in packages for path in sorted((root / package).rglob("*.py"))):
        name = path.relative_to(root).as_posix()
        # A package's __init__ is its folder's doorplate, and no module that a reader looks for.
        folders[str(Path(name).parent)] += path.name != "__init__.py"
        for node, lines in _definitions(path):
            where = f"{name}:{node.lineno} {node.name}"
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(where)
            else:
                functions.append(Function(where, lines))
    places = {name: tuple(places) for name, places in sorted(classes.items())}
    return Measures(tuple(functions), places, dict(sorted(folders.items())))


def _definitions(
    path: Path,
) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = min((node.lineno, *(mark.lineno for mark in node.decorator_list)))
            yield node, (node.end_lineno or node.lineno) - first + 1


def report(measures: Measures) -> str:
    """The measures as people read them."""
    lengths = [function.lines for function in measures.functions]
    median, most = statistics.median(lengths), max(lengths)
    p90 = measures.percentile(0.9)
    lines = [f"{len(lengths):,} functions: median {median:g}, p90 {p90}, max {most} lines"]
    lines += [f"  {function.lines:3}  {function.where}" for function in measures.longest(5)]
    lines += [f"{len(measures.twins())} class names defined more than once"]
    lines += [f"  {name}: {', '.join(places)}" for name, places in measures.twins().items()]
    bounds = f"fewer than {FEWEST_MODULES} or more than {MOST_MODULES} modules"
    lines += [f"{len(measures.ill_filled())} folders with {bounds}"]
    lines += [f"  {count:3}  {folder}" for folder, count in measures.ill_filled().items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(measure()))
