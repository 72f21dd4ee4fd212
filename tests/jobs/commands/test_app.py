"""The command as a whole: which verbs it has, its version, and help that shows every word."""

from importlib.metadata import version

import pytest

from jobs.commands.app import app
from jobs.commands.guarded import guarded
from jobs.stages.catalogue import CATALOGUE
from pipeline.dataset.errors import Exit, UserError
from pipeline.errors import Interrupted, StageFailed

VERBS = {
    *("plan", "run", "show", "funnel", "why", "report", "gc", "stage", "convert", "bench"),
}


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    app(words, exit_on_error=False)
    return " ".join(capsys.readouterr().out.replace("\u2502", " ").split())


def test_the_verbs_are_known() -> None:
    assert {name for name in app if not name.startswith("-")} == VERBS


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == version("openwit")


@pytest.mark.parametrize("name", [name for name, each in CATALOGUE.items() if not each.sees_all])
def test_help_of_a_stage_shows_its_summary_in_full(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    summary = f"{CATALOGUE[name].summary}."
    assert summary in printed(capsys, "stage", "--help")
    assert summary in printed(capsys, "stage", name, "--help")


def raising(error: BaseException) -> object:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [
        (UserError("mend it"), Exit.USER_ERROR, "openwit: mend it"),
        (Interrupted("go on later"), Exit.INTERRUPTED, "openwit: go on later"),
        (StageFailed("rows are missing"), Exit.INTERNAL, "openwit: rows are missing"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "openwit: stopped"),
        (
            ZeroDivisionError("by nothing"),
            Exit.INTERNAL,
            "openwit: this is a defect of openwit; please report the lines above",
        ),
    ],
)
def test_every_error_has_its_exit_code_and_its_line(
    error: BaseException, code: Exit, last_line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: raising(error)) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == last_line
    assert ("Traceback (most recent call last):" in lines) == isinstance(error, ZeroDivisionError)


def test_what_a_command_returns_is_its_exit_code() -> None:
    assert guarded(lambda: Exit.LOSSES_OVER_BUDGET) == Exit.LOSSES_OVER_BUDGET
    assert guarded(lambda: None) == Exit.OK
    assert guarded(lambda: raising(BrokenPipeError())) == Exit.OK
