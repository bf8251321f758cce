"""Step functions drawn in a terminal's cells: crisp right angles, axes with nice ticks, a legend. Pure Python.

What is drawn comes back as lines of ``(text, style)`` segments, so that a command line, a server and a full-screen
window each colour it in their own way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from .cells import Canvas, Charset, Style
from .units import Tick, amount_ticks, nice_top, time_ticks

__all__ = ["COLOURS", "Charset", "Line", "Point", "Segment", "Series", "Style", "render", "to_text", "values_at"]

Point = tuple[float, float]
Segment = tuple[str, str]
Line = list[Segment]
"""A line's segments from left to right; the style is one of :data:`COLOURS`, or empty for plain text."""

COLOURS = {"bold": "1;36", "dashed": "33", "thin": "34", "band": "2;37", "axis": "2", "label": "", "cursor": "35"}
"""Each style's name, and the ANSI colour that :func:`to_text` gives it."""


@dataclass(frozen=True)
class Series:
    """One step function.

    Attributes:
        points: ``(x, y)`` with ascending ``x``: ``y`` holds until the next point; the last point ends the line (its
            ``y`` is where it drops to there). Nothing is drawn before the first.
        style: ``band`` fills the space between ``points`` and ``upper``.
        upper: The upper edge of a band, in the same form.
    """

    label: str
    points: Sequence[Point]
    style: Style = "thin"
    upper: Sequence[Point] = ()


class _Scale(NamedTuple):
    """From values to dots; values outside of the range fall outside of ``0 .. dots - 1``."""

    low: float
    high: float
    dots: int

    def dot(self, value: float) -> int:
        """The dot nearest to a value, held within two ranges of the visible so that infinities are harmless."""
        span = self.high - self.low
        place = (min(max(value, self.low - span), self.high + span) - self.low) / span
        return int(place * (self.dots - 1) + 0.5) if place >= 0 else -1


def values_at(series: Sequence[Series], x: float) -> list[float | None]:
    """Each series' value at ``x`` (for a band its lower edge); None before its first and from its last point on."""
    return [_value_at(each.points, x) for each in series]


