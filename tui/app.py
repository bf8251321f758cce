"""The application: where one is, themes, and what the screens share."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.command import Provider

from retz.client import RetzError
from retz.client.types import Event
from retz.config import ClientConfig

from .commands import Command, CommandLine, CommandPalette, parse
from .keyboard import Keyboard
from .keymap import checked
from .page import Page
from .places import PLACES
from .session import Session
from .text import printable
from .themes import FALLBACK, THEMES, known

REFUSED_S, FAULT_S = 8.0, 12.0
"""Notices stay so long."""


class RetzApp(Keyboard):
    """The window.

    Args:
        config: Which server, and who we are.
        readonly: No changing command exists.
        theme: Name of ours or of one of Textual's.

    Raises:
        KeymapError: the configured keys cannot be used.

    Attributes:
        moment: The time that is looked at, epoch seconds; None is now. Every page honours it.
        job: Id of the job last looked at or selected, for the job's page.
        pipeline: Name of the pipeline last looked at, for the skylines.
    """

    CSS_PATH = "retz.tcss"
    TITLE = "retz"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {CommandPalette}

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(
                place.key,
                f"go('{place.name}')",
                f"go to {place.name}",
                show=False,
                id=f"go.{place.name}",
                tooltip=place.help,
            )
            for place in PLACES
        ),
        Binding("escape", "back", "back", show=False, id="app.back", tooltip="Close what is open, then the page."),
        Binding("question_mark", "help", "help", id="app.help", key_display="?", tooltip="Every key that works here."),
        Binding("colon", "command_line", "command", id="app.command", key_display=":", tooltip="Type a command."),
        Binding("R", "live", "live", show=False, id="app.live", tooltip="Back from the past to what is now."),
        Binding("q", "quit", "quit", id="app.quit"),
        Binding("ctrl+c", "quit", "quit", show=False, id="app.interrupt", priority=True),
    ]

    def __init__(self, config: ClientConfig, *, readonly: bool = False, theme: str = "retz-dark") -> None:
        super().__init__()
        self.session = Session(config)
        self.readonly = readonly
        self.moment: float | None = None
        self.job: int | None = None
        self.pipeline: str | None = None
        self._history: list[str] = []
        self._told: dict[str, float] = {}
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme
        self.set_keymap(checked(config.tui_keys))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of ours that a foreign theme need not know."""
        return FALLBACK

    async def on_mount(self) -> None:
        """Connect, and show the queue."""
        self._heed_signals()
        self.session.on_events = self._events
        self.session.on_link = self._link_changed
        self.session.on_hosts = self._named
        self.run_worker(self.session.follow(), group="session", exclusive=True)
        self.run_worker(self.session.watch(), group="watch", exclusive=True)
        await self.action_go("queue")

    def _heed_signals(self) -> None:
        """Whoever ends us gets the terminal back as it was."""
        if self.is_headless:
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.exit, None, 128 + number)

    async def on_unmount(self) -> None:
        """Leave."""
        await self.session.close()

    # -- where one is --------------------------------------------------------------------------------------------

    @property
    def pages(self) -> list[Page]:
        """The pages from the root to the one on top; dialogs are none."""
        return [screen for screen in self.screen_stack if isinstance(screen, Page)]

    @property
    def page(self) -> Page | None:
        """The page on top, if a page is on top."""
        return self.screen if isinstance(self.screen, Page) else None

    async def action_go(self, name: str) -> None:
        """To one of the :data:`~tui.places.PLACES`, as it was left."""
        place = next(place for place in PLACES if place.name == name)
        while len(self.screen_stack) > 2:
            await self.pop_screen()
        if not self.is_screen_installed(name):
            self.install_screen(place.make(), name)
        if len(self.screen_stack) == 1:
            await self.push_screen(name)
        elif self.screen is not self.get_screen(name):
            await self.switch_screen(name)

    def places(self) -> list[str]:
        """Names of the screens one can go to."""
        return [place.name for place in PLACES]

    async def drill(self, page: Page) -> None:
        """Open a page above this one; ``esc`` leads back."""
        await self.push_screen(page)

    async def action_back(self) -> None:
        """Close what is open on the page; else to the page below, if there is one."""
        if self.page is not None and self.page.escape():
            return
        if len(self.screen_stack) > 2:
            await self.pop_screen()

    @property
    def now(self) -> float:
        """The time that is looked at."""
        return self.session.now() if self.moment is None else self.moment

    def rewind(self, moment: float | None) -> None:
        """Look at another time."""
        self.moment = moment
        for page in self.pages:
            page.link_changed()
            page.reload(now=True)

    def action_live(self) -> None:
        """Look at what is now again."""
        if self.moment is not None:
            self.rewind(None)

    # -- commands ------------------------------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """All that can be typed after ``:`` now: the page's own, the places, and what is there everywhere."""
        own = self.pages[-1].commands() if self.pages else []
        places = [Command(p.name, p.text, lambda _, name=p.name: self.action_go(name), p.words) for p in PLACES]  # type: ignore[misc]
        return [
            *own,
            *places,
            Command("theme", "change the colours", self._choose_theme, (), "NAME", known),
            Command("help", "every key and command", lambda _: self.action_help(), ("keys",)),
            Command("quit", "leave", lambda _: self.exit(), ("q", "q!", "exit")),
        ]

    def action_command_line(self, line: str = "") -> None:
        """Ask for a command."""
        self.push_screen(CommandLine(self.commands(), self._history, line), self._typed)

    def action_help(self) -> None:
        """Show every key that works here."""
        from .help import Help, groups

        page = self.pages[-1]
        self.push_screen(Help(groups(self, page.active_bindings.values()), self.commands()))

    async def _typed(self, line: str | None) -> None:
        if line and line.strip():
            self._history.append(line)
            await self.command(line)

    async def command(self, line: str) -> None:
        """Do what a line says."""
        try:
            command, argument = parse(self.commands(), line)
        except ValueError as error:
            self.notify(printable(str(error)), severity="warning", markup=False)
            return
        await self._run(command, argument)

    async def begin(self, command: Command) -> None:
        """Do a command from the palette; one that needs an argument asks for it."""
        if command.argument:
            self.action_command_line(command.name + " ")
        else:
            await self._run(command, "")

    async def _run(self, command: Command, argument: str) -> None:
        done = command.run(argument)
        if isinstance(done, Awaitable):
            await done

    def _choose_theme(self, name: str) -> None:
        if name in self.available_themes:
            self.theme = name
        else:
            self.notify(f"there is no theme {name!r}: {', '.join(known())}", severity="warning", markup=False)

    # -- what comes from the server --------------------------------------------------------------------------------

    def _events(self, batch: list[Event]) -> None:
        if self.pages and self.moment is None:
            self.pages[-1].events(batch)

    def _named(self) -> None:
        if self.pages:
            self.pages[-1].reload(now=True)

    def _link_changed(self) -> None:
        for page in self.pages:
            page.link_changed()

    def tell_error(self, error: RetzError) -> None:
        """A notice that something was refused."""
        self._tell_once(printable(str(error)), "", REFUSED_S)

    def tell_fault(self, what: str, error: Exception) -> None:
        """A notice that we made a mistake: the window lives on, and the log has the rest."""
        text = f"{type(error).__name__}: {error}. This is a fault of retz-tui: please report it."
        self._tell_once(printable(text), what, FAULT_S)

    def _tell_once(self, text: str, title: str, shown_s: float) -> None:
        """A page asks again and again: what is still on the screen is not told again."""
        now = time.monotonic()
        self._told = {each: until for each, until in self._told.items() if until > now}
        if text not in self._told:
            self._told[text] = now + shown_s
            self.notify(text, title=title, severity="error", timeout=shown_s, markup=False)

    def copy(self, text: str, what: str) -> None:
        """Into the clipboard of the user's terminal (OSC 52)."""
        self.copy_to_clipboard(text)
        self.notify(f"copied {what}", timeout=2, markup=False)
