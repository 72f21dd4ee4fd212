"""The house is kept in order: functions fit a screen, and a class name means one thing."""

from pathlib import Path

import pytest

from tools.measure_code import Measures, measure, report

DOOR = """\
class Door:
    @property
    def wide(self) -> bool:
        return True
"""


@pytest.fixture(scope="module")
def house() -> Measures:
    return measure()


def test_nine_functions_in_ten_have_at_most_twenty_lines(house: Measures) -> None:
    assert house.percentile(0.9) <= 20


def test_no_function_is_longer_than_a_screen(house: Measures) -> None:
    assert [function for function in house.longest(10) if function.lines > 60] == []


def test_no_class_name_is_defined_twice(house: Measures) -> None:
    assert house.twins() == {}


def test_lengths_names_and_folders_are_measured_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text('"""A room."""\n')
    (tmp_path / "room" / "one.py").write_text(DOOR + "def long() -> None:\n" + "    pass\n" * 40)
    (tmp_path / "room" / "two.py").write_text("class Door: ...\nasync def wait(): ...\n")
    house = measure(tmp_path, ["room"])
    assert [function.lines for function in house.longest(3)] == [41, 3, 1]
    assert house.percentile(0.0) == 1
    assert house.percentile(0.5) == 3
    assert house.twins() == {"Door": ("room/one.py:1 Door", "room/two.py:1 Door")}
    assert house.ill_filled() == {"room": 2}
    assert report(house).splitlines()[0] == "3 functions: median 3, p90 41, max 41 lines"
