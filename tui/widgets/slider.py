"""The time of the plots above it as an axis, and on it the moment that is looked at: a slider to drag."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from ..text import fit
from .areaplot import GUTTER, Span, clock_ticks, columns_of
from .paint import STYLES, Painted


class Slider(Painted):
    """Two lines: axis and clock times. A click or a drag asks for a moment.

    Attributes:
        moment: What is looked at; None is now, at the right end.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES
    DEFAULT_CSS = "Slider { height: 2; }"

    class Moved(Message):
        """The user wants to see another moment; None is now."""

        def __init__(self, moment: float | None) -> None:
            super().__init__()
            self.moment = moment

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.since, self.until, self.now = 0.0, 1.0, 1.0
        self.moment: float | None = None
        self._dragged = False

    def show(self, since: float, until: float, now: float, moment: float | None) -> None:
        """The time above it, and what is looked at."""
        self.since, self.until, self.now, self.moment = since, until, now, moment
        self.refresh()

    @property
    def span(self) -> Span:
        """The time it shows."""
        return Span(self.since, self.until, columns_of(self.size.width))

    def render_line(self, y: int) -> Strip:
        """The axis, or the times below it."""
        base, width = self.paint("base"), self.size.width
        parts = self._axis() if y == 0 else self._times()
        segments = [Segment(text, base + self.paint(name)) for text, name in parts]
        return Strip(segments).extend_cell_length(width, base).crop(0, width)

    def _axis(self) -> list[tuple[str, str]]:
        span = self.span
        bar = ["─"] * span.columns
        for column, _ in clock_ticks(span):
            if 0 <= column < span.columns:
                bar[column] = "┬"
        at = self._place(span)
        edge = " " * (GUTTER - 1) + "└"
        return [(edge + "".join(bar[:at]), "free"), ("▲", "accent"), ("".join(bar[at + 1 :]), "free")]

    def _times(self) -> list[tuple[str, str]]:
        """Round times, but where the moment's own stands."""
        span = self.span
        text = [" "] * (GUTTER + span.columns + 8)
        own = "live" if self.moment is None else datetime.fromtimestamp(self.moment).strftime("%H:%M:%S")
        first = max(0, GUTTER + self._place(span) - len(own) // 2)
        for column, label in clock_ticks(span):
            start = max(0, GUTTER + column - len(label) // 2)
            clear = start + len(label) < first or start > first + len(own)
            if clear and all(each == " " for each in text[max(0, start - 1) : start + len(label) + 1]):
                text[start : start + len(label)] = label
        whole = fit("".join(text), max(len(text), first + len(own)))
        return [(whole[:first], "dim"), (own, "accent"), (whole[first + len(own) :], "dim")]

    def _place(self, span: Span) -> int:
        wanted = self.until if self.moment is None else self.moment
        return min(max(span.column(wanted), 0), span.columns - 1)

    # -- mouse ---------------------------------------------------------------------------------------------------

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag."""
        self._dragged = True
        self.capture_mouse()
        self._go(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag."""
        if self._dragged:
            self._go(event.x)

    def on_mouse_up(self, _event: events.MouseUp) -> None:
        """Let go."""
        self._dragged = False
        self.release_mouse()

    def _go(self, x: int) -> None:
        span = self.span
        column = min(max(x - GUTTER, 0), span.columns - 1)
        moment = span.time(column)
        self.post_message(self.Moved(None if column == span.columns - 1 and self.until >= self.now else moment))
