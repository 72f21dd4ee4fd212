"""Run a function as a command: errors become lines for people, and every outcome an exit code.

Exit codes: 0 done, 1 something for the user to mend, 2 finished with losses over budget, 3 a
defect of openwit, 130 interrupted.
"""

import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from cyclopts import App, CycloptsError

from pipeline.dataset.errors import Exit, OpenwitError
from pipeline.dataset.provenance import versions


def version() -> str:
    """The version of the installed distribution."""
    return versions().get("openwit", "not installed")


def guarded(call: Callable[[], Any]) -> int:
    """Call a command and return its exit code; nothing but SystemExit escapes.

    An integer result is the exit code. An error for people becomes one line on standard error; a
    defect keeps its traceback.
    """
    try:
        result = call()
        return int(result) if isinstance(result, int) else Exit.OK
    except CycloptsError:
        return Exit.USER_ERROR
    except OpenwitError as error:
        print(f"openwit: {error}", file=sys.stderr)
        if error.exit_code == Exit.INTERNAL and error.__cause__ is not None:
            traceback.print_exception(error.__cause__, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("openwit: stopped", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # `openwit funnel | head`: whoever reads has had enough.
        return Exit.OK
    except Exception:
        traceback.print_exc()
        print(
            "openwit: this is a defect of openwit; please report the lines above", file=sys.stderr
        )
        return Exit.INTERNAL


def run_app(app: App) -> NoReturn:
    """Run an app on the words of the command line and exit."""
    sys.exit(guarded(lambda: app(exit_on_error=False)))


def run_as_command(function: Callable[..., Any]) -> NoReturn:
    """Run one function as a command of its own (`python -m jobs.build ...`) and exit."""
    app = App(version=version, result_action="return_value")
    app.default(function)
    run_app(app)
