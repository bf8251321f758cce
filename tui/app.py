"""The application: screens, themes, keys, and what they share."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.theme import Theme

from retz.client import RetzError
from retz.client.types import Event
from retz.config import ClientConfig

from .page import Page
from .screens.queue import QueuePage
from .session import Session

THEMES = (
    Theme(
        name="retz-dark", dark=True, primary="#5fafd7", secondary="#5fb3b3", accent="#e0a030", foreground="#d0d4da",
        background="#101317", surface="#161a20", panel="#1c2128", success="#7fb069", warning="#d8a03c", error="#e0605e",
        variables={"killed": "#c678dd", "muted": "#828a96", "faint": "#4a515c", "select": "#3a2f18"},
    ),
    Theme(
        name="retz-light", dark=False, primary="#1f6f9f", secondary="#1d7a7a", accent="#b05e00", foreground="#22262b",
        background="#fbfbf8", surface="#f1f1ec", panel="#e6e6df", success="#2f7d32", warning="#8a5a00", error="#b3261e",
        variables={"killed": "#7b3fa0", "muted": "#6a6f76", "faint": "#b9bcb8", "select": "#f3e3c3"},
    ),
)  # fmt: skip


class RetzApp(App[None]):
    """The window.

    Args:
        config: Which server, and who we are.
        readonly: No changing command exists.
    """

    CSS_PATH = "retz.tcss"
    TITLE = "retz"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit", id="app.quit"),
        Binding("ctrl+c", "quit", "quit", show=False, id="app.interrupt", priority=True),
    ]

    def __init__(self, config: ClientConfig, *, readonly: bool = False, theme: str = "retz-dark") -> None:
        super().__init__()
        self.session = Session(config)
        self.readonly = readonly
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of ours that a foreign theme need not know."""
        return {"killed": "#b070c0", "muted": "#888888", "faint": "#666666", "select": "#444444"}

    def on_mount(self) -> None:
        """Connect, and show the queue."""
        self.session.on_events = self._events
        self.session.on_link = self._link_changed
        self.push_screen(QueuePage())
        self.run_worker(self.session.follow(), group="session", exclusive=True)

    async def on_unmount(self) -> None:
        """Leave."""
        await self.session.close()

    @property
    def page(self) -> Page | None:
        """The page on top, if a page is on top."""
        return self.screen if isinstance(self.screen, Page) else None

    def _events(self, batch: list[Event]) -> None:
        if self.page is not None:
            self.page.events(batch)

    def _link_changed(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Page):
                screen.link_changed()

    def tell_error(self, error: RetzError) -> None:
        """A notice that something was refused."""
        self.notify(str(error).replace("[", r"\["), severity="error", timeout=8)
