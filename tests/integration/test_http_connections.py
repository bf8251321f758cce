"""Connections: silent, slow and half-open ones do not hold others. Ten thousand of them: test_hostile_user.py."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from retz.auth import authorization
from retz.server.http import build_runner
from retz.server.http import connections as limits
from retz.server.http.api import Api
from retz.server.http.connections import Gate, harden, most_connections, most_per_user

from .http_site import ANN, BOB, Site, running_site

pytestmark = pytest.mark.anyio

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HALF_A_REQUEST = b"GET /ping HTTP/1.1\r\nHost: x\r\nX-"


@asynccontextmanager
async def gated(tmp_path: Path, gate: Gate) -> AsyncIterator[Site]:
    """A site with limits of its own."""
    async with running_site(tmp_path) as site:
        runner = build_runner(site.core, gate=gate)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.port = runner.addresses[0][1]
        yield site
        await runner.cleanup()


async def connect(site: Site, sent: bytes = b"") -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def ended(connection: Connection) -> bool:
    """Wait until the server has closed it."""
    reader, writer = connection
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    return True


async def ping(connection: Connection) -> bytes:
    reader, writer = connection
    writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    return await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("sent", [b"", HALF_A_REQUEST, b"GET"])
async def test_a_connection_that_never_asks_is_ended(tmp_path: Path, sent: bytes) -> None:
    async with gated(tmp_path, Gate(100, first_request_s=0.05)) as site:
        assert await ended(await connect(site, sent))


async def test_dripping_headers_does_not_help(tmp_path: Path) -> None:
    async with gated(tmp_path, Gate(100, first_request_s=0.3)) as site:
        reader, writer = await connect(site, HALF_A_REQUEST)

        async def drip() -> None:
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert await ended((reader, writer))
        with contextlib.suppress(ConnectionError):
            await dripping


async def test_who_has_asked_once_is_not_silent(tmp_path: Path) -> None:
    gate = Gate(100, first_request_s=0.5)
    async with gated(tmp_path, gate) as site:
        connection = await connect(site)
        assert b" 200 " in await ping(connection)
        assert await ended(await connect(site))  # by now the time of the first one would be over, too
        assert b" 200 " in await ping(connection)
        connection[1].close()


async def test_the_silent_make_room_for_others(tmp_path: Path) -> None:
    gate = Gate(10)
    async with gated(tmp_path, gate) as site:
        talking = await connect(site)
        assert b" 200 " in await ping(talking)
        silent = [await connect(site, HALF_A_REQUEST) for _ in range(30)]
        assert b" 200 " in await ping(await connect(site))
        assert await ended(silent[0])
        assert b" 200 " in await ping(talking)
        assert gate.turned_away >= 21
        for _, writer in (*silent, talking):
            writer.close()


async def test_when_everybody_has_asked_newcomers_are_turned_away(tmp_path: Path) -> None:
    gate = Gate(5)
    async with gated(tmp_path, gate) as site:
        asked = [await connect(site) for _ in range(5)]
        for connection in asked:
            assert b" 200 " in await ping(connection)
        assert await ended(await connect(site))
        assert b" 200 " in await ping(asked[0])
        asked[1][1].close()
        await asked[1][1].wait_closed()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    assert b" 200 " in await ping(await connect(site))
                    break
        for _, writer in asked:
            writer.close()


async def test_one_user_does_not_have_all_requests(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Api] = []
    init = Api.__init__

    def remember(self: Api, *arguments: object) -> None:
        init(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Api, "__init__", remember)
    monkeypatch.setattr(limits, "FEWEST_PER_USER", 3)
    monkeypatch.setattr("retz.server.http.app.most_connections", lambda: 4)
    runner = build_runner(site.core)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    job_id = await site.submit(held=True)
    waits = [asyncio.create_task(site.get(f"/jobs/{job_id}/wait?timeout_s=60")) for _ in range(3)]
    await site.until(lambda: made[0].under_way.get("ann") == 3)
    reply = await site.get("/jobs")
    assert (reply.status, reply.json["type"]) == (429, "urn:retz:too-many")
    assert (await site.get("/jobs", BOB)).status == 200
    await site.core.actions.act(ANN, "kill", [job_id])
    assert [reply.status for reply in await asyncio.gather(*waits)] == [200] * 3
    assert (await site.get("/jobs")).status == 200
    assert made[0].under_way == {}
    await runner.cleanup()


def test_there_are_fewer_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((64, 48), (1024, 768), (20_000, 18_976), (resource.RLIM_INFINITY, (1 << 20) - 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, soft=soft: (soft, soft))
        assert most_connections() == most
    assert (most_per_user(50), most_per_user(10_000)) == (100, 5000)


def test_accepted_connections_inherit_the_kernels_limits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        harden(listening)
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == limits.UNREAD_S * 1000
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == limits.KEEPALIVE_IDLE_S
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_half_open_uploads_do_not_hold_others(site: Site) -> None:
    """Signed, with a body announced that never comes."""
    body = b"x" * 1000
    headers = authorization(BOB.key, BOB.secret, "POST", "/api/v2/jobs", body, time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n{lines}\r\n".encode()
    stuck = [await connect(site, head + b"x") for _ in range(50)]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{site.port}/ping") as response:
        assert response.status == 200
    assert await site.submit() > 0
    for _, writer in stuck:
        writer.close()
