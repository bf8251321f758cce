"""What a job uses against what it asked for, as a step plot."""

from __future__ import annotations

from typing import ClassVar, Literal

from rich.segment import Segment
from textual.strip import Strip

from estimator.steps import Line, Series, render
from retz.client import types

from ..text import amount, fit, memory, width_of
from .paint import STYLES, Painted

Kind = Literal["cpus", "memory"]
LOOKS = {"thin": "used", "dashed": "fixed", "axis": "dim", "label": "dim"}


class UsagePlot(Painted):
    """One of the two amounts that are measured over time."""

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    def __init__(self, kind: Kind, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.kind = kind
        self._series: types.Series | None = None
        self._asked = 0.0
        self._drawn: list[Line] = []
        self._drawn_for: object = None

    def show(self, series: types.Series | None, asked: float) -> None:
        """Show this; None is that nothing was measured."""
        self._series, self._asked = series, asked
        self._drawn_for = None
        self.refresh()

    @property
    def values(self) -> list[float]:
        """The points."""
        column = 0 if self.kind == "cpus" else 1
        return [] if self._series is None else [point[column] for point in self._series.series]

    def title(self) -> tuple[str, str]:
        """The latest value against what was asked for; how much it was at most."""
        text = amount if self.kind == "cpus" else memory
        asked = f"of {text(self._asked)}"
        if not self.values:
            return asked, ""
        highest = max([*self.values, self._series.max_rss_mb if self._series and self.kind == "memory" else 0.0])
        return f"{text(self.values[-1])} {asked}", f"most {text(highest)}"

    def render_line(self, y: int) -> Strip:
        """The title, then the plot."""
        width, base = self.size.width, self.paint("base")
        if y == 0:
            return self._head(width)
        lines = self._lines(width, self.size.height - 1)
        line = lines[y - 1] if y <= len(lines) else []
        parts = [(" ", ""), *line]
        segments = [Segment(text, base + self.paint(LOOKS.get(style, ""))) for text, style in parts]
        taken = sum(segment.cell_length for segment in segments)
        return Strip([*segments, Segment(" " * max(0, width - taken), base)]).crop(0, width)

    def _head(self, width: int) -> Strip:
        now, most = self.title()
        base = self.paint("base")
        name = f" {self.kind} "
        right = f" {most} " if most else " "
        middle = fit(now, max(0, width - width_of(name) - width_of(right)))
        parts = ((name, "bold"), (middle, ""), (right, "dim"))
        return Strip([Segment(text, base + self.paint(style)) for text, style in parts]).crop(0, width)

    def _lines(self, width: int, height: int) -> list[Line]:
        if height < 1 or width < 8:
            return []
        if self._drawn_for != (width, height):
            self._drawn, self._drawn_for = self._plot(width, height), (width, height)
        return self._drawn

    def _plot(self, width: int, height: int) -> list[Line]:
        values = self.values
        if not values or self._series is None:
            return [[("nothing measured (yet)", "axis")]]
        step = self._series.interval_s or 1.0
        points = [(index * step, value) for index, value in enumerate(values)]
        end = len(values) * step
        used = Series("used", [*points, (end, values[-1])], "thin")
        asked = Series("asked for", [(0.0, self._asked), (end, self._asked)], "dashed")
        unit = "MB" if self.kind == "memory" else "cpus"
        return render([asked, used], width=width - 3, height=height, x_range=(0.0, end), y_unit=unit)
