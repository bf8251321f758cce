"""What every screen of the window has: a line on top, its content, a line of keys; loading that never blocks a key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.screen import Screen

from retz.client import ApiError, RetzError
from retz.client.types import Event

from .widgets.bars import Banner, KeyBar, TopLine

if TYPE_CHECKING:
    from .app import RetzApp
    from .commands import Command
    from .session import Session

RETRY_S = 1.0
"""A load that found no server is tried again after so long."""

_log = logging.getLogger(__name__)


class Page(Screen[None]):
    """A screen. Subclasses give ``crumb``, ``content`` and ``load``.

    Attributes:
        crumb: Its name.
        loaded: Set once it has been loaded for the first time.
        every_s: At most so often it loads because of events.
        changing: Names of its actions that change something on the server: ``--readonly`` takes them away.
    """

    crumb: ClassVar[str] = ""
    every_s: ClassVar[float] = 0.2
    changing: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self._wanted = asyncio.Event()
        self._urgent = asyncio.Event()
        self.loaded = asyncio.Event()

    @property
    def retz(self) -> RetzApp:
        """The application, typed."""
        return cast("RetzApp", self.app)

    @property
    def session(self) -> Session:
        """The connection."""
        return self.retz.session

    def compose(self) -> ComposeResult:
        """The top line, what is wrong with the connection, the content, the keys."""
        yield TopLine()
        yield Banner()
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

    def commands(self) -> list[Command]:
        """What one may type after ``:`` on this page, beyond what is there everywhere."""
        return []

    def escape(self) -> bool:
        """``esc``: close what is open on this page (a filter, marks); whether there was anything."""
        return False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action exists: nothing that changes anything does under ``--readonly``."""
        return not (self.retz.readonly and action in self.changing)

    def on_mount(self) -> None:
        """Begin to load."""
        self.link_changed()
        self._loading()
        self.reload(now=True)

    def on_screen_resume(self) -> None:
        """It is seen again: what it shows may be old."""
        self.link_changed()
        self.reload(now=True)

    @property
    def seen(self) -> bool:
        """Whether it is on the screen, perhaps below a dialog."""
        pages = self.retz.pages
        return bool(pages) and pages[-1] is self

    def reload(self, *, now: bool = False) -> None:
        """Load soon; asked twice is asked once.

        Args:
            now: The user asked for it: do not wait for the end of ``every_s``.
        """
        self._wanted.set()
        if now:
            self._urgent.set()

    def events(self, batch: list[Event]) -> None:
        """Something changed on the server. The default loads anew."""
        if any(event.kind in ("job", "queue", "reset") for event in batch):
            self.reload()

    def link_changed(self) -> None:
        """The connection was lost, or is back."""
        # Not query_one: the connection may be lost while the page is being closed.
        self.query(TopLine).refresh()
        for banner in self.query(Banner):
            banner.update()
        for widget in self.query(".ages"):
            widget.set_class(self.session.link == "lost", "stale")
            if hasattr(widget, "stale"):
                widget.stale = self.session.link == "lost"

    @work(exclusive=True, group="load")
    async def _loading(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._urgent.clear()
            if not self.seen:
                continue
            pause = await self._load_once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._urgent.wait()

    async def _load_once(self) -> float:
        """Load, and say how long to wait before the next time."""
        try:
            await self.load()
        except ApiError as error:
            self.retz.tell_error(error)
        except RetzError:
            # The session says that the server is gone; perhaps only this request was unlucky.
            self._wanted.set()
            return RETRY_S
        except Exception as error:  # noqa: BLE001 (a fault on one page must not close the window)
            if not self.is_attached:
                return self.every_s  # closed meanwhile: its widgets are gone
            _log.exception("%s could not be loaded", self.crumb)
            self.retz.tell_fault(f"{self.crumb} could not be shown", error)
        self.loaded.set()
        return self.every_s
