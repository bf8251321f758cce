"""The cluster over time: who held what, how long jobs waited, what happens now; and back through the recorded past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.strip import Strip

from retz.client.types import Aggregates, Point, Status
from retz.model.resources import Resources

from ..cluster_series import (
    MINUTE_S,
    RESOURCES,
    SPAN_NAMES,
    SPANS_S,
    Row,
    calm,
    rows_of,
    stack_of,
    step_of,
    told,
    value_of,
)
from ..commands import Command
from ..page import Page
from ..text import fit, printable
from ..widgets.areaplot import GUTTER, MARGIN, AreaPlot, Span, Stack, columns_of
from ..widgets.bars import Line
from ..widgets.meter import KINDS, Kind, Level, Meters
from ..widgets.paint import STYLES, Painted
from ..widgets.slider import Slider
from ..widgets.sparks import LEVELS

LOW_LEVELS = LEVELS[:-1]
"""The highest would touch the line above."""

PLAYED = 60
PLAY_EVERY_S = 0.25
LOOK_EVERY_S = 10.0
MEASURED_AGENTS = 100
"""On more machines than that, what is really used is not summed up."""


class Title(Line):
    """What the plot shows."""

    text = ""

    def say(self, text: str) -> None:
        """Show a text."""
        self.text = text
        self.refresh()

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        return [(f" {self.text}", "dim")], []


class Rows(Painted):
    """Lines of little bars on the time axis of the plot above, each with its value at the moment."""

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES
    stale: reactive[bool] = reactive(False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[Row] = ()
        self.stack = Stack()
        self.since, self.until, self.moment, self.marked = 0.0, 1.0, 0.0, False

    def show(self, rows: Sequence[Row], stack: Stack, since: float, until: float, moment: float, marked: bool) -> None:
        """Draw these; ``stack`` has their times."""
        before = (self.rows, self.stack, self.since, self.until, self.moment, self.marked)
        if before != (rows, stack, since, until, moment, marked):
            self.rows, self.stack = rows, stack
            self.since, self.until, self.moment, self.marked = since, until, moment, marked
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Name, bars, value."""
        base, width = self.paint("base"), self.size.width
        fade = self.paint("free") if self.stale else self.paint("")
        if y >= len(self.rows):
            return Strip.blank(width, base)
        row = self.rows[y]
        span = Span(self.since, self.until, columns_of(width))
        cells = _bars(row, self.stack, span)
        at = span.column(self.moment)
        parts = [(fit(row.name, GUTTER - 1, right=True) + " ", "dim"), (cells, row.style)]
        if self.marked and 0 <= at < len(cells):
            parts[1:] = [(cells[:at], row.style), ("│", "accent"), (cells[at + 1 :], row.style)]
        parts.append((fit(row.text, MARGIN - 2, right=True), ""))
        segments = [Segment(text, base + self.paint(name) + fade) for text, name in parts]
        return Strip(segments).extend_cell_length(width, base).crop(0, width)


def _bars(row: Row, stack: Stack, span: Span) -> str:
    """A little bar for each column: the most of the points in it."""
    most = _most(row.values, stack, span)
    scale = most if row.like is None else _most(row.like, stack, span)
    top = max((value for value in scale if value is not None), default=0.0)
    return "".join(" " if value is None else _level(value, top) for value in most)


def _most(values: Sequence[float | None], stack: Stack, span: Span) -> list[float | None]:
    most: list[float | None] = [None] * span.columns
    for column in range(span.columns):
        index = stack.index(span.time(column))
        most[column] = None if index is None else values[index]
    for time, value in zip(stack.times, values, strict=True):
        column = span.column(time)
        if 0 <= column < span.columns and value is not None:
            most[column] = max(value, most[column] or 0.0)
    return most


def _level(value: float, top: float) -> str:
    return LOW_LEVELS[min(len(LOW_LEVELS) - 1, int(value / top * len(LOW_LEVELS)))] if top > 0 else LOW_LEVELS[0]


class Happened(Painted):
    """The latest events, newest last."""

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: list[tuple[float, str, str]] = []

    def render_line(self, y: int) -> Strip:
        """One event."""
        page = self.screen
        assert isinstance(page, ClusterPage)
        base, width = self.paint("base"), self.size.width
        if y == 0:
            self.shown = page.happened(self.size.height)
        shown = self.shown
        if not shown and y == 0:
            return Strip([Segment(fit(f" {page.silence()}", width),
                                  base + self.paint("dim"))])  # fmt: skip
        if y >= len(shown):
            return Strip.blank(width, base)
        time, text, name = shown[y]
        clock = datetime.fromtimestamp(time).strftime(" %H:%M:%S  ")
        return Strip([Segment(clock, base + self.paint("dim")),
                      Segment(fit(text, width - len(clock)), base + self.paint(name))])  # fmt: skip


