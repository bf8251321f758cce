"""The estimator's application mounted in somebody else's server, who decides whose history a request is about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from estimator.config import EstimatorConfig
from estimator.lanes import Lanes
from estimator.service import PREFIX, build_app
from tests.doubles.estimator_service import TWO_RUNS

Ask = Callable[..., Awaitable[tuple[int, str]]]


def _mounted(place: Path, test: Callable[[Ask], Awaitable[None]]) -> None:
    """Play a test against a server where the header ``User`` decides, and must be there."""
    config = EstimatorConfig(solver="max", log_directories=(place,))

    async def store_for(request: web.Request) -> Path:
        await request.read()  # as one does who checks a body's signature
        if "User" not in request.headers:
            raise web.HTTPUnauthorized(text="who are you?")
        return place / request.headers["User"]

    async def main() -> None:
        lanes = Lanes(config)
        app = web.Application()
        app.add_subapp(PREFIX, build_app(lanes, store_for, config, may_read_logs=False))
        async with TestServer(app) as server, ClientSession() as session:

            async def ask(method: str, path: str, user: str | None, body: bytes | None = None) -> tuple[int, str]:
                headers = {} if user is None else {"User": user}
                url = server.make_url(f"{PREFIX}/{path}")
                async with session.request(method, url, headers=headers, data=body) as response:
                    return response.status, await response.text()

            await test(ask)
        await lanes.close()

    asyncio.run(main())


def test_one_users_history_is_not_anothers(tmp_path: Path) -> None:
    async def test(ask: Ask) -> None:
        status, report = await ask("POST", "translator", "ann", TWO_RUNS.encode())
        assert status == 200 and '"jobs":2' in report
        assert (await ask("GET", "pipelines", "ann"))[1] == '[{"pipelineId":"tpch_q12","runs":2,"predicted":false}]'
        assert (await ask("GET", "estimator/tpch_q12", "ann"))[0] == 200
        assert await ask("GET", "pipelines", "bob") == (200, "[]")
        assert (await ask("GET", "estimator/tpch_q12", "bob"))[0] == 503
        assert await ask("GET", "skylinestore/estimation/tpch_q12", "bob") == (200, "null")

    _mounted(tmp_path, test)


def test_the_refusal_of_who_mounts_it_comes_before_anything_else(tmp_path: Path) -> None:
    async def test(ask: Ask) -> None:
        for method, path in (
            ("GET", "pipelines"),
            ("GET", "estimator/p?nonsense=1"),
            ("GET", "estimator/p/plot.png"),
            ("GET", "skylinestore/history/p/*"),
            ("DELETE", "skylinestore/history/p/r"),
            ("POST", "translator/x"),
            ("POST", "translator"),
            ("POST", "skylinestore/history"),
            ("PUT", "skylinestore/history/p/r"),
        ):
            assert await ask(method, path, None) == (401, "who are you?")
        assert (await ask("GET", "health", None))[0] == 200

    _mounted(tmp_path, test)


def test_the_servers_disk_may_be_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TWO_RUNS)

    async def test(ask: Ask) -> None:
        for path in ("log", "nothing"):
            status, text = await ask("POST", f"translator/{path}", "ann")
            assert status == 403 and "send them in the body" in text

    _mounted(tmp_path, test)
