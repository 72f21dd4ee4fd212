"""The commit of the code that runs, for people who read what it left behind."""

import subprocess
from pathlib import Path


def revision() -> str | None:
    """What git calls it, with "-dirty" behind it where files differ; None outside a checkout."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
