"""What made a result: the versions of packages and the commit of the checkout, for people.

None of it is identity; it stands in manifests and checkpoints so that a result can be traced.
"""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("openwit", "pyarrow", "polars", "numpy", "torch", "ray")


def versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on most."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def revision() -> str | None:
    """What git calls the commit, with "-dirty" behind it where files differ; None outside git."""
    # Without locks: a process that is killed here must not leave one behind in the checkout.
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
