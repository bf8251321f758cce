"""Every GPU as one cell, a line for each machine: who holds it and what it does, 64 of them on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from retz.client.types import Agent, Gpu

from ..states import agent_state
from ..text import fit, printable, width_of
from .meter import FREE, HELD, USED
from .paint import STYLES, Painted
from .table import Cell

WIDEST, NARROWEST = 11, 5
"""Cells of the screen that one GPU takes: a blank, a bar, three digits."""
LABEL_MIN, LABEL_MAX = 6, 14
ASIDE = 16
"""With less room at the right nothing is said there."""
FEW = 4
"""Machines with more GPUs than this stand below each other, never side by side."""
STRANGER = "!"
HOT_C, WARM_C = 90, 80

VIEWS = {"util": "utilisation %", "mem": "memory %", "temp": "temperature °C"}


class Geometry(NamedTuple):
    """How the GPUs lie on the screen.

    Attributes:
        label: Cells for the machine's name.
        cell: Cells for a GPU.
        across: Machines side by side.
        per_line: GPUs of a machine on one line.
        lines: Lines that a machine takes.
        aside: Cells for words at the right.
    """

    label: int
    cell: int
    across: int = 1
    per_line: int = 8
    lines: int = 1
    aside: int = 0

    def row(self, agent: int, gpu: int) -> int:
        """The line of a GPU, counted from the first machine's."""
        return agent // self.across * self.lines + gpu // self.per_line

    def column(self, agent: int, gpu: int) -> int:
        """Its place in that line."""
        return agent % self.across * self.per_line + gpu % self.per_line

    def at(self, row: int, column: int) -> tuple[int, int]:
        """The machine and the GPU of it that a place means."""
        agent = row // self.lines * self.across + column // self.per_line
        return agent, row % self.lines * self.per_line + column % self.per_line

    def slot(self) -> int:
        """Cells that a machine takes in a line."""
        return self.label + self.per_line * self.cell + 1


