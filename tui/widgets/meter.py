"""Bars that carry their number: used ▓, held but idle ▒, held by others ░, free ·. Pure, but for the line of bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.segment import Segment
from textual.strip import Strip

from ..text import amount, count, fit, memory, width_of
from .paint import STYLES, Painted
from .table import Cell

USED, HELD, OTHERS, FREE = "▓", "▒", "░", "·"
SHORTEST = 3
"""A bar of fewer cells says nothing: the number stands alone."""
TOGETHER = 20
"""Cells that each of several bars in one line takes at least; the last ones go where there is less room."""


class Level(NamedTuple):
    """How much of something is held, and how much of that is really used.

    Attributes:
        used: None where nobody measures.
        others: Held by others who share the cluster.
    """

    total: float
    held: float = 0.0
    used: float | None = None
    others: float = 0.0


class Kind(NamedTuple):
    """How a resource is shown.

    Attributes:
        number: Cells that ``held/total`` takes.
        pair: Makes ``held/total``.
    """

    name: str
    title: str
    text: Callable[[float], str]
    number: int
    pair: Callable[[float, float], str]


def _whole(value: float) -> str:
    return str(int(value))


def _cpus_pair(held: float, total: float) -> str:
    return f"{amount(held)}/{amount(total)}"


def _whole_pair(held: float, total: float) -> str:
    return f"{_whole(held)}/{_whole(total)}"


def bytes_pair(held: float, total: float) -> str:
    """Two amounts of MiB in the unit of the second: ``64.5/512G``."""
    unit, factor = next((pair for pair in (("T", 1 << 20), ("G", 1 << 10)) if total >= pair[1]), ("M", 1))
    first, second = (_three_digits(value / factor) for value in (held, total))
    return f"{first}/{second}{unit}"


def _three_digits(value: float) -> str:
    return "0" if value == 0 else f"{value:.1f}" if value < 99.95 and value != int(value) else f"{value:.0f}"


KINDS = {
    "cpus": Kind("cpus", "cpus", amount, 9, _cpus_pair),
    "mem": Kind("mem", "memory", memory, 10, bytes_pair),
    "gpus": Kind("gpus", "gpus", _whole, 5, _whole_pair),
    "disk": Kind("disk", "disk", memory, 10, bytes_pair),
    "ports": Kind("ports", "ports", _whole, 9, _whole_pair),
}


def cells(width: int, level: Level) -> tuple[int, int, int]:
    """Cells that are used, held but idle, and free; together ``width``.

    What is held shows at least one cell, and a bar looks full only if all is held.
    """
    if level.total <= 0 or width <= 0:
        return 0, 0, max(0, width)
    held = _share(width, level.held / level.total)
    used = 0
    if level.used is not None and level.held > 0 and level.used > 0:
        used = min(held, round(width * min(1.0, level.used / level.total)))
    return used, held - used, width - held


def _share(width: int, part: float) -> int:
    if part <= 0:
        return 0
    if part >= 1:
        return width
    return max(1, min(width - 1, round(width * part))) if width > 1 else 1


def bar(width: int, level: Level) -> list[Cell]:
    """The bar alone."""
    used, held, free = cells(width, level)
    others = min(free, _share(width, level.others / level.total)) if level.total > 0 else 0
    parts = (
        (USED * used, "used"),
        (HELD * held, "allocated"),
        (OTHERS * others, "dim"),
        (FREE * (free - others), "free"),
    )
    return [part for part in parts if part[0]]


def meter(width: int, kind: Kind, level: Level) -> list[Cell]:
    """Bar and number, ``▓▓▒▒····  12/16``, exactly as wide as said; the number alone where there is no room."""
    if level.total <= 0:
        return [(fit("–", width, right=True), "dim")]
    number = kind.pair(level.held, level.total)
    room = width - kind.number - 1
    if room < SHORTEST:
        return [(fit(number, width, right=True), "")]
    return [*bar(room, level), (fit(number, width - room, right=True), "")]


def percent(part: float, whole: float) -> str:
    """``75%`` in four cells."""
    return f"{100 * part / whole:3.0f}%" if whole > 0 else "   –"


class Meters(Painted):
    """Bars side by side, each with name and share: ``cpus ▓▓▒▒···  75%``. Those without any are left out.

    Args:
        below: One to a line with amounts in words instead.
    """

    COMPONENT_CLASSES = STYLES

    def __init__(self, *, below: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._below = below
        self._levels: list[tuple[Kind, Level]] = []

    def show(self, levels: Sequence[tuple[Kind, Level]]) -> None:
        """Show these."""
        present = [pair for pair in levels if pair[1].total > 0 or pair[1].held > 0]
        if present != self._levels:
            lines = len(present) != len(self._levels)
            self._levels = present
            self.refresh(layout=lines and self._below)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """A line for each, or one for all."""
        return max(1, len(self._levels)) if self._below else 1

    def render_line(self, y: int) -> Strip:
        """One line."""
        width = self.size.width
        parts = self._row(y, width) if self._below else self._together(width)
        base = self.paint("base")
        taken = sum(width_of(text) for text, _ in parts)
        parts.append((" " * max(0, width - taken), ""))
        return Strip([Segment(text, base + self.paint(style)) for text, style in parts]).crop(0, width)

    def _together(self, width: int) -> list[Cell]:
        """All in one line, equally wide; at most 36 cells each, for the eye compares them."""
        levels = self._levels[: max(1, (width - 1) // TOGETHER)]
        if not levels:
            return []
        room = min(36, (width - 1) // len(levels))
        parts: list[Cell] = [(" ", "")]
        for kind, level in levels:
            length = room - width_of(kind.title) - 8
            parts.append((f"{kind.title} ", "dim"))
            parts += bar(length, level) if length >= SHORTEST else []
            parts.append((f" {percent(level.held, level.total)}  ", ""))
        return parts

    def _row(self, y: int, width: int) -> list[Cell]:
        if y >= len(self._levels):
            return []
        kind, level = self._levels[y]
        words = in_words(kind, level)
        longest = max(WORDS, *(width_of(in_words(*each)) for each in self._levels))
        length = max(SHORTEST, min(48, width - longest - 11))
        return [(f" {fit(kind.title, 7)} ", "dim"), *bar(length, level), (f"  {words}", "")]


WORDS = 46
"""Cells of the longest of them, unless others hold something too."""


def in_words(kind: Kind, level: Level) -> str:
    """``12 of 16 held  4 free  7.1 used  2 others'``, the numbers below each other where this stands in lines."""

    def right(value: float) -> str:
        return fit(kind.text(value), 6, right=True)

    if level.total <= 0:
        return f"{right(level.held)} held"
    free = max(0.0, level.total - level.held - level.others)
    used = "" if level.used is None else f" {right(level.used)} used"
    others = f" {right(level.others)} others'" if level.others else ""
    return f"{right(level.held)} of {right(level.total)} held {right(free)} free{used}{others}"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 agent``, ``1 204 agents``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
