"""Charts as inline SVG and HTML bars: values in, markup out, readable without a script.

Colours come from the page's style sheet, so that a chart follows its light or dark ground. Every
text is escaped here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40
MAX_POINTS = 300
MAX_TICKS = 6

_UNITS = ((1e12, " T"), (1e9, " B"), (1e6, " M"))


def count(value: float) -> str:
    """A count for people: 12,345 in full, from a million on 412.3 M."""
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A share for people: 3.1 %; what is not quite nothing or all does not read as if it were."""
    percent = 100 * value
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    if 0 < percent < 0.01:
        return "< 0.01 %"
    return f"{percent:.2f} %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def number(value: float) -> str:
    """Any number for people: up to 4 digits that matter, never an exponent."""
    if not math.isfinite(value):
        return str(value)
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class Axis:
    """An axis: its label, and whether it is logarithmic (values must then be above 0)."""

    label: str
    log: bool = False
    zero: bool = False
    """A linear axis that must begin at zero, for areas."""
    percent: bool = False
    """Values are shares, to be shown in percent."""


@dataclass(frozen=True)
class Series:
    """A named line of (x, y) points; points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    filled: bool = False


@dataclass(frozen=True)
class ReferenceLine:
    """A marked value on the x or the y axis."""

    label: str
    value: float
    axis: str = "y"


@dataclass(frozen=True)
class Segment:
    """A piece of a bar: its share of the bar's full length, the style sheet's tone, its meaning."""

    share: float
    tone: str
    title: str


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its segments and what stands beside it."""

    label: str
    segments: Sequence[Segment]
    value: str
    note: str = ""


def bars(title: str, rows: Sequence[Bar], legend: Sequence[tuple[str, str]] = ()) -> Markup:
    """Horizontal stacked bars; `legend` lists (tone, meaning). Text stays text and wraps."""
    lines = Markup("").join(_bar(row) for row in rows)
    return Markup('<figure class="bars"><figcaption>{}</figcaption>{}{}</figure>').format(
        title, lines, _legend(legend)
    )


def lines(
    title: str, series: Sequence[Series], x: Axis, y: Axis, rules: Sequence[ReferenceLine] = ()
) -> Markup:
    """A line chart; with two logarithmic axes a rank/count plot."""
    series = [Series(line.name, _finite(line.points, x, y), line.filled) for line in series]
    points = [point for line in series for point in line.points]
    across = _Scale.over(
        [point[0] for point in points] + [rule.value for rule in rules if rule.axis == "x"],
        x,
        LEFT,
        WIDTH - RIGHT,
    )
    up = _Scale.over(
        [point[1] for point in points] + [rule.value for rule in rules if rule.axis == "y"],
        y,
        HEIGHT - BOTTOM,
        TOP,
    )
    body = [*_grid(across, up), *(_rule(rule, across, up) for rule in rules)]
    body += [_line(number, line, across, up) for number, line in enumerate(series)]
    tones = [(f"s{number}", line.name) for number, line in enumerate(series)]
    legend = _legend(tones if len(series) > 1 else ())
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>{}</figure>'
    ).format(title, WIDTH, HEIGHT, _description(title, series, x, y), Markup("").join(body), legend)


def histogram(
    title: str,
    edges: Sequence[float],
    heights: Sequence[tuple[str, Sequence[float]]],
    x: Axis,
    y: Axis,
    rules: Sequence[ReferenceLine] = (),
) -> Markup:
    """Named distributions over the same bins, `edges` one longer than each; the first is filled."""
    series = []
    for number, (name, values) in enumerate(heights):
        steps = [(edges[0], 0.0)]
        for left, right, value in zip(edges[:-1], edges[1:], values, strict=True):
            steps += [(left, value), (right, value)]
        series.append(Series(name, [*steps, (edges[-1], 0.0)], filled=number == 0))
    return lines(title, series, x, replace(y, zero=True), rules)