def geometry(width: int, height: int, label: int, most: int, total: int) -> Geometry:
    """Lay out ``total`` machines of at most ``most`` GPUs each."""
    most = max(1, most)
    lines = -(-most // max(1, (width - label - 1) // NARROWEST))
    per_line = -(-most // lines)
    cell = max(NARROWEST, min(WIDEST, (width - label - 1) // per_line))
    wide = Geometry(label, cell, 1, per_line, lines)
    across = min(total, width // wide.slot()) if most <= FEW and total * lines > height else 1
    if across > 1:
        return wide._replace(across=across)
    aside = width - wide.slot() - 1
    return wide._replace(aside=aside if aside >= ASIDE else 0)


def value_of(gpu: Gpu, view: str) -> float | None:
    """What a view shows of a GPU; per cent or degrees. None without telemetry."""
    if view == "util":
        return gpu.util
    if view == "temp":
        return gpu.temperature_c
    if gpu.mem_used_mb is None or not gpu.mem_mb:
        return None
    return 100 * gpu.mem_used_mb / gpu.mem_mb


def cell_parts(gpu: Gpu, view: str, width: int) -> list[Cell]:
    """Bar and number of a GPU, exactly as wide as said: used ▓, held but idle ▒, free ·, strangers on it !"""
    length = max(1, width - 3)
    value = value_of(gpu, view)
    full = 0 if value is None else max(0, min(length, round(length * value / 100)))
    if value is not None and value > 0:
        full = max(1, full)
    rest, style = (HELD, "allocated") if gpu.held else (FREE, "free")
    if gpu.strangers and not gpu.held:
        bar: list[Cell] = [(STRANGER * length, "warn")]
    else:
        bar = [(USED * full, "used"), (rest * (length - full), style)]
        if gpu.strangers:
            bar = [(USED * min(full, length - 1), "used"), (rest * (length - 1 - full), style), (STRANGER, "warn")]
    number = "" if value is None or (not gpu.held and not value) else f"{value:.0f}"
    return [*(part for part in bar if part[0]), (fit(number, width - length, right=True), _heat(value, view))]


def _heat(value: float | None, view: str) -> str:
    if view != "temp" or value is None or value < WARM_C:
        return ""
    return "bad" if value >= HOT_C else "warn"


class GpuGrid(Painted, ScrollView, can_focus=True):
    """See the module's text. Like the table it knows only the machines around the screen.

    Attributes:
        place: (machine, GPU) under the cursor.
        view: One of :data:`VIEWS`.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1, 0)", "up", show=False, id="grid.up"),
        Binding("down,j", "move(1, 0)", "down", show=False, id="grid.down"),
        Binding("left,h", "step(-1)", "left", show=False, id="grid.left"),
        Binding("right,l", "step(1)", "right", show=False, id="grid.right"),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False, id="grid.page_up"),
        Binding("pagedown,ctrl+f", "page(1)", "page down", show=False, id="grid.page_down"),
        Binding("home,g", "first", "first", show=False, id="grid.first"),
        Binding("end,G", "last", "last", show=False, id="grid.last"),
        Binding("enter", "open", "open job", id="grid.open"),
    ]

    place: reactive[tuple[int, int]] = reactive((0, 0), repaint=False)
    stale: reactive[bool] = reactive(False)

    class Wanted(Message):
        """Other machines came into sight."""

    class Moved(Message):
        """Another GPU is selected."""

    class Opened(Message):
        """The user wants to see the job on the selected GPU."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view = "util"
        self.total = 0
        self.geometry = Geometry(LABEL_MIN, NARROWEST)
        self.empty = "asking …"
        self._first = 0
        self._agents: Sequence[Agent] = ()
        self._aside: dict[str, list[Cell]] = {}
        self._most = 8
        self._label = LABEL_MIN
        self._drawn: dict[int, Strip] = {}

    # -- content -----------------------------------------------------------------------------------------------

    def show(self, first: int, agents: Sequence[Agent], total: int, most: int, aside: dict[str, list[Cell]]) -> None:
        """Show these machines.

        Args:
            first: Index of the first of them among all ``total``.
            most: GPUs of the machine that has most.
            aside: Agent's id -> the words at the right of its line.
        """
        self._first, self._agents, self._aside = first, agents, aside
        self.total, self._most = total, most
        # Never narrower again: names that come into sight must not move the cells.
        self._label = max(self._label, *(min(LABEL_MAX, width_of(_name(agent)) + 4) for agent in agents), LABEL_MIN)
        self.lay_out()
        self.place = self.place
        self.redraw()

    def lay_out(self) -> None:
        """Lay out anew: the size, the machines or their number changed."""
        before = self.geometry
        self.geometry = geometry(self.size.width - 1, self.body, self._label, self._most, self.total)
        rows = self.geometry.row(max(0, self.total - 1), 0) + self.geometry.lines if self.total else 0
        self.virtual_size = Size(0, rows + 1)
        if self.geometry != before:
            self._drawn.clear()
            self.refresh()

    @property
    def body(self) -> int:
        """Lines below the head."""
        return max(1, int(self.size.height) - 1)

    def agent(self, index: int) -> Agent | None:
        """The machine of that index, if it is in the window."""
        at = index - self._first
        return self._agents[at] if 0 <= at < len(self._agents) else None

    @property
    def selected(self) -> tuple[Agent, Gpu] | None:
        """The GPU under the cursor, and its machine."""
        agent = self.agent(self.place[0])
        if agent is None or self.place[1] >= len(agent.gpus):
            return None
        return agent, agent.gpus[self.place[1]]

    def wanted(self) -> tuple[int, int]:
        """(first, count) of the machines to have: the screen's, and a screen on either side."""
        grid = self.geometry
        top = max(0, int(self.scroll_target_y) - self.body)
        first = top // grid.lines * grid.across
        return first, max(1, -(-3 * self.body // grid.lines) * grid.across)

    # -- drawing -----------------------------------------------------------------------------------------------

    def redraw(self) -> None:
        """Draw the lines that look different now."""
        for y in range(self.size.height):
            strip = self._line_at(y)
            if self._drawn.get(y) != strip:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        strip = self._drawn[y] = self._line_at(y)
        return strip

    def _line_at(self, y: int) -> Strip:
        width = int(self.size.width)
        if y == 0:
            return self._strip([(fit(self._head(), width), "header")], width)
        if not self.total:
            return self._strip([(f" {self.empty}" if y == 1 else "", "dim")], width)
        row, grid = int(self.scroll_offset.y) + y - 1, self.geometry
        cells: list[Cell] = []
        for slot in range(grid.across):
            index, gpu = grid.at(row, slot * grid.per_line)
            if index < self.total:
                cells += self._slot(index, gpu)
        return self._strip(cells, width)

    def _head(self) -> str:
        grid = self.geometry
        numbers = "".join(fit(f" {number}", grid.cell) for number in range(grid.per_line))
        slot = fit(" agent", grid.label) + numbers + " "
        return slot * grid.across + f" {VIEWS[self.view]}" * bool(grid.aside)

    def _slot(self, index: int, first: int) -> list[Cell]:
        """A machine's part of a line, from its GPU ``first`` on."""
        grid, agent = self.geometry, self.agent(index)
        if agent is None:
            return [(fit(" ·", grid.slot()), "dim")]
        away = agent.state != "active"
        glyph, style = agent_state(agent.state) if away else ("", "")
        name = f" {glyph} {printable(_name(agent))}" if away else f" {printable(_name(agent))}"
        cells: list[Cell] = [(fit(f"  +{first}" if first else name, grid.label), "dim" if first else style)]
        for number in range(first, first + grid.per_line):
            chosen = (index, number) == self.place
            cells.append(("▌" if chosen else " ", "accent"))
            if number < len(agent.gpus):
                parts = cell_parts(agent.gpus[number], self.view, grid.cell - 1)
                cells += [(text, f"cursor {tone}" if chosen else tone) for text, tone in parts]
            else:
                cells.append((" " * (grid.cell - 1), ""))
        cells.append((" ", ""))
        if grid.aside and first == 0:
            cells += [(" ", ""), *_cut(self._aside.get(agent.id, []), grid.aside)]
        return cells

    def _strip(self, cells: list[Cell], width: int) -> Strip:
        base = self.paint("base")
        fade = self.paint("dim") if self.stale else None
        segments, taken = [], 0
        for text, names in cells:
            style = base
            for name in names.split():
                style = style + self.paint(name)
            segments.append(Segment(text, style + fade if fade else style))
            taken += width_of(text)
        segments.append(Segment(" " * max(0, width - taken), base))
        return Strip(segments).crop(0, width)

    # -- moving ------------------------------------------------------------------------------------------------

    def validate_place(self, place: tuple[int, int]) -> tuple[int, int]:
        """On a GPU that exists, as far as that is known."""
        index = max(0, min(place[0], self.total - 1))
        agent = self.agent(index)
        most = self._most if agent is None else len(agent.gpus)
        return index, max(0, min(place[1], most - 1))

    def watch_place(self) -> None:
        """Keep it on the screen."""
        row, top = self.geometry.row(*self.place), round(self.scroll_target_y)
        if row < top:
            self.scroll_to(y=row, animate=False, force=True)
        elif row >= top + self.body:
            self.scroll_to(y=row - self.body + 1, animate=False, force=True)
        self.redraw()
        self.post_message(self.Moved())

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Ask for what came into sight."""
        super().watch_scroll_y(old, new)
        if round(old) != round(new):
            self.post_message(self.Wanted())

    def action_move(self, rows: int, _columns: int = 0) -> None:
        """Up or down, staying in the column."""
        grid = self.geometry
        row = max(0, grid.row(*self.place) + rows)
        index, gpu = grid.at(row, grid.column(*self.place))
        if index < self.total:
            self.place = index, gpu
        elif rows > 0:
            self.action_last()

    def action_step(self, by: int) -> None:
        """To the GPU beside, over the ends of machines."""
        index, gpu = self.place
        agent = self.agent(index)
        if gpu + by < 0:
            before = self.agent(index - 1)
            self.place = (index - 1, len(before.gpus) - 1) if index and before else self.place
        elif agent is not None and gpu + by >= len(agent.gpus):
            self.place = (index + 1, 0) if index + 1 < self.total else self.place
        else:
            self.place = index, gpu + by

    def action_page(self, by: int) -> None:
        """Up or down by screens."""
        self.action_move(by * max(1, self.body - 1))

    def action_first(self) -> None:
        """To the first GPU."""
        self.place = 0, 0

    def action_last(self) -> None:
        """To the last machine."""
        self.place = self.total - 1, self._most - 1

    def action_open(self) -> None:
        """To the job on it."""
        if self.selected is not None:
            self.post_message(self.Opened())

    def on_resize(self, _event: events.Resize) -> None:
        """The size changed."""
        self._drawn.clear()
        self.lay_out()
        self.post_message(self.Wanted())

    def on_click(self, event: events.Click) -> None:
        """Select a GPU; twice opens its job."""
        grid = self.geometry
        slot, x = divmod(event.x, grid.slot())
        column = (x - grid.label) // grid.cell
        if event.y == 0 or slot >= grid.across or not 0 <= column < grid.per_line:
            return
        row = int(self.scroll_offset.y) + event.y - 1
        index, gpu = grid.at(row, slot * grid.per_line + column)
        agent = self.agent(index)
        if agent is not None and gpu < len(agent.gpus):
            self.place = index, gpu
            if event.chain >= 2:
                self.action_open()


def _name(agent: Agent) -> str:
    return agent.host or agent.id


def _cut(cells: Sequence[Cell], width: int) -> list[Cell]:
    """The cells as far as there is room."""
    shown: list[Cell] = []
    for text, style in cells:
        if width <= 0:
            break
        piece = fit(text, min(width, width_of(text)))
        shown.append((piece, style))
        width -= width_of(piece)
    return shown
