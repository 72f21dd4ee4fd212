"""Charts: numbers as people write them, markup that is well formed, marks where the values say."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from jobs.report import charts
from jobs.report.charts import Axis, Bar, ReferenceLine, Segment, Series


def parsed(markup: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))


def points(figure: ElementTree.Element, number: int = 0) -> list[tuple[float, float]]:
    path = figure.findall(f".//path[@class='line s{number}']")[0].attrib["d"]
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (999, "999"), (412_345, "412,345"), (412_345_678, "412.3 M"), (5.85e9, "5.8 B")],
)
def test_counts_are_exact_below_a_million(value: float, words: str) -> None:
    assert charts.count(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0.0 %"),
        (0.0000001, "< 0.01 %"),
        (0.0004, "0.04 %"),
        (0.031, "3.1 %"),
        (0.99951, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_a_share_is_nothing_or_all_only_where_it_is(value: float, words: str) -> None:
    assert charts.share(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (144e6, "144,000,000"),
        (0.26381, "0.2638"),
        (-2.5, "-2.5"),
        (0.00012, "0.00012"),
        (0, "0"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_never_have_exponents(value: float, words: str) -> None:
    assert charts.number(value) == words


def test_points_lie_in_proportion_on_linear_axes() -> None:
    figure = parsed(
        charts.lines("t", [Series("a", [(0, 0), (1, 5), (4, 10)])], Axis("x"), Axis("y"))
    )
    (x0, y0), (x1, y1), (x2, y2) = points(figure)
    assert (x1 - x0) / (x2 - x0) == pytest.approx(1 / 4, abs=0.001)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(1 / 2, abs=0.001)
    assert y2 < y0, "larger values are higher up"


def test_a_power_law_is_straight_on_logarithmic_axes() -> None:
    law = [(rank, 1e6 / rank**2) for rank in (1, 7, 30, 1000)]
    figure = parsed(charts.lines("t", [Series("a", law)], Axis("x", True), Axis("y", True)))
    drawn = points(figure)
    slopes = [(y - drawn[0][1]) / (x - drawn[0][0]) for x, y in drawn[1:]]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=0.01)


def test_values_that_cannot_be_drawn_are_left_out() -> None:
    wild = [
        (0.0, 3.0),
        (1.0, float("nan")),
        (2.0, 0.0),
        (3.0, float("inf")),
        (4.0, 1.0),
        (5.0, 2.0),
    ]
    figure = parsed(charts.lines("t", [Series("a", wild)], Axis("x"), Axis("y", log=True)))
    assert len(points(figure)) == 3


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    steps = [(float(step), float(step)) for step in range(100_001)]
    figure = parsed(charts.lines("t", [Series("a", steps)], Axis("x"), Axis("y")))
    drawn = points(figure)
    assert len(drawn) == charts.MAX_POINTS
    assert drawn[0][0] == charts.LEFT
    assert drawn[-1][0] == charts.WIDTH - charts.RIGHT


def test_a_rule_widens_the_axis_until_it_shows() -> None:
    rules = [ReferenceLine("t = 100", 100.0)]
    figure = parsed(charts.lines("t", [Series("a", [(0, 1), (1, 2)])], Axis("x"), Axis("y"), rules))
    (line,) = (each for each in figure.iter("path") if each.attrib["class"] == "rule")
    height = float(re.findall(r"[\d.]+", line.attrib["d"])[1])
    assert charts.TOP <= height < min(y for _, y in points(figure))


@given(
    st.lists(st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True)), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_whatever_the_values_a_chart_is_well_formed_and_inside_its_frame(
    values: list[tuple[float, float]], log_x: bool, log_y: bool
) -> None:
    values = [(x, y) for x, y in values if not max(abs(x), abs(y)) > 1e100]
    figure = parsed(charts.lines("t", [Series("a", values)], Axis("x", log_x), Axis("y", log_y)))
    for path in figure.iter("path"):
        for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.attrib["d"]):
            assert -1 <= float(x) <= charts.WIDTH + 1
            assert -1 <= float(y) <= charts.HEIGHT + 1


def test_a_histogram_has_one_step_per_bin() -> None:
    figure = parsed(charts.histogram("t", [0, 10, 20], [("a", [0.25, 0.75])], Axis("x"), Axis("y")))
    path = figure.findall(".//path[@class='line s0 filled']")[0].attrib["d"]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    ground = heights[0]
    assert heights[-1] == ground
    assert (ground - heights[1]) * 3 == pytest.approx(ground - heights[3], abs=0.3)


def test_texts_are_escaped_and_never_become_marks() -> None:
    evil = "</svg><script>alert(1)</script>\"' onload=x"
    bars = charts.bars(
        evil, [Bar(evil, [Segment(0.5, "kept", evil)], evil, evil)], [("kept", evil)]
    )
    plot = charts.lines(
        evil,
        [Series(evil, [(0, 1)]), Series(evil, [(0, 2)])],
        Axis(evil),
        Axis(evil),
        [ReferenceLine(evil, 1)],
    )
    for figure in (parsed(bars), parsed(plot)):
        assert figure.find(".//script") is None
        assert not [name for each in figure.iter() for name in each.attrib if name.startswith("on")]
        assert evil in "".join(figure.itertext())


def test_segments_are_as_wide_as_their_shares() -> None:
    segments = [Segment(0.6, "kept", ""), Segment(0.0, "none", ""), Segment(0.25, "damage", "")]
    figure = parsed(charts.bars("t", [Bar("stage", segments, "85")]))
    pieces = [each for each in figure.iter("i")]
    assert [each.attrib["class"] for each in pieces] == ["kept", "damage"]
    assert [each.attrib["style"] for each in pieces] == ["width:60.000%", "width:25.000%"]
