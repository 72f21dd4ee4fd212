"""The pages of the reference by file name, and what writes each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs.stages.catalogue import own_stages
from pipeline.stage import AnyStage
from tools.reference.columns import columns_page
from tools.reference.commands import commands_page
from tools.reference.config import config_page
from tools.reference.reasons import reasons_page
from tools.reference.stages import stages_page

FOLDER = Path(__file__).parent.parent.parent / "docs" / "reference"
WRITERS: Mapping[str, Callable[[Sequence[AnyStage]], str]] = {
    "commands.md": lambda _: commands_page(),
    "stages.md": stages_page,
    "columns.md": columns_page,
    "reasons.md": reasons_page,
    "config.md": lambda _: config_page(),
}


def page_text(name: str) -> str:
    """The page as the code has it now; the same code gives the same text."""
    return WRITERS[name](list(own_stages()))
