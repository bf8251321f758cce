"""The application: where one is, themes, and what the screens share."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from retz.client import RetzError
from retz.client.types import Event
from retz.config import ClientConfig

from .page import Page
from .places import PLACES
from .session import Session
from .themes import FALLBACK, THEMES


class RetzApp(App[None]):
    """The window.

    Args:
        config: Which server, and who we are.
        readonly: No changing command exists.
        theme: Name of ours or of one of Textual's.

    Attributes:
        moment: The time that is looked at, epoch seconds; None is now. Every page honours it.
    """

    CSS_PATH = "retz.tcss"
    TITLE = "retz"
    COMMAND_PALETTE_BINDING = "ctrl+p"

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(place.key, f"go('{place.name}')", place.name, show=False, id=f"go.{place.name}") for place in PLACES),
        Binding("escape", "back", "back", show=False, id="app.back"),
        Binding("q", "quit", "quit", id="app.quit"),
        Binding("ctrl+c", "quit", "quit", show=False, id="app.interrupt", priority=True),
    ]

    def __init__(self, config: ClientConfig, *, readonly: bool = False, theme: str = "retz-dark") -> None:
        super().__init__()
        self.session = Session(config)
        self.readonly = readonly
        self.moment: float | None = None
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of ours that a foreign theme need not know."""
        return FALLBACK

    async def on_mount(self) -> None:
        """Connect, and show the queue."""
        self.session.on_events = self._events
        self.session.on_link = self._link_changed
        self.run_worker(self.session.follow(), group="session", exclusive=True)
        await self.action_go("queue")

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

    async def drill(self, page: Page) -> None:
        """Open a page above this one; ``esc`` leads back."""
        await self.push_screen(page)

    async def action_back(self) -> None:
        """To the page below, if there is one."""
        if len(self.screen_stack) > 2:
            await self.pop_screen()

    def rewind(self, moment: float | None) -> None:
        """Look at another time."""
        self.moment = moment
        for page in self.pages:
            page.reload()

    # -- what comes from the server --------------------------------------------------------------------------------

    def _events(self, batch: list[Event]) -> None:
        if self.page is not None and self.moment is None:
            self.page.events(batch)

    def _link_changed(self) -> None:
        for page in self.pages:
            page.link_changed()

    def tell_error(self, error: RetzError) -> None:
        """A notice that something was refused."""
        self.notify(str(error), severity="error", timeout=8, markup=False)
