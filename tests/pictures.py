"""``python -m tests.pictures [NAME ...]``: the pictures of docs/tui.md, taken of the real program on its demo."""
# ruff: noqa: ASYNC110 (no event exists for what the pictures wait for)

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import NamedTuple

from retz.client import AsyncClient
from retz.config import ClientConfig
from tui.app import RetzApp
from tui.demo import serving
from tui.once import frame_text

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
SETTLE_S = 1.5
PATIENCE_S = 60.0
ENOUGH = 12
"""Points of usage, for something to plot."""
LIVELY_S = 45.0
"""So long the demo runs first: by then jobs of all kinds have ended, and some have output."""


NAMED = {" ": "space", ":": "colon", ">": "greater_than_sign", "!": "exclamation_mark"}


class Picture(NamedTuple):
    """One file.

    Attributes:
        keys: Pressed one after the other; ``@KIND`` opens a job of a kind that is running.
    """

    name: str
    keys: tuple[str, ...]
    size: tuple[int, int] = (120, 34)
    theme: str = "retz-dark"


TAKEN = (
    Picture("queue", ()),
    Picture("queue-light", ("down", "down"), theme="retz-light"),
    Picture("queue-80x24", (), size=(80, 24)),
    Picture("filter", ("slash", *"state:queued gpu>0 !sweep")),
    Picture("job", ("@embed",)),
    Picture("agents", ("3",)),
    Picture("gpus", ("4",)),
    Picture("skylines", ("5", "enter", "u")),
    Picture("command", ("colon", *"k")),
    Picture("cluster", ("6",), size=(120, 40)),
    Picture("rewind", ("6", *("less_than_sign",) * 4), size=(120, 40)),
    Picture("users", ("7",)),
    Picture("help", ("question_mark",)),
)


async def take(config: ClientConfig, picture: Picture) -> None:
    """Make one."""
    app = RetzApp(config, theme=picture.theme)
    async with app.run_test(size=picture.size) as pilot:
        await _settled(app)
        for key in picture.keys:
            if key.startswith("@"):
                await _open(app, config, key[1:])
            else:
                await pilot.press(NAMED.get(key, key))
            if len(key) > 1:
                await _settled(app)
        await _settled(app)
        (PICTURES / f"{picture.name}.svg").write_text(plain(app.export_screenshot(title="retz-tui")), encoding="utf-8")


async def _settled(app: RetzApp) -> None:
    """Wait until it is connected and shows what it was asked for."""
    async with asyncio.timeout(PATIENCE_S):
        while app.session.link != "live":
            await asyncio.sleep(0.05)
        await asyncio.sleep(SETTLE_S)
        while "solving" in frame_text(app):
            await asyncio.sleep(0.1)


async def _open(app: RetzApp, config: ClientConfig, name: str) -> None:
    from tui.screens.job import JobPage

    async with AsyncClient(config) as client, asyncio.timeout(PATIENCE_S * 3):
        while not (found := (await client.list(name=name, state="STARTED", user="*", limit=1)).jobs):
            await asyncio.sleep(0.5)
        while len((await client.usage(found[0].id)).series) < ENOUGH:
            await asyncio.sleep(0.5)
    await app.drill(JobPage(found[0].id))


def plain(svg: str) -> str:
    """The picture without fonts from the network: it shall look the same where there is none."""
    svg = re.sub(r"@font-face \{[^}]*\}\s*", "", svg)
    return svg.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas").replace(
        "<text ", '<text xml:space="preserve" '
    )


async def main() -> None:
    """Take all, or those that are named."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with serving() as config:
        if not sys.argv[1:]:
            await asyncio.sleep(LIVELY_S)
        for picture in TAKEN:
            if not sys.argv[1:] or picture.name in sys.argv[1:]:
                await take(config, picture)
                print(PICTURES / f"{picture.name}.svg", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