@dataclass(frozen=True)
class _Scale:
    """A range of values on a range of pixels."""

    axis: Axis
    low: float
    high: float
    start: int
    end: int

    @classmethod
    def over(cls, values: Sequence[float], axis: Axis, start: int, end: int) -> "_Scale":
        values = [value for value in values if math.isfinite(value) and (value > 0 or not axis.log)]
        low, high = (min(values), max(values)) if values else (1.0, 2.0)
        if axis.log:
            return cls(axis, low, high if high > low * 1.001 else low * 10, start, end)
        low = min(low, 0.0) if axis.zero else low
        size = max(abs(low), abs(high))
        # A flat line lies in the middle of some range; so does one that varies by rounding alone.
        pad = 0.0 if high - low > max(size * 1e-9, 1e-100) else max(size, 1.0) / 2
        return cls(axis, low - (0.0 if axis.zero else pad), high + pad, start, end)

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.axis.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if not self.axis.log:
            return _linear_ticks(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = last - first
        leads = (1, 2, 5) if decades <= 2 else (1,)
        stride = max(1, -(-decades // MAX_TICKS))
        powers = range(first, last + 1, stride)
        ticks = [lead * 10.0**power for power in powers for lead in leads]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / (MAX_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(lead * power for lead in (1, 2, 5, 10) if lead * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _tick_label(value: float, axis: Axis) -> str:
    if axis.percent:
        return f"{number(100 * value)} %"
    for size, unit in (*_UNITS, (1e3, " k")):
        if abs(value) >= size and (unit != " k" or abs(value) >= 1e4):
            return f"{value / size:g}{unit}"
    return number(value)


def _finite(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Points that can be drawn, thinned evenly to `MAX_POINTS` with the last one kept."""
    axes = (x, y)
    good = [
        point
        for point in points
        if all(
            math.isfinite(value) and (value > 0 or not axis.log)
            for value, axis in zip(point, axes, strict=True)
        )
    ]
    if len(good) <= MAX_POINTS:
        return good
    last = len(good) - 1
    return [good[round(number * last / (MAX_POINTS - 1))] for number in range(MAX_POINTS)]


def _grid(across: _Scale, up: _Scale) -> list[Markup]:
    body = []
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    template = Markup('<path class="grid" d="{}"/><text x="{}" y="{}" text-anchor="{}">{}</text>')
    for tick in up.ticks():
        y, label = up.at(tick), _tick_label(tick, up.axis)
        path = f"M{LEFT} {y:.1f}H{right}"
        body.append(template.format(path, LEFT - 6, f"{y + 3.5:.1f}", "end", label))
    for tick in across.ticks():
        x, label = across.at(tick), _tick_label(tick, across.axis)
        path = f"M{x:.1f} {TOP}V{bottom + 4}"
        body.append(template.format(path, f"{x:.1f}", bottom + 16, "middle", label))
    middle = (TOP + bottom) / 2
    template = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle"{}>{}</text>')
    turn = Markup(' transform="rotate(-90 12 {})"').format(middle)
    body.append(template.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "", across.axis.label))
    body.append(template.format(12, middle, turn, up.axis.label))
    return body


def _rule(rule: ReferenceLine, across: _Scale, up: _Scale) -> Markup:
    if rule.axis == "y":
        y = up.at(rule.value)
        path, x = f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", float(WIDTH - RIGHT - 2)
        above = y - 4 if y > TOP + 12 else y + 12
    else:
        x = across.at(rule.value)
        path, above = f"M{x:.1f} {TOP}V{HEIGHT - BOTTOM}", TOP + 10.0
        x += 4 if x < WIDTH / 2 else -4
    anchor = "start" if rule.axis == "x" and x < WIDTH / 2 else "end"
    return Markup(
        '<path class="rule" d="{}"/>'
        '<text class="rule" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    ).format(path, x, above, anchor, rule.label)


def _line(number: int, series: Series, across: _Scale, up: _Scale) -> Markup:
    if not series.points:
        return Markup("")
    points = [(across.at(x), up.at(y)) for x, y in series.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    filled = " filled" if series.filled else ""
    dot = ""
    if len(points) == 1:
        dot = (
            f'<circle class="dot s{number}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
        )
    return Markup('<path class="line s{}{}" d="{}"><title>{}</title></path>{}').format(
        number, filled, path, series.name, Markup(dot)
    )


def _bar(row: Bar) -> Markup:
    pieces = Markup("").join(
        Markup('<i class="{}" style="width:{:.3f}%" title="{}"></i>').format(
            segment.tone, 100 * segment.share, segment.title
        )
        for segment in row.segments
        if segment.share > 0
    )
    return Markup(
        '<div class="bar"><b><bdi>{}</bdi></b><span class="track">{}</span>'
        "<span>{}<small>{}</small></span></div>"
    ).format(row.label, pieces, row.value, row.note)


def _legend(tones: Sequence[tuple[str, str]]) -> Markup:
    if not tones:
        return Markup("")
    items = (Markup('<span><i class="{}"></i>{}</span>').format(*tone) for tone in tones)
    return Markup('<p class="legend">{}</p>').format(Markup("").join(items))


def _description(title: str, series: Sequence[Series], x: Axis, y: Axis) -> str:
    """The chart in words, for readers who cannot see it: where each line begins and ends."""
    ends = (
        f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}"
        for line in series
        if line.points
    )
    return f"{title}: {y.label} by {x.label}; {'; '.join(ends)}"
