"""What every screen of the window has: a line on top, its content, a line of keys; loading that never blocks a key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.screen import Screen

from retz.client import ApiError, RetzError
from retz.client.types import Event

from .widgets.bars import KeyBar, TopLine

if TYPE_CHECKING:
    from .app import RetzApp
    from .session import Session


class Page(Screen[None]):
    """A screen. Subclasses give ``crumb``, ``content`` and ``load``.

    Attributes:
        crumb: Its name.
        every_s: At most so often it loads because of events.
    """

    crumb: ClassVar[str] = ""
    every_s: ClassVar[float] = 0.2

    def __init__(self) -> None:
        super().__init__()
        self._wanted = asyncio.Event()

    @property
    def retz(self) -> RetzApp:
        """The application, typed."""
        return cast("RetzApp", self.app)

    @property
    def session(self) -> Session:
        """The connection."""
        return self.retz.session

    def compose(self) -> ComposeResult:
        """The top line, the content, the keys."""
        yield TopLine()
        yield from self.content()
        yield KeyBar()

    def content(self) -> ComposeResult:
        """What stands between."""
        raise NotImplementedError

    async def load(self) -> None:
        """Ask the server and show the answer. Called once at a time; errors of the connection are dealt with."""
        raise NotImplementedError

    def title_text(self) -> str:
        """Its name in the line on top, where that depends on what it shows."""
        return self.crumb

    def summary(self) -> str:
        """A few words for the middle of the line on top."""
        return ""

    def on_mount(self) -> None:
        """Begin to load."""
        self._loading()
        self.reload()

    def on_screen_resume(self) -> None:
        """It is seen again: what it shows may be old."""
        self.reload()

    def reload(self) -> None:
        """Load soon; asked twice is asked once."""
        self._wanted.set()

    def events(self, batch: list[Event]) -> None:
        """Something changed on the server. The default loads anew."""
        if any(event.kind in ("job", "queue", "reset") for event in batch):
            self.reload()

    def link_changed(self) -> None:
        """The connection was lost, or is back."""
        self.query_one(TopLine).refresh()
        for widget in self.query(".ages"):
            widget.set_class(self.session.link == "lost", "stale")
            if hasattr(widget, "stale"):
                widget.stale = self.session.link == "lost"

    @work(exclusive=True, group="load")
    async def _loading(self) -> None:
        while True:
            await self._wanted.wait()
            if not self.is_current:
                self._wanted.clear()
                continue
            self._wanted.clear()
            try:
                await self.load()
            except ApiError as error:
                self.retz.tell_error(error)
            except RetzError:
                self.query_one(TopLine).refresh()  # the session tells, and says when it is back
            await asyncio.sleep(self.every_s)
