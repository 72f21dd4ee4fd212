"""`openwit bench`: every claim of speed or size, measured beside its peer."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from jobs.bench.table import Measurement, machine, to_json, to_table
from jobs.bench.trainer import GROUPS, missing
from jobs.bench.trainer import measure as measure_trainer
from jobs.commands.options import Json
from pipeline.dataset.errors import Exit

bench = App(name="bench", help="Measure openwit beside its peers (install openwit[bench]).")
DEFAULT_SIZES = (1_000_000, 10_000_000)
DEFAULT_LAMBDAS = (0.0, 0.05, 0.1, 0.3, 1.0)


@bench.command
def engine(
    *,
    rows: tuple[int, ...] = DEFAULT_SIZES,
    repeats: int = 3,
    json_: Json = False,
) -> int:
    """The engine beside Ray Data: overhead per partition, map, exchange, memory of the driver.

    Parameters
    ----------
    rows
        Sizes of the data, ascending.
    repeats
        Medians are of this many interleaved repeats.
    """
    try:
        from jobs.bench.engine import measure
    except ModuleNotFoundError as error:
        raise missing(error) from None
    return _print(measure(rows, repeats), json_)


@bench.command
def trainer(
    *,
    repeats: int = 3,
    only: tuple[str, ...] = GROUPS,
    texts: Path | None = None,
    json_: Json = False,
) -> int:
    """The trainer beside its peers: tokenizer, loss, loader and a training step on the CPU.

    Parameters
    ----------
    repeats
        Medians are of this many interleaved repeats.
    only
        Groups of rows: tokenizer, loss, loader, step.
    texts
        Captions for the tokenizer, one per line; by default what every machine has.
    """
    return _print(measure_trainer(repeats, only, texts, _progress), json_)


@bench.command
def learning(
    *,
    dataset: Path,
    set_: Annotated[Path, Parameter(name="--set")],
    out: Path = Path("runs/learning"),
    lambdas: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = DEFAULT_LAMBDAS,
    seeds: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (0, 1, 2),
    steps: int | None = None,
    json_: Json = False,
) -> int:
    """Train with and without the positive-pair regulariser, the same pairs in the same order.

    Parameters
    ----------
    dataset
        A finished shard folder; the quickstart's recipe says how it is trained on.
    set_
        A held-out set in clip-benchmark's layout with classes and captions.
    out
        Where runs are kept, and learning.json; the same command goes on with what is there.
    lambdas
        Weights of the regulariser; 0 must be among them.
    seeds
        Runs of a seed share weights to begin with, and order.
    steps
        Steps of a run; the quickstart's by default.
    """
    from jobs.bench.learning import LearningPlan, learn
    from jobs.bench.learning_table import learning_tables

    plan = LearningPlan(lambdas, seeds, steps)
    result = {"machine": machine()} | learn(dataset, set_, out, plan, _progress)
    text = json.dumps(result, indent=1)
    (out / "learning.json").write_text(text + "\n", encoding="utf-8")
    if json_:
        print(text)
    else:
        Console(width=200).print(*learning_tables(result), sep="\n")
    return Exit.OK


def _progress(line: str) -> None:
    """Progress goes beside the result, so that --json stays JSON."""
    print(line, file=sys.stderr, flush=True)


def _print(rows: list[Measurement], as_json: bool) -> int:
    if as_json:
        print(json.dumps(to_json(rows), indent=1))
    else:
        Console(width=120).print(to_table(rows))
    return Exit.OK