def render(
    series: Sequence[Series],
    *,
    width: int,
    height: int,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_unit: str = "seconds",
    y_unit: str = "MB",
    cursor: float | None = None,
    charset: Charset = "braille",
) -> list[Line]:
    """Draw series into ``height`` lines of ``width`` columns each, the axes, their labels and a legend included.

    Args:
        x_range, y_range: What to show: zoom and pan. All of the data from zero on by default.
        x_unit: ``seconds`` is labelled in s, min, h or d; any other unit with plain numbers.
        y_unit: ``MB`` is labelled in MB, GB or TB; any other unit with plain numbers.
        cursor: Marks this ``x`` with an upright line.

    Raises:
        ValueError: width or height is not positive, or a range is empty.
    """
    if width < 1 or height < 1:
        raise ValueError(f"no room to draw in: {width} columns, {height} lines")
    legend = _legend(series, width, charset) if height >= 8 else []
    rows = max(1, height - len(legend) - (2 if height >= 4 else 0))
    x_low, x_high = _range(x_range) if x_range else _all_x(series)
    most = max(2, rows // 3)
    y_low, y_high = _range(y_range) if y_range else (0.0, nice_top(_highest(series), most, y_unit))
    y_ticks = amount_ticks(y_low, y_high, most, y_unit) if height >= 4 else []
    gutter = max((len(tick.label) for tick in y_ticks), default=0) + 2
    if gutter > width // 2 or height < 4:
        gutter, y_ticks = 0, []
    canvas = Canvas(width - gutter, rows, charset)
    across, down = canvas.dots
    scales = _Scale(x_low, x_high, across), _Scale(y_low, y_high, down)
    for each in series:
        _draw(canvas, each, *scales)
    marked = _column(scales[0], canvas, cursor) if cursor is not None else None
    lines = _rows(canvas, y_ticks, scales[1], gutter, marked, charset)
    if height >= 4:
        wanted = max(3, (width - gutter) // 12)
        x_ticks = (
            time_ticks(x_low, x_high, wanted) if x_unit == "seconds" else amount_ticks(x_low, x_high, wanted, x_unit)
        )
        lines += _x_axis(x_ticks, scales[0], canvas, gutter, width, charset)
    return (lines + legend)[:height]


def to_text(lines: Sequence[Line], colour: bool = False) -> str:
    """The lines as text, each with its end; without trailing blanks, and with ANSI colours if wanted."""
    return "".join(_plain(line) if not colour else _coloured(line) for line in lines)


def _plain(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip() + "\n"


def _coloured(line: Line) -> str:
    parts = [f"\x1b[{COLOURS[style]}m{text}\x1b[0m" if COLOURS.get(style) else text for text, style in line]
    return "".join(parts).rstrip() + "\n"


# -- the lines ---------------------------------------------------------------------------------------------------


def _draw(canvas: Canvas, series: Series, x: _Scale, y: _Scale) -> None:
    if series.style == "band":
        _draw_band(canvas, series, x, y)
        return
    before: int | None = None
    style, thick = series.style, series.style == "bold" and not canvas.plain
    for start, end, value in _pieces(series.points):
        here = y.dot(value) if value == value else None
        at = x.dot(start)
        if before is not None and here is not None and here != before:
            _upright(canvas, style, at, before, here, thick)
        before = here
        if here is not None and end > start:
            _level(canvas, style, here, at, x.dot(end), thick)


def _pieces(points: Sequence[Point]) -> Iterator[tuple[float, float, float]]:
    """(from, until, value) of each step; the last point is a step of no length."""
    for index, (start, value) in enumerate(points):
        yield start, points[index + 1][0] if index + 1 < len(points) else start, value


def _level(canvas: Canvas, style: Style, y: int, left: int, right: int, thick: bool) -> None:
    across, down = canvas.dots
    if right < 0 or left >= across or not 0 <= y < down:
        return
    for row in _pair(down - 1 - y, canvas.raster.down) if thick else (down - 1 - y,):
        canvas.level(style, row, max(left, 0), min(right, across - 1))


def _upright(canvas: Canvas, style: Style, x: int, one: int, other: int, thick: bool) -> None:
    across, down = canvas.dots
    low, high = max(min(one, other), 0), min(max(one, other), down - 1)
    if not 0 <= x < across or low > high:
        return
    for column in _pair(x, canvas.raster.across) if thick else (x,):
        canvas.upright(style, column, down - 1 - high, down - 1 - low)


def _pair(dot: int, size: int) -> tuple[int, int]:
    """A dot and its neighbour in the same cell of ``size`` dots: a thick line that straddles cells looks frayed."""
    return (dot, dot - 1) if dot % size else (dot, dot + 1)


def _draw_band(canvas: Canvas, series: Series, x: _Scale, y: _Scale) -> None:
    across, down = canvas.dots
    edges = sorted({point[0] for point in (*series.points, *series.upper)})
    for start, end in pairwise(edges):
        low, high = (y.dot(_value_at(each, start) or 0.0) for each in (series.points, series.upper))
        first, last = max(x.dot(start), 0), min(x.dot(end), across - 1)
        low, high = max(min(low, high), 0), min(max(low, high), down - 1)
        for column in range(first, last + 1) if low < high else ():
            canvas.shade(column, down - 1 - high, down - 1 - low)


def _value_at(points: Sequence[Point], x: float) -> float | None:
    index = bisect_right(points, x, key=lambda point: point[0])
    return points[index - 1][1] if 0 < index < len(points) else None


# -- axes and legend ---------------------------------------------------------------------------------------------


def _rows(
    canvas: Canvas, ticks: Sequence[Tick], y: _Scale, gutter: int, marked: int | None, charset: Charset
) -> list[Line]:
    down = canvas.raster.down
    labels = {canvas.height - 1 - y.dot(tick.value) // down: tick.label for tick in ticks}
    bar, notch, upright = ("|", "+", "|") if charset == "ascii" else ("│", "┤", "│")
    lines = []
    for row in range(canvas.height):
        line: Line = []
        if gutter:
            label = labels.get(row, "")
            line = [(label.rjust(gutter - 2) + " ", "label"), (notch if label else bar, "axis")]
        cells = canvas.row(row)
        if marked is not None and cells[marked][1] in ("", "band"):
            cells[marked] = (upright, "cursor")
        lines.append(line + _joined(cells))
    return lines


def _joined(cells: Sequence[tuple[str, str]]) -> Line:
    """Neighbours of one style as one segment; an unbroken order of cells stays as it is."""
    line: Line = []
    start = 0
    for index in range(1, len(cells) + 1):
        if index == len(cells) or cells[index][1] != cells[start][1]:
            line.append(("".join(glyph for glyph, _ in cells[start:index]), cells[start][1]))
            start = index
    return line


def _x_axis(ticks: Sequence[Tick], x: _Scale, canvas: Canvas, gutter: int, width: int, charset: Charset) -> list[Line]:
    corner, dash, notch = ("+", "-", "+") if charset == "ascii" else ("└", "─", "┬")
    bar, text = [dash] * canvas.width, [" "] * width
    for tick in ticks:
        column = x.dot(tick.value) // canvas.raster.across
        bar[column] = notch
        start = min(max(gutter + column - len(tick.label) // 2, 0), width - len(tick.label))
        if start >= 0 and all(each == " " for each in text[max(start - 1, 0) : start + len(tick.label) + 1]):
            text[start : start + len(tick.label)] = tick.label
    edge = " " * (gutter - 1) + corner if gutter else ""
    return [[(edge + "".join(bar), "axis")], [("".join(text), "label")]]


def _column(x: _Scale, canvas: Canvas, value: float) -> int | None:
    dot = x.dot(value)
    return dot // canvas.raster.across if 0 <= dot < x.dots else None


def _legend(series: Sequence[Series], width: int, charset: Charset) -> list[Line]:
    """One line: each label once behind a sample of its line; what does not fit is left out."""
    samples = {"bold": "━━", "dashed": "╌╌", "thin": "──", "band": "░░"}
    if charset == "ascii":
        samples = {"bold": "==", "dashed": "~~", "thin": "--", "band": ".."}
    line: Line = []
    used = 0
    for label, style in dict.fromkeys((each.label, each.style) for each in series if each.label):
        gap = "   " if line else ""
        used += len(gap) + 3 + len(label)
        if used > width:
            break
        line += [(gap, ""), (samples[style], style), (f" {label}", "label")]
    return [line] if line else []


def _range(given: tuple[float, float]) -> tuple[float, float]:
    if not given[0] < given[1]:
        raise ValueError(f"an empty range: {given[0]} to {given[1]}")
    return float(given[0]), float(given[1])


def _all_x(series: Sequence[Series]) -> tuple[float, float]:
    places = [point[0] for each in series for point in (*each.points[:1], *each.points[-1:], *each.upper[-1:])]
    low, high = min(0.0, *places, 0.0), max(0.0, *places, 0.0)
    return low, high if high > low else low + 1.0


def _highest(series: Sequence[Series]) -> float:
    values = [point[1] for each in series for point in (*each.points, *each.upper) if point[1] == point[1]]
    return max(values, default=0.0)
