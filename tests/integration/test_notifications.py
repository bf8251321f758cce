"""Webhooks end to end: a real server core, a real receiver, real HTTP; only the clocks are the tests' own."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from retz.model.user import User
from retz.server.notify.courier import Sends
from retz.server.notify.document import key_of
from retz.server.notify.notifier import Notifier

from .http_site import ANN, Site, running_site

pytestmark = pytest.mark.anyio

LOOPBACK: dict[str, object] = {"retz.notify.allow": "127.0.0.0/8, ::1"}
SECRET_PATH = "/hook/very-secret?token=abc"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Receiver:
    """A web server that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answer: Answer = self.fine
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{SECRET_PATH}"

    async def fine(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="thanks")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((dict(request.headers), await request.read()))
        return await self.answer(request)

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.calls]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", r"/{rest:[\s\S]*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@asynccontextmanager
async def notified(site: Site, sender: Sends | None = None, clock: Clock | None = None) -> AsyncIterator[Notifier]:
    """The site's notifications, running. With ``clock``, times between calls pass when the test says so."""
    notifier = Notifier(site.core, sender, **({} if clock is None else {"ticks": clock}))  # type: ignore[arg-type]
    await notifier.start()
    try:
        yield notifier
    finally:
        await notifier.stop()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path, LOOPBACK) as running, notified(running):
        yield running


async def ended(site: Site, url: str, code: int = 0, **fields: Any) -> int:
    """A job that runs and ends."""
    job_id = await site.running(on_end=url, **fields)
    site.engine.ended(f"{job_id}.1", code)
    return job_id


async def news(site: Site, job_id: int, user: User = ANN) -> dict[str, Any]:
    """How it stands with telling of a job."""
    (only,) = (await site.get(f"/jobs/{job_id}", user)).json["news"]
    return dict(only)


async def until_told(site: Site, job_id: int, state: str = "delivered") -> dict[str, Any]:
    """Wait for the end of telling; how it went."""
    await site.until(lambda: [n.state for n in site.core.outbox.of_job(job_id)] == [state])
    return await news(site, job_id)


async def test_the_end_of_a_job_is_told_once_with_a_signature(site: Site, receiver: Receiver) -> None:
    job_id = await ended(site, receiver.url, 3, name="train", environment={"PLAIN": "v", "MY_TOKEN": "t"})
    told = await until_told(site, job_id)
    assert told["event"] == "ended" and told["tries"] == 1 and told["error"] is None and told["done"]
    ((headers, body),) = receiver.calls
    document = json.loads(body)
    assert (document["event"], document["id"]) == ("ended", f"{job_id}/ended")
    job = document["job"]
    assert (job["state"], job["exit_code"], job["owner"], job["name"]) == ("FAILED", 3, "ann", "train")
    assert job["environment"] == {}, "an environment holds secrets and goes to nobody"
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["Retz-Signature"])
    assert found is not None
    signed = hmac.new(key_of(ANN.secret), found[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert found[2] == signed
    assert (headers["Retz-Event"], headers["Retz-Notice"]) == ("ended", f"{job_id}/ended")


async def test_nobody_is_told_who_did_not_ask(site: Site, receiver: Receiver) -> None:
    quiet = await site.running()
    site.engine.ended(f"{quiet}.1")
    await until_told(site, await ended(site, receiver.url))
    assert len(receiver.calls) == 1
    job = (await site.get(f"/jobs/{quiet}")).json
    assert job["on_end"] is None and job["news"] == []
