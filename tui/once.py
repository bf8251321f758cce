"""``--once``: one frame as text, for scripts and bug reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from retz.client import RetzError

from .text import printable

if TYPE_CHECKING:
    from textual.app import App

    from .app import RetzApp

PATIENCE_S = 10.0
"""A screen that is not loaded by then is printed as it is."""


class OnceError(Exception):
    """There is no frame to print; the text says why."""


def print_once(app: RetzApp, screen: str, size: tuple[int, int]) -> None:
    """Print one frame of a screen.

    Raises:
        OnceError: no server, no such screen.
    """
    print(asyncio.run(_frame(app, screen, size)), end="")


async def _frame(app: RetzApp, screen: str, size: tuple[int, int]) -> str:
    try:
        await app.session.refresh_status()
    except RetzError as error:
        raise OnceError(printable(str(error))) from None
    async with app.run_test(size=size) as pilot:
        found = [name for name in app.places() if name.startswith(screen)]
        if len(found) != 1:
            raise OnceError(f"there is no screen {printable(screen)!r}: say one of {', '.join(app.places())}")
        await app.action_go(found[0])
        page = app.pages[-1]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await page.loaded.wait()
        except TimeoutError as error:
            raise OnceError(f"the server did not answer within {PATIENCE_S:.0f} s") from error
        await app.workers.wait_for_complete([w for w in app.workers if w.group == "numbers"])
        await app.session.named()
        await pilot.pause()
        return frame_text(app)


def frame_text(app: App[Any]) -> str:
    """What the screen shows, a line each, blanks at the ends of lines left out."""
    # Textual has no public way to read a frame but pictures.
    strips = app.screen._compositor.render_strips()
    return "".join("".join(segment.text for segment in strip).rstrip() + "\n" for strip in strips)
