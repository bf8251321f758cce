"""The window when things are odd: texts that want to draw, screens with hardly any room, servers that say no."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner
from msgspec.structs import replace
from yarl import URL

from retz.model.agent import Agent, Gpu
from retz.model.resources import Resources
from retz.model.user import User
from retz.store.tables import Change
from tests.tui_frames import frame
from tui.app import RetzApp
from tui.main import main
from tui.screens.job import JobPage

from . import tui_window
from .http_site import ANN, ROOT, PuppetEngine, Site, running_site
from .tui_window import Window, app_of

pytestmark = pytest.mark.anyio

NASTY = "\x1b[31mred\x1b]0;title\x07 \u202egnp.exe\u200b 界界 👩‍👩‍👧 a\u0301\r\nnew\tline [bold]x[/] \x9b2J"
TRICKY = "".join(each for each in NASTY if unicodedata.category(each) != "Cc")
"""What the server lets into names."""
SIZES = [(120, 40), (20, 5)]


def window(site: Site, user: User = ROOT, port: int = 0) -> RetzApp:
    return app_of(site, user, port=port)


def opened(app: RetzApp, size: tuple[int, int] = (120, 30)) -> AbstractAsyncContextManager[Window]:
    return tui_window.opened(Window, app, size)


def assert_harmless(app: RetzApp) -> None:
    """Every line is as wide as the screen, and nothing in it steers a terminal."""
    strips = app.screen._compositor.render_strips()
    assert len(strips) == app.size.height
    for strip in strips:
        text = "".join(segment.text for segment in strip if not segment.control)
        bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\u200d\ufe0f"]
        assert not bad, (app.page, bad, text)
        assert strip.cell_length == app.size.width, (app.page, text)


def nasty_engine() -> PuppetEngine:
    gpus = (Gpu("GPU-" + NASTY, 0, NASTY, 1024),)
    return PuppetEngine(
        [Agent(id="a1", host=NASTY, total=Resources(4, 4096, 10_000, 1, 10), gpus=gpus, attributes={NASTY: NASTY})]
    )


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_that_strangers_wrote_can_draw_anywhere(tmp_path: Path, size: tuple[int, int]) -> None:
    async with running_site(tmp_path, engine=nasty_engine()) as site:
        job = await site.running(
            NASTY,
            name=TRICKY,
            tags=["x\u202e界"],
            pipeline=TRICKY,
            run=TRICKY,
            environment={"A": NASTY},
            resources={"cpus": 1, "mem": 64},
        )
        site.engine.files[f"{job}.1"]["stdout"] += NASTY.encode() * 50
        site.engine.files[f"{job}.1"][NASTY] = bytearray(b"x")
        app = window(site)
        async with opened(app, size) as it:
            for keys in ("1", "K", "1p", "1s", "1c", "1?", "1:", "1/", "1\n", "wF", "1\nFd", "1\nz", "2K", "3",
                         "3\n", "4\n", "4a", "5", "6", "7"):  # fmt: skip
                for key in keys:
                    await it.press({"\n": "enter", "?": "question_mark", ":": "colon", "/": "slash"}.get(key, key))
                    await it.until(lambda: app.page is None or app.page.loaded.is_set())
                    await it.pilot.pause()
                    assert_harmless(app)
                while len(app.screen_stack) > 2:
                    app.pop_screen()
                await it.press("escape", "escape")
            assert not [notice for notice in app._notifications if "fault" in notice.message]
            assert app.is_running


class Between:
    """A way to the server that can be told to answer in its place, or to keep everybody waiting."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.status = 0
        self.way = asyncio.Event()
        self.way.set()
        self.waiting = 0
        self.refused = 0
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass the request on."""
        body = await request.read()
        self.waiting += 1
        await self.way.wait()
        self.waiting -= 1
        if self.status:
            self.refused += 1
            return web.json_response({"title": "no", "detail": "the \x1b[31mproxy says no"}, status=self.status)
        url = f"http://127.0.0.1:{self.site.port}{request.raw_path}"
        async with self.site.session.request(
            request.method, URL(url, encoded=True), data=body or None, headers=request.headers
        ) as reply:
            answer = web.StreamResponse(status=reply.status, headers=reply.headers)
            await answer.prepare(request)
            async for data in reply.content.iter_any():
                await answer.write(data)
            return answer


@asynccontextmanager
async def between(site: Site) -> AsyncIterator[Between]:
    gate = Between(site)
    runner = web.ServerRunner(web.Server(gate.answer), shutdown_timeout=0.01)  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gate.port = runner.addresses[0][1]
    try:
        yield gate
    finally:
        gate.way.set()
        await runner.cleanup()


async def test_keys_do_not_wait_for_a_slow_server(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site, between(site) as gate:
        for _ in range(3):
            await site.submit(held=True)
        app = window(site, ANN, gate.port)
        async with opened(app) as it:
            await it.until(lambda: "3 queued" in frame(app))
            gate.way.clear()
            for screen in ("agents", "gpus", "cluster", "users", "skylines", "job", "queue"):
                await app.action_go(screen)
                await it.press("question_mark")
                await it.says("keys and commands")
                await it.press("escape")
            await it.press("j", "j")
            assert gate.waiting
            assert any(line.split()[:2] == ["▌", "1"] for line in frame(app).splitlines())
            gate.way.set()
            await app.action_go("agents")
            await it.until(lambda: "host1" in frame(app))


@pytest.mark.parametrize("status", [403, 502])
async def test_a_server_that_says_no_is_told_and_forgiven(tmp_path: Path, status: int) -> None:
    async with running_site(tmp_path) as site, between(site) as gate:
        await site.submit(name="first", held=True)
        app = window(site, ANN, gate.port)
        async with opened(app, (120, 40)) as it:
            await it.until(lambda: "first" in frame(app))
            gate.status = status
            for screen in ("agents", "gpus", "cluster", "users", "skylines", "job", "queue"):
                await app.action_go(screen)
                await it.pilot.pause()
                assert_harmless(app)
            for _ in range(10):
                already = gate.refused
                await it.press("f5")
                await it.until(lambda: gate.refused > already)  # noqa: B023
            told = [notice.message for notice in app._notifications if "says no" in notice.message]
            assert told == ["the ␛[31mproxy says no"], "told once, however often it is asked"
            gate.status = 0
            await site.submit(name="second", held=True)
            await it.press("f5")
            await it.until(lambda: "second" in frame(app))
            assert not [notice for notice in app._notifications if "fault" in notice.message]


async def test_who_is_locked_out_is_told_why(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.submit(name="mine", held=True)
        app = window(site, ANN)
        async with opened(app) as it:
            await it.until(lambda: "mine" in frame(app))
            await site.core.db.apply([Change("users", ANN.key, replace(ANN, enabled=False))])
            await app.action_go("agents")
            await it.until(lambda: "disabled" in frame(app))
            await site.core.db.apply([Change("users", ANN.key, ANN)])
            await it.until(lambda: "host1" in frame(app))


async def test_a_click_on_the_name_of_a_stream_shows_it(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        job = await site.running("x")
        site.engine.files[f"{job}.1"]["stderr"] += b"what went wrong"
        app = window(site)
        async with opened(app) as it:
            await app.drill(JobPage(job))
            await it.until(lambda: "nothing written yet" in frame(app))
            await it.pilot.click("LogHead", offset=(10, 0))
            await it.until(lambda: "what went wrong" in frame(app))
            await it.pilot.click("LogHead", offset=(2, 0))
            await it.until(lambda: "nothing written yet" in frame(app))


def test_without_a_key_or_a_terminal_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    keyless = CliRunner().invoke(main, ["--server", "http://127.0.0.1:1"])
    assert (keyless.exit_code, "start 'retz-server' as this user once" in keyless.output) == (1, True)
    (tmp_path / "own.toml").write_text('[retz.access]\nkey = "a"\nsecret = "b"\n')
    (tmp_path / "own.toml").chmod(0o600)
    blind = CliRunner().invoke(main, ["--server", "http://127.0.0.1:1", "--config", str(tmp_path / "own.toml")])
    assert (blind.exit_code, "no terminal to draw on: '--once'" in blind.output) == (1, True), blind.output
