"""The reference says what the code says, and links between pages of the documentation hold."""

import re
from pathlib import Path

import pytest

from jobs.stages.catalogue import CATALOGUE
from pipeline.dataset.column import Column
from pipeline.dataset.schema import CAPTION, UID
from tests.support import toy
from tools.reference.columns import columns_page
from tools.reference.markdown import as_type, escaped, table
from tools.reference.pages import FOLDER, WRITERS, page_text

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("name", WRITERS)
def test_the_committed_page_is_the_one_that_the_code_gives(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == page_text(name), (
        f"docs/reference/{name} is out of date: run `make reference`"
    )


def test_every_stage_parameter_and_reason_is_in_the_reference() -> None:
    text = page_text("stages.md")
    for stage in CATALOGUE.values():
        section = text.split(f"\n## {stage.name}\n")[1].split("\n## ")[0]
        for field in (*stage.params.model_fields, *map(str, stage.reasons or ())):
            assert f"`{field}`" in section, (stage.name, field)


def test_a_column_is_listed_with_the_stages_that_add_it() -> None:
    rows = columns_page([toy.NUMBERS, toy.COUNTED, toy.RAREST]).splitlines()
    assert _row(rows, toy.NUMBER).endswith("| `numbers`, `count` |")
    assert _row(rows, UID).endswith("| `numbers` |")
    assert _row(rows, CAPTION).endswith("|  |")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (float | None, "float | null"),
        (tuple[str, ...], "list of str"),
        (dict[str, int], "map of str to int"),
        (Path, "Path"),
    ],
)
def test_types_are_written_as_recipes_have_them(annotation: object, words: str) -> None:
    assert as_type(annotation) == words


def test_markup_in_a_sentence_is_shown_and_not_obeyed() -> None:
    assert escaped("the <img> tag, `<b>` as code") == "the &lt;img> tag, `<b>` as code"
    assert table(["a"], [["x | y"]]).splitlines()[-1] == r"| x \| y |"


def test_every_link_between_pages_leads_to_a_file() -> None:
    root = FOLDER.parent.parent
    for page in (*root.glob("*.md"), *(root / "docs").rglob("*.md")):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "#")):
                assert (page.parent / target.partition("#")[0]).exists(), (page.name, target)


def _row(rows: list[str], column: Column) -> str:
    return next(row for row in rows if row.startswith(f"| `{column.name}` |"))
