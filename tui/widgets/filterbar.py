"""The line over the queue: what is filtered, what is wrong with that, how the list is sorted, how long it is."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.reactive import reactive
from textual.widgets import Input

from ..filters import HINTS
from ..text import count, printable
from .bars import Line


class _Facts(Line):
    """What stands on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[tuple[str, str]] = []

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        return [], self.facts

    def show(self, facts: list[tuple[str, str]]) -> None:
        """Draw other ones, as wide as they are."""
        if facts != self.facts:
            self.facts = facts
            self.styles.width = sum(len(text) for text, _ in facts)
            self.refresh()


class FilterBar(Horizontal):
    """See the module's text.

    Attributes:
        wrong: What is wrong with what was typed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.leave_filter", "to the list (again: no filter)", id="filter.leave"),
        Binding("down", "screen.leave_filter", "to the list", show=False, id="filter.down"),
    ]
    wrong: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__()
        self._facts: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        """The line and the facts."""
        line = Input(placeholder="/ filter", compact=True, id="filter", select_on_focus=False)
        line.cursor_blink = False
        yield line
        yield _Facts()

    @property
    def input(self) -> Input:
        """Where the filter is typed."""
        return self.query_one(Input)

    def on_descendant_focus(self) -> None:
        """Say what can be typed."""
        room = self.input.size.width - 2
        self.input.placeholder = max((hint for hint in HINTS if len(hint) <= room), key=len, default="")

    def on_descendant_blur(self) -> None:
        """Say how to come here."""
        self.input.placeholder = "/ filter"

    def watch_wrong(self) -> None:
        """Show it instead of the facts."""
        self._show()

    def tell(self, sort: str, total: int, marked: int) -> None:
        """The facts about the list."""
        arrow, noun = "↓" if sort.startswith("-") else "↑", "job " if total == 1 else "jobs"
        self._facts = [(f" {count(marked)} marked ", "accent")] if marked else []
        self._facts += [(f"  by {sort.removeprefix('-')} {arrow}  ", "dim"), (f"{count(total):>7} {noun} ", "")]
        self._show()

    def _show(self) -> None:
        self.query_one(_Facts).show([(f" {printable(self.wrong)} ", "bad")] if self.wrong else self._facts)
