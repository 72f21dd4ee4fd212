"""The page of commands, from the same declarations that `--help` is printed from."""

import sys
from unittest.mock import patch

from jobs.commands.app import app
from tools.reference.markdown import escaped, page

_INTRO = """Every command has `--help` and `--json`. Exit codes: 0 done; 1 something for the user
to mend, said in one line; 2 finished, but a stage lost more rows to damage than its budget allows;
3 a defect of openwit; 130 interrupted."""


def commands_page() -> str:
    """Every command and subcommand with its parameters."""
    # Usage lines begin with the name of the running program, which is openwit's only by chance.
    with patch.object(sys, "argv", ["openwit"]):
        text = app.generate_docs(recursive=True, heading_level=2)
    return page("Commands", _INTRO, [escaped("\n".join(map(str.rstrip, text.splitlines())))])