class ClusterPage(Page):
    """See the module's text."""

    crumb = "cluster"
    every_s = 2.0
    DEFAULT_CSS = """
    ClusterPage #levels { height: auto; margin-top: 1; }
    ClusterPage #plot { height: 2fr; min-height: 5; }
    ClusterPage #title { margin-top: 1; }
    ClusterPage #rows { height: 6; }
    ClusterPage #events { height: 1fr; min-height: 2; max-height: 14; margin-top: 1; }
    ClusterPage.-low #levels, ClusterPage.-low #title, ClusterPage.-low #events { margin-top: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "resource(1)", "resource", id="cluster.resource", tooltip="Cpus, memory, gpus in turn."),
        Binding("shift+tab", "resource(-1)", "resource back", show=False, id="cluster.resource_back"),
        Binding("plus,equals_sign", "span(-1)", "zoom", id="cluster.zoom_in", key_display="+-", tooltip="Less time."),
        Binding("minus,underscore", "span(1)", "zoom out", show=False, id="cluster.zoom_out", tooltip="More time."),
        Binding("comma", "step(-60)", "minute", id="cluster.minute_back", key_display=",.",
                tooltip="Look at a minute earlier."),
        Binding("full_stop", "step(60)", "minute on", show=False, id="cluster.minute_on", tooltip="A minute later."),
        Binding("less_than_sign,left,h", "step(-3600)", "hour", id="cluster.hour_back", key_display="<>",
                tooltip="Look at an hour earlier."),
        Binding("greater_than_sign,right,l", "step(3600)", "hour on", show=False, id="cluster.hour_on",
                tooltip="An hour later."),
        Binding("space", "play", "play", id="cluster.play", tooltip="Let the past pass, a minute each second."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.resource = "cpus"
        self.span = SPANS_S.index(86_400)
        self.found = Aggregates(60.0, ())
        self.status: Status | None = None
        self.measured: tuple[float, float] | None = None
        self.playing = False
        self._stack = Stack()
        self._asked: object = None
        self._newest: object = None

    def content(self) -> ComposeResult:
        """Levels, plot, rows, slider, events."""
        yield Meters(below=True, id="levels")
        yield Title(id="title")
        for widget in (AreaPlot(id="plot"), Rows(id="rows"), Slider(id="slider"), Happened(id="events")):
            widget.add_class("ages")
            yield widget

    def on_mount(self) -> None:
        """The window moves on with the time."""
        self.call_after_refresh(self.draw)
        self.set_interval(LOOK_EVERY_S, self._look)
        self.set_interval(PLAY_EVERY_S, self._tick)

    def on_resize(self) -> None:
        """A low screen has no blank lines; another width has other points."""
        self.set_class(self.size.height < 32, "-low")
        self.reload(now=True)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def moment(self) -> float:
        """What is looked at."""
        return self.session.now() if self.retz.moment is None else self.retz.moment

    @property
    def window(self) -> tuple[float, float]:
        """(since, until) of the plots: up to now, or if the moment is before that, around it."""
        span, now = SPANS_S[self.span], self.session.now()
        until = now // MINUTE_S * MINUTE_S + MINUTE_S
        if self.retz.moment is not None and self.retz.moment < until - span:
            # In steps, so that the plots stand still while the moment moves through them.
            until = min(until, (self.retz.moment // (span / 2) + 2) * (span / 2))
        return until - span, until

    def _look(self) -> None:
        if self.seen and self.session.link == "live":
            self.reload()

    def _tick(self) -> None:
        newest = self.session.recent[-1] if self.session.recent else None
        if newest is not self._newest and self.seen:
            self._newest = newest
            self.query_one(Happened).refresh()
        if self.retz.moment is None:
            self.playing = False
        if self.playing and self.retz.moment is not None:
            self._go(self.retz.moment + PLAYED * PLAY_EVERY_S)

    def _go(self, moment: float | None) -> None:
        """Look at a moment; one that has not passed yet is now."""
        if moment is not None and moment >= self.session.now():
            moment = None
        self.retz.rewind(moment)
        if self.seen:
            self.draw()

    def action_step(self, seconds: int) -> None:
        """Earlier or later, at whole minutes."""
        self._go((self.moment // MINUTE_S) * MINUTE_S + seconds)

    def action_play(self) -> None:
        """Play, or stop; from the left edge if nothing is rewound."""
        self.playing = not self.playing
        if self.playing and self.retz.moment is None:
            self._go(self.window[0])
        self.draw()

    def on_slider_moved(self, event: Slider.Moved) -> None:
        """Dragged."""
        event.stop()
        self._go(event.moment)

    def commands(self) -> list[Command]:
        """What can be typed here."""
        return [Command("at", "look at a time of today or a date and time", self._type, ("rewind",), "TIME")]

    def _type(self, text: str) -> None:
        try:
            moment = moment_of(text.strip(), self.session.now())
        except ValueError:
            shown = printable(text)
            self.notify(f"{shown!r} is no time: 09:41 or 2026-11-20 09:41", severity="warning", markup=False)
        else:
            self._go(moment)

    # -- loading ---------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """How things stand, and the recorded minutes if others are wanted."""
        client = self.session.client
        self.status = await client.status()
        since, until = self.window
        step = step_of(until - since, columns_of(self.size.width))
        if self._asked != (since, until, step):
            self.found = await client.aggregates(_iso(since), _iso(until), step)
            self._asked = (since, until, step)
            self._stack = stack_of(self.found, self.resource)
        self.draw()
        if self.retz.moment is None:
            await self._measure(self.status)
            self.draw()

    async def _measure(self, status: Status) -> None:
        """What is really used, where somebody measures."""
        measured = None
        if 0 < status.agents <= MEASURED_AGENTS:
            known = [each.measured for each in await self.session.client.agents(usage=True) if each.measured]
            if known:
                measured = sum(each.cpus for each in known), sum(each.mem for each in known)
        self.measured = measured

    def happened(self, most: int) -> list[tuple[float, str, str]]:
        """(time, text, style) of the latest events; while the past is looked at, those until then."""
        until, found = self.retz.moment, list[tuple[float, str, str]]()
        for time, event in reversed(self.session.recent):
            text = told(event, self.session.host) if until is None or time <= until else None
            if text is not None:
                found.append((time, *text))
            if len(found) >= most:
                break
        return found[::-1]

    def silence(self) -> str:
        """What stands in place of events."""
        if self.retz.moment is not None:
            return "what happened then was not seen by this window: 1 shows the jobs of that time"
        return "nothing has happened yet since this window was opened"

    # -- showing ---------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """The time that is shown."""
        return f"last {SPAN_NAMES[self.span]}" + ("   ▶ ×60" if self.playing else "")

    def at(self) -> Point | None:
        """The point of the moment, while the past is looked at."""
        index = self._stack.index(self.moment)
        return None if index is None or self.retz.moment is None else self.found.points[index]

    def draw(self) -> None:
        """Show what is known."""
        if not self.query(Happened):
            return  # the window was closed meanwhile
        since, until = self.window
        moment, marked = self.moment, self.retz.moment is not None
        index = self._stack.index(moment)
        if index is None and not marked and self.found.points:
            index = len(self.found.points) - 1  # the present minute is not over
        plot = self.query_one(AreaPlot)
        plot.amount = RESOURCES[self.resource][2]
        read = self._stack.times[index] if index is not None else moment
        at = moment if marked else read
        plot.show(self._stack, since, until, at, marked)
        self.query_one(Rows).show(rows_of(self.found, index, self._present()), self._stack, since, until, at, marked)
        self.query_one(Slider).show(since, until, self.session.now(), self.retz.moment)
        self.query_one("#title", Title).say(f"{RESOURCES[self.resource][0]} held by user, last {SPAN_NAMES[self.span]}")
        self.query_one(Meters).show(self._levels())
        self.query_one(Happened).refresh()

    def _present(self) -> tuple[int, int] | None:
        """Jobs that are queued and running, while the present is looked at."""
        if self.status is None or self.retz.moment is not None:
            return None
        return self.status.queued, self.status.starting + self.status.started

    def _levels(self) -> list[tuple[Kind, Level]]:
        at = self.at()
        if self.retz.moment is None and self.status is not None:
            total, held = self.status.total, self.status.used
        else:
            total, held = (at.total, at.used) if at is not None else (Resources(), Resources())
        used = self.measured if self.retz.moment is None else None
        known = {"cpus": used[0], "mem": used[1]} if used is not None else {}
        return [
            (KINDS[name], Level(value_of(total, name), calm(value_of(held, name)), known.get(name)))
            for name in ("cpus", "mem", "gpus", "disk")
        ]

    def action_resource(self, by: int) -> None:
        """Another resource."""
        names = [name for name in RESOURCES if name != "gpus" or self._has_gpus()]
        self.resource = names[(names.index(self.resource) + by) % len(names)] if self.resource in names else names[0]
        self._stack = stack_of(self.found, self.resource)
        self.draw()

    def _has_gpus(self) -> bool:
        return any(point.total.gpus for point in self.found.points) or bool(self.status and self.status.total.gpus)

    def action_span(self, by: int) -> None:
        """More or less time."""
        self.span = min(max(self.span + by, 0), len(SPANS_S) - 1)
        self.reload(now=True)


def moment_of(text: str, now: float) -> float:
    """``09:41`` (the latest one that has passed), ``2026-11-20 09:41``, ``2026-11-20T09:41:00Z``.

    Raises:
        ValueError: it is none of these.
    """
    try:
        clock = datetime.strptime(text, "%H:%M" if text.count(":") == 1 else "%H:%M:%S")
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
    day = datetime.fromtimestamp(now)
    moment = day.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0).timestamp()
    return moment if moment <= now else moment - 86_400


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
