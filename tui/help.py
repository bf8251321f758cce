"""``?``: every key that works here and every command, from what is really bound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from .page import Page
from .text import fit
from .widgets.table import Table

if TYPE_CHECKING:
    from .commands import Command

BLOCK_WIDTHS = 58, 84
"""Cells that a column of keys takes: at least, and at most."""


class Entry(NamedTuple):
    """Keys, what they do, and the id under which they can be changed."""

    keys: str
    text: str
    id: str


def groups(app: App[None], bindings: Iterable[ActiveBinding]) -> dict[str, list[Entry]]:
    """The keys that work, by where they belong. Textual's own have no id: they work everywhere as one expects."""
    found: dict[tuple[str, str], list[ActiveBinding]] = {}
    for active in bindings:
        if active.enabled and active.binding.description and active.binding.id:
            found.setdefault((_group(active), active.binding.id), []).append(active)
    result: dict[str, list[Entry]] = {}
    for (group, _), same in found.items():
        first = same[0].binding
        keys = " ".join(dict.fromkeys(app.get_key_display(active.binding) for active in same))
        result.setdefault(group, []).append(Entry(keys, first.tooltip or first.description, first.id or ""))
    return result


def _group(active: ActiveBinding) -> str:
    node = active.node
    if isinstance(node, App):
        return "everywhere"
    if isinstance(node, Page):
        return "this page"
    return "lists" if isinstance(node, Table) else type(node).__name__.lower()


class Help(ModalScreen[None]):
    """See the module's text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "leave", "close", id="help.close"),
        Binding("j,down", "scroll('down')", "down", show=False, id="help.down"),
        Binding("k,up", "scroll('up')", "up", show=False, id="help.up"),
    ]

    def __init__(self, keys: dict[str, list[Entry]], commands: Sequence[Command]) -> None:
        super().__init__()
        order = ("this page", "lists", "everywhere")
        self.blocks = [(name, keys[name]) for name in sorted(keys, key=lambda n: (n not in order, n))]
        self.blocks.sort(key=lambda block: order.index(block[0]) if block[0] in order else 1)
        self.blocks.append(("commands, after :", [Entry(c.usage, c.text, "") for c in commands]))

    def compose(self) -> ComposeResult:
        """A scrolling box."""
        with VerticalScroll(classes="help") as box:
            box.border_title = Text(" keys and commands ")
            box.border_subtitle = Text(" esc close · [retz.tui.keys] remaps the grey names ")
            yield Static(id="keys")

    def on_resize(self) -> None:
        """In as many columns as there is room for."""
        self.query_one("#keys", Static).update(self.text(int(self.size.width * 0.9) - 8))

    def text(self, room: int) -> Text:
        """All blocks, in columns of about equal height."""
        columns = max(1, room // BLOCK_WIDTHS[0])
        width = min(room // columns, BLOCK_WIDTHS[1])
        blocks = [_block(name, entries, width) for name, entries in self.blocks]
        stacks: list[list[Text]] = [[] for _ in range(columns)]
        for block in blocks:
            min(stacks, key=len).extend(block)
        lines = []
        for row in range(max(map(len, stacks))):
            line = Text(no_wrap=True)
            for stack in stacks:
                cell = stack[row] if row < len(stack) else Text()
                line.append_text(cell).append(" " * max(0, width - cell.cell_len))
            lines.append(line)
        return Text("\n", no_wrap=True).join(lines)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def action_scroll(self, way: str) -> None:
        """Move by a line."""
        self.query_one(VerticalScroll).scroll_relative(y=1 if way == "down" else -1, animate=False)


def _block(name: str, entries: Sequence[Entry], width: int) -> list[Text]:
    lines = [Text(name, "bold underline")]
    wide = 14 if all(len(entry.keys) < 15 for entry in entries) else 20
    for entry in entries:
        line = Text(" ").append(fit(entry.keys, wide), "bold").append(" ")
        room = width - 4 - wide - (len(entry.id) + 1 if entry.id else 0)
        line.append(fit(entry.text, room))
        lines.append(line.append(f" {entry.id}", "dim") if entry.id else line)
    return [*lines, Text()]
