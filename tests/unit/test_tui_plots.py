"""The plots of the window: what keys and mouse do to them, and frames that are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widget import Widget

from estimator.steps import Series
from tests.tui_frames import assert_golden, frame
from tui.widgets.areaplot import PATTERNS, AreaPlot, Layer, Span, Stack, clock_ticks, columns_of, sample
from tui.widgets.slider import Slider
from tui.widgets.stepplot import StepPlot

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("utc")]
NOON = 1_795_176_000.0  # 2026-11-20 12:00:00 UTC
HOUR = 3600.0


class Stage(App[None]):
    """Some widgets, and what they said."""

    CSS_PATH = "../../tui/retz.tcss"

    def __init__(self, *widgets: Widget) -> None:
        super().__init__()
        self.widgets = widgets
        self.moments: list[float | None] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {"killed": "#b070c0", "muted": "#888888", "faint": "#666666", "select": "#444444"}

    def compose(self) -> ComposeResult:
        yield from self.widgets

    def on_slider_moved(self, event: Slider.Moved) -> None:
        self.moments.append(event.moment)


def a_run() -> list[Series]:
    plan = Series("predicted", [(0, 1024), (60, 3072), (120, 2048), (240, 0)], "bold")
    past = [Series("2 past runs", [(0, 900), (50 + n, 2900 + 50 * n), (230 + 5 * n, 0)]) for n in range(2)]
    band = Series("8 of 10 runs", [(0, 800), (240, 0)], "band", [(0, 1000), (55, 3000), (240, 0)])
    return [plan, Series("fixed request", [(0, 3072), (240, 0)], "dashed"), *past, band]


# -- step plots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 16), (120, 30)])
async def test_a_skyline_looks_as_it_should(size: tuple[int, int]) -> None:
    plot = StepPlot()
    app = Stage(plot)
    async with app.run_test(size=size) as pilot:
        plot.show(a_run(), "MB")
        plot.cursor = 90.0
        await pilot.pause()
        assert_golden(f"skyline_{size[0]}x{size[1]}", frame(app))


async def test_keys_move_the_cursor_zoom_and_pan() -> None:
    plot = StepPlot()
    async with Stage(plot).run_test(size=(80, 20)) as pilot:
        plot.show(a_run(), "MB")
        plot.focus()
        await pilot.press("right")
        assert plot.cursor == 120.0 and plot.values() == [2048, 3072, 2900, 2950, 800]
        await pilot.press("h")
        assert plot.cursor < 120 and plot.values()[0] == 3072
        await pilot.press("plus", "plus")
        low, high = plot.shown
        assert 0 < low < plot.cursor < high < 240
        await pilot.press("greater_than_sign")
        assert plot.shown[0] > low and plot.shown[1] - plot.shown[0] == pytest.approx(high - low)
        assert plot.escape()
        assert plot.shown == plot.extent and plot.values() == [None] * 5
        assert not plot.escape()


async def test_at_an_edge_the_picture_follows_the_cursor() -> None:
    plot = StepPlot()
    async with Stage(plot).run_test(size=(80, 20)) as pilot:
        plot.show(a_run(), "MB")
        plot.focus()
        await pilot.press("right", *["plus"] * 6)
        before = plot.shown
        await pilot.press(*["L"] * 6)
        assert plot.cursor is not None and plot.cursor > before[1]
        assert plot.shown[0] <= plot.cursor <= plot.shown[1]


async def test_zoomed_in_far_from_zero_the_heights_fill_the_picture() -> None:
    plot = StepPlot()
    app = Stage(plot)
    async with app.run_test(size=(80, 20)) as pilot:
        plot.show([Series("", [(0, 10_000), (50, 10_200), (100, 0)])], "MB")
        await pilot.pause()
        assert any(line.lstrip().startswith("0 ┤") for line in frame(app).splitlines())
        plot.zoomed = (20.0, 80.0)
        await pilot.pause()
        assert "9.95 GB" in frame(app)
        assert not any(line.lstrip().startswith("0 ┤") for line in frame(app).splitlines())


async def test_a_click_reads_what_is_under_it() -> None:
    plot = StepPlot()
    async with Stage(plot).run_test(size=(80, 20)) as pilot:
        plot.show(a_run(), "MB")
        await pilot.click(plot, offset=(79 - 1, 5))
        assert plot.cursor == pytest.approx(240, abs=3)
        await pilot.click(plot, offset=(1 + plot.label_width, 5))
        assert plot.cursor == pytest.approx(0, abs=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["read(1)", "read(-10)", "zoom(1)", "zoom(-1)", "pan(1)", "pan(-1)"]), max_size=30))
def test_whatever_is_pressed_the_picture_stays_within_the_data(actions: list[str]) -> None:
    plot = StepPlot()
    plot.series = a_run()
    for action in actions:
        name, _, by = action.partition("(")
        getattr(plot, f"action_{name}")(int(by[:-1]))
        low, high = plot.shown
        assert 0 <= low < high <= 240 * (1 + 1e-9)
        assert plot.cursor is None or 0 <= plot.cursor < 240


# -- areas and their slider --------------------------------------------------------------------------------------------


def a_day() -> Stack:
    """Two users; nothing was observed from 6 to 8."""
    times = [NOON - 24 * HOUR + 600 * index for index in range(144) if not 108 <= index < 120]
    ann = [40.0 + index % 30 for index in range(len(times))]
    bo = [100.0 - value for value in ann]
    return Stack(times, 600.0, [Layer("ann", ann), Layer("bo", bo)], [160.0] * len(times))


@pytest.mark.parametrize("size", [(80, 14), (120, 24)])
async def test_a_day_looks_as_it_should(size: tuple[int, int]) -> None:
    plot, slider = AreaPlot(), Slider()
    app = Stage(plot, slider)
    async with app.run_test(size=size) as pilot:
        plot.styles.height = size[1] - 2
        moment = NOON - 3 * HOUR
        plot.show(a_day(), NOON - 24 * HOUR, NOON, moment, True)
        slider.show(NOON - 24 * HOUR, NOON, NOON, moment)
        await pilot.pause()
        assert_golden(f"areas_{size[0]}x{size[1]}", frame(app))


def test_layers_are_told_apart_without_colour() -> None:
    assert len({sample(number) for number in range(len(PATTERNS))}) == len(PATTERNS)


async def test_what_nobody_observed_is_blank_and_reads_as_unknown() -> None:
    plot = AreaPlot()
    app = Stage(plot)
    async with app.run_test(size=(80, 12)) as pilot:
        plot.styles.height = 12
        plot.show(a_day(), NOON - 24 * HOUR, NOON, NOON - 5 * HOUR, False)
        await pilot.pause()
        lines = frame(app).splitlines()
        column = 9 + plot.span.column(NOON - 5 * HOUR)
        assert {line[column : column + 1] for line in lines[1:]} <= {" ", ""}
        assert lines[0].endswith("bo               –")
        plot.show(a_day(), NOON - 24 * HOUR, NOON, NOON - HOUR, False)
        await pilot.pause()
        assert not frame(app).splitlines()[0].endswith("–")


async def test_dragging_the_slider_asks_for_moments() -> None:
    slider = Slider()
    app = Stage(slider)
    async with app.run_test(size=(80, 6)) as pilot:
        slider.show(NOON - HOUR, NOON, NOON, None)
        await pilot.pause()
        assert "live" in frame(app)
        await pilot.mouse_down(slider, offset=(9, 0))
        await pilot.hover(slider, offset=(9 + 10, 0))
        await pilot.mouse_up(slider, offset=(9 + 10, 0))
        await pilot.hover(slider, offset=(9 + 30, 0))
        columns = columns_of(80)
        span = Span(NOON - HOUR, NOON, columns)
        assert app.moments[0] == span.time(0) and set(app.moments) == {span.time(0), span.time(10)}
        await pilot.click(slider, offset=(9 + columns - 1, 0))
        assert app.moments[-1] is None  # the right end is now


@pytest.mark.parametrize(
    ("hours", "labels"),
    [(1, ["11:00", "11:10", "11:20"]), (24, ["12:00", "15:00", "18:00"]), (24 * 7, ["Sat 14", "Sun 15", "Mon 16"])],
)
def test_clock_times_are_round(hours: int, labels: Sequence[str]) -> None:
    span = Span(NOON - hours * HOUR, NOON, 96)
    ticks = clock_ticks(span)
    assert [label for _, label in ticks[:3]] == labels
    assert all(abs(span.time(column) - span.time(0)) <= hours * HOUR for column, _ in ticks)


@given(st.floats(0, 2e9), st.floats(1, 1e7), st.integers(1, 300), st.integers(0, 299))
def test_a_column_and_its_time_agree(since: float, length: float, columns: int, column: int) -> None:
    span = Span(since, since + max(length, 60.0), columns)
    if column < columns:
        assert span.column(span.time(column)) == column
