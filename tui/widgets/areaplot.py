"""Amounts over time, stacked: areas of braille dots, each layer with a pattern and a colour of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual.reactive import reactive
from textual.strip import Strip

from estimator.units import amount_ticks, nice_top

from ..text import fit
from .paint import STYLES, Painted

GUTTER, MARGIN = 9, 24
"""Columns for the labels on the left, and for the legend on the right."""

TICK_STEPS_S = (60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000)
_ALL = frozenset((x, y) for x in range(2) for y in range(4))
PATTERNS = (
    _ALL,
    frozenset((x, y) for x, y in _ALL if (x + y) % 2 == 0),
    frozenset((x, y) for x, y in _ALL if y % 2 == 0),
    frozenset((x, y) for x, y in _ALL if x == 0),
    frozenset({(0, 0), (1, 2)}),
)
"""Dots of a cell that a layer fills: every layer is told from its neighbours without any colour."""


class Span(NamedTuple):
    """The time that is shown, epoch seconds, and the columns it is shown in."""

    since: float
    until: float
    columns: int

    def column(self, time: float) -> int:
        """Where a time is; outside of 0 to columns - 1 for a time that is not shown."""
        return int((time - self.since) / (self.until - self.since) * self.columns // 1)

    def time(self, column: float) -> float:
        """The time in the middle of a column."""
        return self.since + (column + 0.5) * (self.until - self.since) / self.columns


def columns_of(width: int) -> int:
    """How many columns of a widget show time."""
    return max(1, width - GUTTER - MARGIN)


def clock_ticks(span: Span) -> list[tuple[int, str]]:
    """(column, label) at round local times."""
    wanted = (span.until - span.since) / max(1, span.columns // 12)
    step = next((each for each in TICK_STEPS_S if each >= wanted), TICK_STEPS_S[-1])
    shift = datetime.fromtimestamp(span.since).astimezone().utcoffset()
    offset = shift.total_seconds() if shift is not None else 0.0
    first = -(-(span.since + offset) // step) * step - offset
    text = "%a %d" if step >= 86_400 else "%H:%M"
    times = [first + index * step for index in range(int((span.until - first) // step) + 1)]
    return [(span.column(time), datetime.fromtimestamp(time).strftime(text)) for time in times]


@dataclass
class Layer:
    """One layer: its name, and an amount for each point of time."""

    name: str
    values: Sequence[float]


@dataclass
class Stack:
    """What is drawn: amounts at ``times``, each of which holds for ``step`` seconds; ``total`` is what there is."""

    times: Sequence[float] = ()
    step: float = 60.0
    layers: Sequence[Layer] = ()
    total: Sequence[float] = ()
    unit: str = ""

    def index(self, time: float) -> int | None:
        """The point that holds at a time; None where nothing was observed."""
        place = bisect_right(self.times, time) - 1
        return place if place >= 0 and time < self.times[place] + self.step else None


class AreaPlot(Painted):
    """See the module's text. The legend on the right tells each layer's pattern, and its amount at the moment.

    Attributes:
        span: The time that is shown; its columns are the widget's own.
        stale: Drawn dim: it is old.
        moment: What the legend reads, and an upright line if ``marked``.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES
    stale: reactive[bool] = reactive(False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.stack = Stack()
        self.since, self.until, self.moment, self.marked = 0.0, 1.0, 0.0, False
        self.amount: Callable[[float], str] = str
        self._cells: list[list[tuple[str, str]]] = []
        self._labels: dict[int, str] = {}
        self._drawn_for: object = None

    def show(self, stack: Stack, since: float, until: float, moment: float, marked: bool) -> None:
        """Draw this."""
        before = (self.stack, self.since, self.until, self.moment, self.marked)
        if before == (stack, since, until, moment, marked):
            return
        if before[:3] != (stack, since, until):
            self._drawn_for = None
        self.stack, self.since, self.until, self.moment, self.marked = stack, since, until, moment, marked
        self.refresh()

    @property
    def span(self) -> Span:
        """The time that is shown in this width."""
        return Span(self.since, self.until, columns_of(self.size.width))

    def top(self) -> float:
        """Where the upright axis ends."""
        sums = [sum(values) for values in zip(*(layer.values for layer in self.stack.layers), strict=True)]
        return nice_top(max([*sums, *self.stack.total], default=0.0), 4, self.stack.unit)

    def render_line(self, y: int) -> Strip:
        """Label, areas, legend."""
        base = self.paint("base")
        if self._drawn_for != self.size:
            self._drawn_for = self.size
            top = self.top()
            self._cells = _areas(self.stack, self.span, self.size.height, top)
            self._labels = _labels(self.size.height, top, self.stack.unit)
        cells = list(self._cells[y]) if y < len(self._cells) else []
        at = self.span.column(self.moment)
        if self.marked and 0 <= at < len(cells):
            cells[at] = ("│", "accent")
        label = self._labels.get(y, "")
        parts = [(fit(label, GUTTER - 1, right=True) + ("┤" if label else "│"), "dim"), *cells, *self._legend(y)]
        fade = self.paint("free") if self.stale else self.paint("")
        segments = [Segment(text, base + self.paint(name) + fade) for text, name in parts]
        return Strip(segments).simplify().extend_cell_length(self.size.width, base).crop(0, self.size.width)

    def _legend(self, y: int) -> list[tuple[str, str]]:
        """Layers from top to bottom as they lie, each with its amount at the moment."""
        layers = list(enumerate(self.stack.layers))[::-1]
        index = self.stack.index(self.moment)
        if y < len(layers):
            number, layer = layers[y]
            text = "–" if index is None else self.amount(layer.values[index])
            return [
                ("  " + sample(number) * 2 + " ", f"layer{number}"),
                (fit(layer.name, MARGIN - 14), ""),
                (fit(text, 8, right=True), "dim"),
            ]
        return []


def _labels(height: int, top: float, unit: str) -> dict[int, str]:
    """Line -> what the upright axis says there."""
    ticks = amount_ticks(0.0, top, max(2, height // 3), unit)
    return {round((height - 1) * (1 - tick.value / top)): tick.label.replace(" ", "") for tick in ticks}


def sample(number: int) -> str:
    """A cell of a layer's pattern."""
    return _glyph(PATTERNS[number % len(PATTERNS)])


def _glyph(dots: frozenset[tuple[int, int]]) -> str:
    codes = {(0, 0): 1, (0, 1): 2, (0, 2): 4, (1, 0): 8, (1, 1): 16, (1, 2): 32, (0, 3): 64, (1, 3): 128}
    return chr(0x2800 + sum(codes[dot] for dot in dots))


def _areas(stack: Stack, span: Span, height: int, top: float) -> list[list[tuple[str, str]]]:
    """Lines of (glyph, style name)."""
    fine = span._replace(columns=span.columns * 2)
    edges = [_edges(stack, stack.index(fine.time(dot)), height * 4, top) for dot in range(fine.columns)]
    return [
        [_cell(edges[2 * column : 2 * column + 2], (height - 1 - row) * 4) for column in range(span.columns)]
        for row in range(height)
    ]


def _edges(stack: Stack, index: int | None, dots: int, top: float) -> tuple[list[int], int]:
    """The upper edge of each layer in dots from below, and that of what there is; -1 where nothing is known."""
    if index is None:
        return [], -1
    edges, height = [], 0.0
    for layer in stack.layers:
        height += layer.values[index]
        edges.append(round(height / top * dots))
    return edges, min(dots, round(stack.total[index] / top * dots)) if stack.total else -1


def _cell(edges: Sequence[tuple[list[int], int]], floor: int) -> tuple[str, str]:
    """The cell over two columns of dots whose lowest dot is ``floor``, styled as the layer with most dots in it."""
    dots: set[tuple[int, int]] = set()
    shares: dict[int, int] = {}
    for x, (layers, total) in enumerate(edges):
        for y in range(4):
            level = floor + 3 - y
            number = bisect_right(layers, level)
            if number < len(layers):
                shares[number] = shares.get(number, 0) + 1
                if (x, y) in PATTERNS[number % len(PATTERNS)]:
                    dots.add((x, y))
            elif level == total - 1:
                dots.add((x, y))
    if not dots:
        return " ", ""
    style = f"layer{max(shares, key=lambda number: shares[number])}" if shares else "free"
    return _glyph(frozenset(dots)), style
