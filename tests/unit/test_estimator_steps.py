"""The step renderer of terminals: small pictures made by hand, and what holds for every picture."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.cells import Charset
from estimator.steps import Line, Point, Series, Style, render, to_text, values_at
from estimator.units import amount, amount_ticks, duration, nice_top, percent, time_ticks, usage

CHARSETS: tuple[Charset, ...] = ("braille", "quadrant", "ascii")
STYLES: tuple[Style, ...] = ("thin", "bold", "dashed")


def text(series: list[Series], charset: Charset = "ascii", width: int = 30, height: int = 7, **more: object) -> str:
    return to_text(render(series, width=width, height=height, charset=charset, **more))  # type: ignore[arg-type]


def test_a_step_up_and_down_in_ascii() -> None:
    picture = text([Series("", [(0, 1024), (10, 3072), (20, 0)])], width=27)
    assert picture == (
        "4 GB +\n"
        "     |          +---------+\n"
        "2 GB +          |         |\n"
        "     |----------+         |\n"
        "   0 +                    |\n"
        "     ++---------+---------+\n"
        "      0       10 s     20 s\n"
    )


def test_a_step_in_braille_is_one_dot_thin() -> None:
    picture = text([Series("", [(0, 7), (3, 3), (7, 0)])], "braille", width=4, height=2, y_unit="x", y_range=(0, 7))
    assert picture == "⠉⢹\n ⠈⠉⢹\n"


def test_a_thick_line_keeps_to_its_cells() -> None:
    picture = text([Series("", [(0, 4), (4, 0)], "bold")], "quadrant", width=3, height=2, y_unit="x", y_range=(0, 4))
    assert picture == "███\n  █\n"


def test_quadrants() -> None:
    picture = text([Series("", [(0, 3), (5, 0)])], "quadrant", width=3, height=2, y_unit="x", y_range=(0, 3))
    assert picture == "▀▀▜\n  ▐\n"


def test_a_band_lies_below_the_lines() -> None:
    band = Series("band", [(0, 1), (10, 0)], "band", [(0, 9), (10, 0)])
    line = Series("line", [(0, 5), (10, 0)], "bold")
    lines = render([band, line], width=20, height=12, y_unit="x", charset="ascii")
    styles = {style for row in lines for _, style in row}
    assert {"band", "bold"} <= styles
    assert any("=" in segment for row in lines for segment, style in row if style == "bold")


def test_the_legend_names_each_line_once() -> None:
    series = [Series("runs", [(0, 1), (9, 0)]) for _ in range(5)] + [Series("plan", [(0, 2), (9, 0)], "bold")]
    assert text(series, width=40, height=10).splitlines()[-1] == "-- runs   == plan"


def test_a_cursor_is_marked_and_its_values_told() -> None:
    series = [Series("a", [(0, 1), (10, 5), (20, 0)]), Series("b", [(5, 2), (15, 0)])]
    lines = render(series, width=40, height=10, cursor=12)
    assert "cursor" in {style for row in lines for _, style in row}
    assert values_at(series, 12) == [5, 2]
    assert values_at(series, 10) == [5, 2]
    assert values_at(series, 3) == [1, None]
    assert values_at(series, 20) == [None, None]


def test_a_range_zooms() -> None:
    series = [Series("", [(0, 1000), (50, 9000), (100, 0)])]
    whole, part = text(series), text(series, x_range=(0, 40), y_range=(0, 2000))
    assert whole.splitlines()[-1].split() == ["0", "60", "s"]
    assert part.splitlines()[-1].split() == ["0", "15", "s", "30", "s"]
    assert part.splitlines()[2] == "1 GB +" + "-" * 24  # the step at 1000 MB, across all that is shown
    outside = render(series, width=30, height=7, x_range=(200, 300))
    assert not any(style == "thin" for row in outside for _, style in row)


def test_colours_only_if_wanted() -> None:
    lines = render([Series("plan", [(0, 5), (9, 0)], "bold")], width=30, height=10)
    assert "\x1b" not in to_text(lines)
    coloured = to_text(lines, colour=True)
    assert "\x1b[1;36m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == to_text(lines).split()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        render([], width=0, height=5)
    with pytest.raises(ValueError, match="empty range"):
        render([], width=10, height=5, x_range=(3, 3))


def test_nothing_to_draw_is_an_empty_picture() -> None:
    assert len(render([], width=40, height=10)) == 10
    assert len(render([Series("", [])], width=40, height=10)) == 10


def test_no_numpy_is_loaded() -> None:
    code = "import sys, estimator.steps; print('numpy' in sys.modules, 'estimator.skyline' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# -- what always holds -------------------------------------------------------------------------------------------


@st.composite
def step_functions(draw: st.DrawFn) -> list[Point]:
    times = sorted(draw(st.sets(st.integers(0, 10_000), min_size=2, max_size=12)))
    values = draw(st.lists(st.integers(0, 5_000_000), min_size=len(times) - 1, max_size=len(times) - 1))
    return [*((float(time), float(value)) for time, value in zip(times, values, strict=False)), (float(times[-1]), 0.0)]


@given(
    points=st.lists(step_functions(), min_size=1, max_size=4),
    width=st.integers(1, 90),
    height=st.integers(1, 30),
    charset=st.sampled_from(CHARSETS),
    style=st.sampled_from(STYLES),
)
@settings(max_examples=60, deadline=None)
def test_every_picture_has_the_size_asked_for(
    points: list[list[Point]], width: int, height: int, charset: Charset, style: Style
) -> None:
    lines = render([Series("x", each, style) for each in points], width=width, height=height, charset=charset)
    assert len(lines) == height
    assert all(sum(len(segment) for segment, _ in line) <= width for line in lines)


def cells_of(lines: list[Line], style: Style) -> list[list[bool]]:
    """Which cells show a style, of pictures too low for axes."""
    return [[each == style for segment, each in line for _ in segment] for line in lines]


@given(points=step_functions(), style=st.sampled_from(STYLES), charset=st.sampled_from(CHARSETS))
@settings(max_examples=80, deadline=None)
def test_every_step_is_seen_at_its_height(points: list[Point], style: Style, charset: Charset) -> None:
    """In the row of its value each step has a mark at its first column, whatever its length."""
    width, height = 60, 3
    x_range, y_range = (0.0, 10_000.0), (0.0, 5_000_000.0)
    lines = render(
        [Series("", points, style)], width=width, height=height, x_range=x_range, y_range=y_range, charset=charset
    )
    shown = cells_of(lines, style)
    across, down = {"braille": (2, 4), "quadrant": (2, 2), "ascii": (1, 1)}[charset]
    for time, value in points[:-1]:
        column = int(time / 10_000 * (width * across - 1) + 0.5) // across
        row = height - 1 - int(value / 5_000_000 * (height * down - 1) + 0.5) // down
        assert shown[row][column], (time, value)


@given(points=step_functions(), charset=st.sampled_from(CHARSETS))
@settings(max_examples=60, deadline=None)
def test_a_line_has_no_gaps(points: list[Point], charset: Charset) -> None:
    lines = render([Series("", points, "thin")], width=50, height=3, x_range=(0.0, 10_000.0), charset=charset)
    columns = [any(row) for row in zip(*cells_of(lines, "thin"), strict=True)]
    first, last = columns.index(True), len(columns) - columns[::-1].index(True)
    assert all(columns[first:last])


@given(low=st.floats(0, 1e7), span=st.floats(1e-3, 1e9), count=st.integers(1, 12), unit=st.sampled_from(["MB", "gpus"]))
@settings(max_examples=100, deadline=None)
def test_ticks_ascend_within_their_range(low: float, span: float, count: int, unit: str) -> None:
    for ticks in (amount_ticks(low, low + span, count, unit), time_ticks(low, low + span, count)):
        values = [tick.value for tick in ticks]
        assert values == sorted(set(values))
        assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value in values)
        assert len(values) <= count + 1


@given(high=st.floats(1e-3, 1e12), count=st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_the_top_of_an_axis_is_near_above(high: float, count: int) -> None:
    assert high * (1 - 1e-6) <= nice_top(high, count, "MB") <= high + 10 * max(high, 1e-3)


# -- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0, "MB", "0 MB"), (512, "MB", "512 MB"), (1024, "MB", "1 GB"), (2598912, "MB", "2.48 TB"),
        (2538, "vcores", "2538 vcores"), (0.25, "gpus", "0.25 gpus"), (1536, "MB", "1.5 GB"),
    ],
)  # fmt: skip
def test_amounts(value: float, unit: str, shown: str) -> None:
    assert amount(value, unit) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"), (45, "45 s"), (240, "4 min"), (250, "4 min 10 s"), (5400, "1 h 30 min"), (90_000, "1 d 1 h"),
        (3601, "1 h"), (0.25, "0.25 s"), (-90, "-1 min 30 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_products_and_shares() -> None:
    assert usage(1024 * 3600, "MB") == "1 GB·h"
    assert usage(90, "gpus") == "1.5 gpus·min"
    assert [percent(each) for each in (0, 0.0004, 0.005, 0.41, 0.9999, 1, 1.18)] == [
        "0 %", "< 0.1 %", "0.5 %", "41 %", "99.9 %", "100 %", "118 %",
    ]  # fmt: skip


def test_time_ticks_choose_their_unit() -> None:
    assert [tick.label for tick in time_ticks(0, 30, 4)] == ["0", "10 s", "20 s", "30 s"]
    assert [tick.label for tick in time_ticks(0, 240, 4)] == ["0", "1 min", "2 min", "3 min", "4 min"]
    assert [tick.label for tick in time_ticks(0, 86_400, 4)] == ["0", "6 h", "12 h", "18 h", "24 h"]
    assert [tick.label for tick in time_ticks(3780, 3840, 4)] == ["63:00", "63:15", "63:30", "63:45", "64:00"]
    assert [tick.label for tick in time_ticks(7200, 7260, 2)] == ["2:00:00", "2:00:30", "2:01:00"]
