"""A table that draws only what is on the screen, from a window that somebody else keeps filled.

Textual's own ``DataTable`` keeps and measures every row; with 100 000 rows its first paint takes 13 s and each changed
cell a quarter of a second. This one asks for the rows around the screen (:class:`Table.Wanted`) and never knows more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..text import fit, width_of
from .paint import STYLES, Painted

Row = TypeVar("Row")
Cell = tuple[str, str]
"""Text (already printable) and the name of a style."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        key: Its name for configuration and for showing and hiding.
        cell: Makes the cell of a row.
        width: Cells; a flexible column gets at least so many.
        right: Right-aligned: numbers.
        flexible: Shares what is left of the width with the other flexible ones.
        most: Cells that the column may grow to before the flexible ones share the rest; 0 does not grow.
        drop: Columns leave a narrow screen in the order of this rank, 1 first; 0 stays.
        sort: The name by which the server sorts; empty if it cannot.
        parts: Draws a cell of several styles instead, exactly as wide as it is told.
    """

    key: str
    title: str
    cell: Callable[[Row], Cell]
    width: int
    right: bool = False
    flexible: bool = False
    most: int = 0
    drop: int = 0
    sort: str = ""
    parts: Callable[[Row, int], list[Cell]] | None = None


class Table(Painted, ScrollView, Generic[Row], can_focus=True):
    """See the module's text.

    Attributes:
        cursor: Index of the selected row.
        total: Number of rows there are.
        marked: Keys of the rows that the user marked.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "down", show=False, id="table.down"),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False, id="table.page_up"),
        Binding("pagedown,ctrl+f", "page(1)", "page down", show=False, id="table.page_down"),
        Binding("home,g", "first", "first", show=False, id="table.first"),
        Binding("end,G", "last", "last", show=False, id="table.last"),
        Binding("enter", "open", "open", id="table.open"),
        Binding("space", "mark", "mark", show=False, id="table.mark"),
    ]

    cursor: reactive[int] = reactive(0, repaint=False)
    stale: reactive[bool] = reactive(False)

    class Wanted(Message):
        """Rows ``first`` to ``first + count`` are about to be shown."""

        def __init__(self, first: int, count: int) -> None:
            super().__init__()
            self.first = first
            self.count = count

    class Moved(Message):
        """The selected row changed."""

    class Opened(Message):
        """The user wants to see the selected row."""

    class HeadClicked(Message):
        """The head of a column was clicked."""

        def __init__(self, column: Column[Any]) -> None:
            super().__init__()
            self.column = column

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        key: Callable[[Row], Hashable],
        *,
        id: str | None = None,
        empty: str = "nothing here",
    ) -> None:
        super().__init__(id=id)
        self.columns = list(columns)
        self.hidden: set[str] = set()
        self.sorted_by = ""
        self.empty = empty
        self.total = 0
        self.marked: dict[Hashable, Row] = {}
        self._key = key
        self._first = 0
        self._rows: Sequence[Row] = ()
        self._layout: list[tuple[Column[Row], int]] = []
        self._followed: Hashable = None
        self._drawn: dict[int, Strip] = {}

    # -- content -----------------------------------------------------------------------------------------------

    def show(self, first: int, rows: Sequence[Row], total: int) -> None:
        """Show this window of the list. The cursor stays on its row while that is in the window."""
        self._first, self._rows = first, rows
        resized = total != self.total
        self.total = total
        self._follow()
        if resized:
            self.virtual_size = Size(0, total + 1)
        self.cursor = min(self.cursor, max(0, total - 1))
        self.redraw()

    def row(self, index: int) -> Row | None:
        """The row of that index, if it is in the window."""
        place = index - self._first
        return self._rows[place] if 0 <= place < len(self._rows) else None

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.row(self.cursor)

    @property
    def chosen(self) -> list[Row]:
        """The marked rows, or else the selected one."""
        if self.marked:
            return list(self.marked.values())
        return [] if self.selected is None else [self.selected]

    def wanted(self) -> tuple[int, int]:
        """(first, count) of the rows to have: the screen's, and a screen on either side."""
        height = max(1, self._body_height())
        first = max(0, int(self.scroll_target_y) - height)
        return first, 3 * height

    def _follow(self) -> None:
        """Keep the cursor on its row when rows above it come or go, except at the top, where news is."""
        if self.cursor == 0 or self._followed is None:
            return
        current = self.row(self.cursor)
        if current is not None and self._key(current) == self._followed:
            return
        for place, row in enumerate(self._rows):
            if self._key(row) == self._followed:
                moved = self._first + place - self.cursor
                self.set_reactive(Table.cursor, self._first + place)
                self.scroll_to(y=max(0, self.scroll_target_y + moved), animate=False, force=True)
                return

    def restart(self) -> None:
        """Another list follows: begin at its top."""
        self._followed = None
        self.cursor = 0
        self.scroll_to(y=0, animate=False, force=True)

    # -- drawing -----------------------------------------------------------------------------------------------

    def _body_height(self) -> int:
        return int(self.size.height) - 1

    def redraw(self) -> None:
        """Draw what looks different now: over a slow line, a cell that changed costs a cell, not a screen."""
        changed: list[Region] = []
        for y in range(self.size.height):
            changed += _differences(y, self._drawn.get(y), self._line_at(y))
        if changed:
            self.refresh(*changed)

    def lay_out(self) -> None:
        """Lay out the columns anew: the width, or what is hidden, changed."""
        width = self.size.width - 1
        shown = [column for column in self.columns if column.key not in self.hidden]
        while len(shown) > 1 and sum(column.width + 1 for column in shown) > width:
            droppable = [column for column in shown if column.drop]
            if not droppable:
                break
            shown.remove(min(droppable, key=lambda column: column.drop))
        spare = max(0, width - sum(column.width + 1 for column in shown))
        grown: dict[str, int] = {}
        for column in shown:
            if column.most:
                grown[column.key] = min(spare, column.most - column.width)
                spare -= grown[column.key]
        flexible = sum(column.flexible for column in shown)
        self._layout = []
        self._drawn.clear()
        for column in shown:
            extra = grown.get(column.key, 0)
            if column.flexible:
                extra = spare // flexible
                spare -= extra
                flexible -= 1
            self._layout.append((column, column.width + extra))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        strip = self._drawn[y] = self._line_at(y)
        # Cells of one style as one: half the bytes, for a terminal far away.
        return strip.simplify()

    def _line_at(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._header(width)
        index = int(self.scroll_offset.y) + y - 1
        if index >= self.total:
            text = f" {self.empty}" if self.total == 0 and y == 1 else ""
            return self._strip([(fit(text, width), "dim")], width, "")
        row = self.row(index)
        under = "cursor" if index == self.cursor else ""
        if row is None:
            return self._strip([(fit(" ·", width), "dim")], width, under)
        return self._line(row, width, under)

    def _header(self, width: int) -> Strip:
        cells: list[Cell] = [(" ", "header")]
        for column, room in self._layout:
            title = column.title
            if column.sort and column.sort == self.sorted_by.removeprefix("-"):
                title += "↓" if self.sorted_by.startswith("-") else "↑"
            cells.append((fit(title, room, column.right) + " ", "header"))
        return self._strip(cells, width, "header")

    def _line(self, row: Row, width: int, under: str) -> Strip:
        marked = self._key(row) in self.marked
        cells: list[Cell] = [("◆" if marked else "▌" if under else " ", "accent")]
        for column, room in self._layout:
            if column.parts is not None:
                cells += [*column.parts(row, room), (" ", "")]
                continue
            text, style = column.cell(row)
            cells.append((fit(text, room, column.right) + " ", style))
        return self._strip(cells, width, under)

    def _strip(self, cells: list[Cell], width: int, under: str) -> Strip:
        base = self.paint(under) if under else self.paint("base")
        fade = self.paint("dim") if self.stale else None
        segments, taken = [], 0
        for text, name in cells:
            plain = not name or name == under or text.isspace()
            style = base if plain else base + self.paint(name)
            segments.append(Segment(text, style + fade if fade else style))
            taken += width_of(text)
        if taken < width:
            segments.append(Segment(" " * (width - taken), base))
        return Strip(segments).crop(0, width)

    # -- moving ------------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Ask for what came into sight."""
        super().watch_scroll_y(old, new)
        if round(old) != round(new):
            self.post_message(self.Wanted(*self.wanted()))

    def validate_cursor(self, index: int) -> int:
        """Within the list."""
        return max(0, min(index, max(0, self.total - 1)))

    def watch_cursor(self, old: int, new: int) -> None:
        """Keep it on the screen."""
        row = self.row(new)
        self._followed = None if row is None else self._key(row)
        self._draw_line(old)
        self._draw_line(new)
        top, height = round(self.scroll_target_y), self._body_height()
        if new < top:
            self.scroll_to(y=new, animate=False, force=True)
        elif new >= top + height:
            self.scroll_to(y=new - height + 1, animate=False, force=True)
        self.post_message(self.Moved())

    def _draw_line(self, index: int) -> None:
        self.refresh(Region(0, index - int(self.scroll_offset.y) + 1, self.size.width, 1))

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """Move the cursor by screens."""
        self.cursor += by * max(1, self._body_height() - 1)

    def action_first(self) -> None:
        """To the first row."""
        self.cursor = 0

    def action_last(self) -> None:
        """To the last row."""
        self.cursor = self.total - 1

    def action_mark(self) -> None:
        """Mark the row, or take its mark away, and go on to the next."""
        row = self.selected
        if row is not None:
            key = self._key(row)
            if self.marked.pop(key, None) is None:
                self.marked[key] = row
            self.action_move(1)
            self.refresh()
            self.post_message(self.Moved())

    def mark_shown(self) -> None:
        """Mark every row on the screen."""
        top = round(self.scroll_target_y)
        for index in range(top, top + self._body_height()):
            row = self.row(index)
            if row is not None:
                self.marked[self._key(row)] = row
        self.refresh()
        self.post_message(self.Moved())

    def action_open(self) -> None:
        """Open the row."""
        if self.selected is not None:
            self.post_message(self.Opened())

    def unmark(self) -> bool:
        """Take all marks away; whether there were any."""
        had = bool(self.marked)
        self.marked.clear()
        self.refresh()
        return had

    def on_resize(self, _event: events.Resize) -> None:
        """The size changed."""
        self.lay_out()
        self.post_message(self.Wanted(*self.wanted()))

    def on_click(self, event: events.Click) -> None:
        """Select a row; twice opens it. The head of a column tells the page."""
        if event.y == 0:
            column = self._column_at(event.x)
            if column is not None:
                self.post_message(self.HeadClicked(column))
        elif int(self.scroll_offset.y) + event.y <= self.total:
            self.cursor = int(self.scroll_offset.y) + event.y - 1
            if event.chain >= 2:
                self.action_open()

    def _column_at(self, x: int) -> Column[Row] | None:
        left = 1
        for column, room in self._layout:
            if left <= x < left + room + 1:
                return column
            left += room + 1
        return None

    def state(self) -> dict[str, Any]:
        """For tests: what it shows."""
        return {"first": self._first, "rows": len(self._rows), "total": self.total, "cursor": self.cursor}


def _differences(y: int, old: Strip | None, new: Strip) -> list[Region]:
    """The parts of a line that changed."""
    if old is None or [segment.cell_length for segment in old] != [segment.cell_length for segment in new]:
        return [Region(0, y, new.cell_length, 1)]
    changed, x = [], 0
    for before, after in zip(old, new, strict=True):
        if before != after:
            changed.append(Region(x, y, after.cell_length, 1))
        x += after.cell_length
    return changed
