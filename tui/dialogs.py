"""Small questions in the middle of the screen. Each closes by ``esc`` with the answer None (or False)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, SelectionList, Static
from textual.widgets.option_list import Option
from textual.widgets.selection_list import Selection

from .text import printable

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """A box with a title; subclasses yield what stands in it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss_none", "close", id="dialog.close")]
    title_: str = ""
    keys: str = "esc close"

    def compose(self) -> ComposeResult:
        """The box."""
        with Vertical(classes="box") as box:
            box.border_title = Text(f" {printable(self.title_)} ")
            box.border_subtitle = Text(f" {self.keys} ")
            yield from self.inside()

    def inside(self) -> ComposeResult:
        """What stands in the box."""
        raise NotImplementedError

    def action_dismiss_none(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class Confirm(Dialog[bool]):
    """A question that ``y`` answers with yes, anything that closes it with no.

    Args:
        verb: What ``y`` does.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "yes", id="dialog.yes"),
        Binding("n", "dismiss_none", "no", id="dialog.no"),
    ]

    def __init__(self, title: str, lines: Sequence[str], verb: str) -> None:
        super().__init__()
        self.title_ = title
        self.lines = [printable(line) for line in lines]
        self.keys = f"y {verb} · n leave it"

    def inside(self) -> ComposeResult:
        """What is at stake."""
        yield Static(Text("\n".join(self.lines)))

    def action_yes(self) -> None:
        """Yes."""
        self.dismiss(True)


class Prompt(Dialog[str]):
    """A question for one line of text.

    Args:
        check: Returns what is wrong with a text, empty if nothing is.
    """

    def __init__(self, title: str, value: str = "", check: Callable[[str], str] = lambda text: "") -> None:
        super().__init__()
        self.title_ = title
        self.keys = "enter take it · esc leave"
        self._value = value
        self._check = check

    def inside(self) -> ComposeResult:
        """The line, and what is wrong with it."""
        yield Input(self._value, compact=True)
        yield Static("", id="wrong")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what is wrong while it is typed."""
        event.stop()
        self.query_one("#wrong", Static).update(Text(self._check(event.value) if event.value else ""))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, if nothing is wrong with it."""
        event.stop()
        if not self._check(event.value):
            self.dismiss(event.value)


class Chooser(Dialog[str]):
    """One of several; options are (name, text)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move('down')", "down", show=False, id="dialog.down"),
        Binding("k", "move('up')", "up", show=False, id="dialog.up"),
    ]

    def __init__(self, title: str, options: Sequence[tuple[str, str]], chosen: str = "") -> None:
        super().__init__()
        self.title_ = title
        self.keys = "enter take it · esc leave"
        self._options = options
        self._chosen = chosen

    def inside(self) -> ComposeResult:
        """The list."""
        yield OptionList(*(Option(Text(printable(text)), id=name) for name, text in self._options), compact=True)

    def on_mount(self) -> None:
        """Begin at what is chosen now."""
        names = [name for name, _ in self._options]
        self.query_one(OptionList).highlighted = names.index(self._chosen) if self._chosen in names else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """That one."""
        event.stop()
        self.dismiss(event.option_id)

    def action_move(self, way: str) -> None:
        """As the arrows do."""
        options = self.query_one(OptionList)
        (options.action_cursor_down if way == "down" else options.action_cursor_up)()


class Checklist(Dialog[frozenset[str]]):
    """Any of several; options are (name, text). The answer is the names that are ticked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move('down')", "down", show=False, id="dialog.list_down"),
        Binding("k", "move('up')", "up", show=False, id="dialog.list_up"),
        Binding("enter", "take", "take it", id="dialog.take", priority=True),
    ]

    def __init__(self, title: str, options: Sequence[tuple[str, str]], ticked: Collection[str]) -> None:
        super().__init__()
        self.title_ = title
        self.keys = "space tick · enter take it · esc leave"
        self._options = options
        self._ticked = ticked

    def inside(self) -> ComposeResult:
        """The list."""
        selections = (Selection(printable(text), name, name in self._ticked) for name, text in self._options)
        yield SelectionList[str](*selections, compact=True)

    def action_take(self) -> None:
        """These."""
        self.dismiss(frozenset(self.query_one(SelectionList).selected))

    def action_move(self, way: str) -> None:
        """As the arrows do."""
        options = self.query_one(SelectionList)
        (options.action_cursor_down if way == "down" else options.action_cursor_up)()
