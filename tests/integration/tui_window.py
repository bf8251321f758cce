"""The window in a terminal of the mind: what is on it, and patience until it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from textual.pilot import Pilot

from retz.config import ClientConfig
from retz.model.user import User
from tests.tui_frames import frame
from tui.app import RetzApp

from .http_site import Site

PATIENCE_S = 30.0


class Window:
    """The application, and what is to be seen."""

    def __init__(self, app: RetzApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot
        self.press = pilot.press

    @property
    def text(self) -> str:
        """The screen."""
        return frame(self.app)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until the screen is as it should be."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await self.pilot.pause(0.01)
        except TimeoutError:
            raise AssertionError(f"in vain, while this is seen:\n{self.text}") from None

    async def says(self, *words: str) -> None:
        """Wait until all of these are to be read."""
        await self.until(lambda: all(word in self.text for word in words))

    async def told(self, words: str) -> None:
        """Wait for a notice."""
        await self.until(lambda: any(words in notice.message for notice in self.app._notifications))


W = TypeVar("W", bound=Window)


def app_of(site: Site, user: User, *, port: int = 0, settings: dict[str, Any] | None = None, **options: Any) -> RetzApp:
    """The application of a user of the site; ``settings`` are more fields of its configuration."""
    uri = f"http://127.0.0.1:{port or site.port}"
    return RetzApp(
        ClientConfig(server_uri=uri, access_key=user.key, access_secret=user.secret, **(settings or {})), **options
    )


@asynccontextmanager
async def opened(kind: type[W], app: RetzApp, size: tuple[int, int] = (120, 40), **how: Any) -> AsyncIterator[W]:
    """Run the application; its first page is loaded."""
    async with app.run_test(size=size, **how) as pilot:
        it = kind(app, pilot)
        await it.until(lambda: app.pages and app.pages[-1].loaded.is_set() and app.session.link == "live")
        yield it
