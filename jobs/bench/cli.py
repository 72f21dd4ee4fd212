"""`openwit bench`: every claim of speed or size, measured beside its peer."""

import json
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from jobs.bench.table import Row, as_json, as_table
from pipeline.errors import Exit, UserError

bench = App(name="bench", help="Measure openwit beside its peers (install openwit[bench]).")
DEFAULT_SIZES = (1_000_000, 10_000_000)


@bench.command
def engine(
    *,
    rows: tuple[int, ...] = DEFAULT_SIZES,
    repeats: int = 3,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """The engine beside Ray Data: overhead a partition, map, exchange, memory of the driver.

    Parameters
    ----------
    rows
        Sizes of the data, ascending.
    repeats
        Medians are of this many interleaved repeats.
    json_
        Print JSON.
    """
    try:
        from jobs.bench.engine import measure
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install 'openwit[bench]'") from None
    return _tell(measure(rows, repeats), json_)


def _tell(rows: list[Row], as_text: bool) -> int:
    if as_text:
        print(json.dumps(as_json(rows), indent=1))
    else:
        Console(width=120).print(as_table(rows))
    return Exit.OK
