"""What can be typed after ``:`` or chosen in the palette, and the line it is typed into."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, Static

from .text import fit

if TYPE_CHECKING:
    from .app import RetzApp

SHOWN = 12
"""Matches above the line."""


class Command(NamedTuple):
    """One command.

    Attributes:
        run: Called with what stands after the name.
        words: Other names for it.
        argument: How the help calls what stands after the name; empty if nothing does.
        complete: What may stand there.
    """

    name: str
    text: str
    run: Callable[[str], Awaitable[None] | None]
    words: tuple[str, ...] = ()
    argument: str = ""
    complete: Callable[[], Sequence[str]] = tuple

    @property
    def usage(self) -> str:
        """Name and argument."""
        return f"{self.name} {self.argument}".rstrip()


def matching(commands: Iterable[Command], line: str) -> list[Command]:
    """The commands that the beginning of a line can mean; an exact name means one."""
    word = line.split(" ", 1)[0]
    every = list(commands)
    exact = [command for command in every if word in (command.name, *command.words)]
    return exact or [c for c in every if any(name.startswith(word) for name in (c.name, *c.words))]


def parse(commands: Iterable[Command], line: str) -> tuple[Command, str]:
    """The command that a line means, and its argument.

    Raises:
        ValueError: none or several could be meant; the text is for the user.
    """
    line = line.strip().removeprefix(":").strip()
    word, _, argument = line.partition(" ")
    found = matching(commands, line)
    if not found:
        raise ValueError(f"there is no command {word!r}: ? lists them all")
    if len(found) > 1:
        raise ValueError(f"{word!r} could be {', '.join(command.name for command in found)}: type more of it")
    return found[0], argument.strip()


def completions(commands: Sequence[Command], line: str) -> list[str]:
    """Whole lines that the line may become."""
    word, space, argument = line.partition(" ")
    found = matching(commands, line)
    if not space:
        return [command.name + (" " if command.argument else "") for command in found]
    if len(found) != 1:
        return []
    return [f"{word} {each}" for each in found[0].complete() if each.startswith(argument.lstrip())]


class _Suggest(Suggester):
    def __init__(self, commands: Sequence[Command]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._commands = commands

    async def get_suggestion(self, value: str) -> str | None:
        longer = (line for line in completions(self._commands, value) if line.startswith(value) and line != value)
        return next(longer, None) if value else None


class CommandLine(ModalScreen[str]):
    """The line at the bottom. ``tab`` completes, the arrows bring earlier lines back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "close", id="command.close"),
        Binding("tab", "complete", "complete", id="command.complete", priority=True),
        Binding("up", "recall(-1)", "earlier", show=False, id="command.earlier"),
        Binding("down", "recall(1)", "later", show=False, id="command.later"),
    ]

    def __init__(self, commands: Sequence[Command], history: Sequence[str], line: str = "") -> None:
        super().__init__()
        self._commands = commands
        self._history = [*history, line]
        self._place = len(history)

    def compose(self) -> ComposeResult:
        """What could be meant, and the line."""
        yield Static(id="matches")
        with Horizontal(id="line"):
            yield Static(":", id="colon")
            yield Input(self._history[-1], compact=True, suggester=_Suggest(self._commands), select_on_focus=False)

    def on_mount(self) -> None:
        """Show what there is."""
        self.show_matches(self._history[-1])

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what could be meant."""
        event.stop()
        self.show_matches(event.value)

    def show_matches(self, line: str) -> None:
        """What could be meant by the line so far."""
        found = matching(self._commands, line)
        lines = [f" {fit(command.usage, 22)}  {command.text}" for command in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f" … {len(found) - SHOWN} more")
        self.query_one("#matches", Static).update(Text("\n".join(lines) or " no such command", no_wrap=True))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """That is it."""
        event.stop()
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Nothing."""
        self.dismiss(None)

    def action_complete(self) -> None:
        """As much as is certain, like a shell."""
        line = self.query_one(Input)
        found = completions(self._commands, line.value)
        common = _common(found)
        if len(common) > len(line.value) or len(found) == 1:
            self._set(common)

    def action_recall(self, by: int) -> None:
        """An earlier line, or a later one."""
        self._place = max(0, min(self._place + by, len(self._history) - 1))
        self._set(self._history[self._place])

    def _set(self, text: str) -> None:
        line = self.query_one(Input)
        line.value = text
        line.cursor_position = len(text)


def _common(lines: Sequence[str]) -> str:
    """What all lines begin with."""
    if not lines:
        return ""
    first, last = min(lines), max(lines)
    length = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:length]


class CommandPalette(Provider):
    """The same commands, for Textual's palette."""

    def _commands(self) -> list[tuple[Command, Callable[[], object]]]:
        app = cast("RetzApp", self.app)
        return [(command, lambda c=command: app.begin(c)) for command in app.commands()]  # type: ignore[misc]

    async def discover(self) -> Hits:
        """All of them."""
        for command, run in self._commands():
            yield DiscoveryHit(command.usage, run, help=command.text)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for command, run in self._commands():
            score = matcher.match(f"{command.usage} {command.text}")
            if score > 0:
                yield Hit(score, matcher.highlight(command.usage), run, help=command.text)
