"""Names and values, one below the other, folded to the width; scrolls where there is no room."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..logfile import folded
from ..text import fit, printable, width_of
from .paint import STYLES, Painted

Fact = tuple[str, str]
NAMES = 12
LONGEST = 20_000
"""Characters of a value: a command may have a megabyte."""


class Facts(Painted, ScrollView, can_focus=True):
    """See the module's text."""

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "up", show=False, id="facts.up"),
        Binding("down,j", "scroll_by(1)", "down", show=False, id="facts.down"),
        Binding("pageup,ctrl+b", "scroll_by(-10)", "page up", show=False, id="facts.page_up"),
        Binding("pagedown,ctrl+f,space", "scroll_by(10)", "page down", show=False, id="facts.page_down"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._facts: Sequence[Fact] = ()
        self._lines: list[Fact] = []

    def show(self, facts: Sequence[Fact]) -> None:
        """Show these."""
        if facts != self._facts:
            self._facts = facts
            self._fold()

    def _fold(self) -> None:
        width = max(8, self.size.width - NAMES - 3)
        self._lines = []
        for name, value in self._facts:
            rows = [row for line in value[:LONGEST].split("\n") for row in _rows(printable(line), width)]
            self._lines += [(name if index == 0 else "", row) for index, row in enumerate(rows)]
        self.virtual_size = Size(0, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line."""
        width, base = self.size.width, self.paint("base")
        index = y + int(self.scroll_offset.y)
        name, value = self._lines[index] if index < len(self._lines) else ("", "")
        blank = " " * max(0, width - NAMES - 2 - width_of(value))
        parts = ((f" {fit(name, NAMES)} ", "dim"), (value + blank, ""))
        return Strip([Segment(text, base + self.paint(style)) for text, style in parts]).crop(0, width)

    def action_scroll_by(self, by: int) -> None:
        """Move."""
        self.scroll_to(y=self.scroll_target_y + by, animate=False)

    def on_resize(self, _event: events.Resize) -> None:
        """Fold anew."""
        self._fold()


def _rows(text: str, width: int) -> list[str]:
    """Folded between words, where that can be told cheaply."""
    return (textwrap.wrap(text, width, break_on_hyphens=False) or [""]) if text.isascii() else folded(text, width)
