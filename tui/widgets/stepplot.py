"""Step functions with zoom, pan and a cursor: a window over :mod:`estimator.steps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from estimator.steps import Line, Point, Series, render, values_at

from ..text import printable
from .paint import STYLES, Painted

PAINTS = {"bold": "plan", "thin": "history", "dashed": "fixed", "band": "band", "axis": "free", "label": "dim",
          "cursor": "accent"}  # fmt: skip
"""Which of our styles each of the renderer's is drawn in."""

ZOOM = 1.5
FINEST = 1 / 500
"""Zoomed in no further than to this part of the whole."""


class StepPlot(Painted, can_focus=True):
    """See the module's text.

    Attributes:
        cursor: The ``x`` whose values are read; None while nothing is read.
        zoomed: The range of ``x`` on the screen; None is all of it.
        pending: The bold line is drawn dim: another is about to take its place.
        stale: All is drawn dim: it is old.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES
    DEFAULT_CSS = "StepPlot { height: 1fr; padding: 0 1; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "read(-1)", "cursor", id="plot.left", key_display="←→", tooltip="Read values further left."),
        Binding("right,l", "read(1)", "right", show=False, id="plot.right", tooltip="Read values further right."),
        Binding("shift+left,H", "read(-10)", "far left", show=False, id="plot.far_left"),
        Binding("shift+right,L", "read(10)", "far right", show=False, id="plot.far_right"),
        Binding("plus,equals_sign", "zoom(1)", "zoom", id="plot.zoom_in", key_display="+-", tooltip="Zoom in."),
        Binding("minus,underscore", "zoom(-1)", "zoom out", show=False, id="plot.zoom_out", tooltip="Zoom out."),
        Binding("0", "whole", "all", show=False, id="plot.whole", tooltip="Show the whole time again."),
        Binding("less_than_sign", "pan(-1)", "pan left", show=False, id="plot.pan_left", key_display="<"),
        Binding("greater_than_sign", "pan(1)", "pan right", show=False, id="plot.pan_right", key_display=">"),
    ]

    cursor: reactive[float | None] = reactive(None)
    zoomed: reactive[tuple[float, float] | None] = reactive(None)
    pending: reactive[bool] = reactive(False)
    stale: reactive[bool] = reactive(False)

    class Read(Message):
        """The cursor is elsewhere, or what is under it changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.series: Sequence[Series] = ()
        self.unit = "MB"
        self._lines: list[Line] = []
        self._drawn_for: object = None

    def show(self, series: Sequence[Series], unit: str) -> None:
        """Draw these; zoom and cursor stay where they are."""
        self.series, self.unit = series, unit
        self._drawn_for = None
        self.refresh()
        self.post_message(self.Read())

    @property
    def extent(self) -> tuple[float, float]:
        """From zero to the end of the longest series."""
        ends = [points[-1][0] for each in self.series for points in (each.points, each.upper) if points]
        return 0.0, max([*ends, 1.0])

    @property
    def shown(self) -> tuple[float, float]:
        """The range of ``x`` that is on the screen."""
        return self.zoomed or self.extent

    def values(self) -> list[float | None]:
        """What the cursor reads of each series."""
        return [None] * len(self.series) if self.cursor is None else values_at(self.series, self.cursor)

    # -- drawing -----------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the picture."""
        lines = self._drawing()
        base = self.paint("base")
        segments = [
            Segment(printable(text), base + self.paint(self._style(style)))
            for text, style in (lines[y] if y < len(lines) else ())
        ]
        return Strip(segments).extend_cell_length(self.size.width, base).crop(0, self.size.width)

    def _style(self, style: str) -> str:
        if self.stale and style:
            return "free"
        return "dim" if self.pending and style == "bold" else PAINTS.get(style, "")

    def _drawing(self) -> list[Line]:
        wanted = (self.size, self.zoomed, self.cursor)
        if wanted != self._drawn_for:
            self._drawn_for = wanted
            width, height = self.size
            self._lines = (
                render(self.series, width=width, height=height, x_range=self.shown, y_range=self._heights(),
                       y_unit=self.unit, cursor=self.cursor)
                if self.series and width > 0 and height > 0 else []
            )  # fmt: skip
        return self._lines

    def _heights(self) -> tuple[float, float] | None:
        """Zoomed in, the heights that occur there; they begin at zero unless all are far from it."""
        if self.zoomed is None:
            return None
        lines = [points for each in self.series for points in (each.points, each.upper) if points]
        values = [value for points in lines for value in _between(points, *self.zoomed)]
        low, high = min(values, default=0.0), max(values, default=0.0)
        room = 0.1 * (high - low) or 0.1 * high or 1.0
        return (low - room if low > high / 2 else 0.0), high + room

    @property
    def label_width(self) -> int:
        """Columns that the labels of the upright axis take."""
        first = self._drawing()[0] if self._drawing() else []
        return len(first[0][0]) + 1 if first and first[0][1] == "label" else 0

    # -- keys and mouse ------------------------------------------------------------------------------------------

    def escape(self) -> bool:
        """Put cursor and zoom away; whether there were any."""
        had = self.cursor is not None or self.zoomed is not None
        self.cursor = self.zoomed = None
        return had

    def watch_cursor(self) -> None:
        """Tell what is read now."""
        self.post_message(self.Read())

    def action_read(self, by: int) -> None:
        """Move the cursor by columns; the first time it appears in the middle. At an edge the picture follows."""
        low, high = self.shown
        column = (high - low) / max(1, self.size.width - self.label_width - 1)
        start, end = self.extent
        place = (low + high) / 2 if self.cursor is None else self.cursor + by * column
        self.cursor = min(max(place, start), end - 1e-6 * (end - start))
        if self.zoomed is not None and not low <= self.cursor <= high:
            self._move(self.cursor - (low + high) / 2)

    def action_zoom(self, by: int) -> None:
        """In (1) or out (-1), around the cursor."""
        start, end = self.extent
        low, high = self.shown
        span = min(max((high - low) / ZOOM**by, (end - start) * FINEST), end - start)
        at = (low + high) / 2 if self.cursor is None else self.cursor
        left = at - (at - low) / (high - low) * span
        self._see(left, span)

    def action_pan(self, by: int) -> None:
        """By a quarter of what is shown."""
        low, high = self.shown
        self._move(by * (high - low) / 4)

    def action_whole(self) -> None:
        """All of it again."""
        self.zoomed = None

    def _move(self, by: float) -> None:
        low, high = self.shown
        self._see(low + by, high - low)

    def _see(self, left: float, span: float) -> None:
        start, end = self.extent
        if span >= end - start:
            self.zoomed = None
            return
        left = min(max(left, start), end - span)
        self.zoomed = (left, left + span)

    def on_click(self, event: events.Click) -> None:
        """Read where the mouse is."""
        self._read_at(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Dragged: read along."""
        if event.button == 1:
            self._read_at(event)

    def _read_at(self, event: events.MouseEvent) -> None:
        x = event.x - self.gutter.left
        low, high = self.shown
        columns = max(1, self.size.width - self.label_width)
        if x >= self.label_width:
            self.cursor = low + (x - self.label_width + 0.5) / columns * (high - low)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in."""
        event.stop()
        self.action_zoom(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out."""
        event.stop()
        self.action_zoom(-1)


def _between(points: Sequence[Point], low: float, high: float) -> list[float]:
    """The values that occur between two places."""
    values = [value for x, value in points if low <= x <= high]
    before = [value for x, value in points[:-1] if x < low][-1:]
    return [*values, *before] if points[-1][0] >= low else []
