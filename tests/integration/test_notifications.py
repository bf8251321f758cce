"""Webhooks end to end: a real server core, a real receiver, real HTTP; only the clocks are the tests' own."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from retz.model.user import User
from retz.server.notify import courier, outbox
from retz.server.notify.courier import Sends
from retz.server.notify.lines import PER_USER, rest_s
from retz.server.notify.notifier import Notifier
from retz.server.notify.sender import Down, Refused
from retz.store.database import Change

from .http_site import ANN, BOB, ROOT, Site, running_site

pytestmark = pytest.mark.anyio

LOOPBACK: dict[str, object] = {"retz.notify.allow": "127.0.0.0/8, ::1"}
DOCS = Path(__file__).parents[2] / "docs"
SECRET_PATH = "/hook/very-secret?token=abc"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

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
async def notified(site: Site, sender: Sends | None = None, ticks: Clock | None = None) -> AsyncIterator[Notifier]:
    """The site's notifications, running. With ``ticks``, times between calls pass when the test says so."""
    notifier = Notifier(site.core, sender) if ticks is None else Notifier(site.core, sender, ticks)
    await notifier.start()
    try:
        yield notifier
    finally:
        await notifier.stop()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path, LOOPBACK) as running, notified(running):
        yield running


def verified(secret: str, signature: str, body: bytes) -> bool:
    """What a receiver does: the lines of docs/api.md."""
    found = re.search(r"```python\n(import hashlib.*?)```", (DOCS / "api.md").read_text(), re.DOTALL)
    assert found is not None
    lines: dict[str, Any] = {}
    exec(found[1], lines)
    return bool(lines["verified"](secret, signature, body))


def look(notifier: Notifier) -> None:
    """Let it see that time has passed."""
    assert notifier.courier is not None
    notifier.courier.wake()


async def failed_calls(site: Site, count: int) -> None:
    """Wait for so many calls that failed."""
    await site.until(lambda: site.core.outbox.tally.failed_calls == count)


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
    signature = headers["Retz-Signature"]
    assert verified(ANN.secret, signature, body)
    assert not verified(BOB.secret, signature, body)
    assert not verified(ANN.secret, signature, body.replace(b"FAILED", b"FINISHED"))
    old = f"t={int(time.time()) - 3600},{signature.partition(',')[2]}"
    assert not verified(ANN.secret, old, body), "the time is signed too"
    assert (headers["Retz-Event"], headers["Retz-Notice"]) == ("ended", f"{job_id}/ended")


async def test_nobody_is_told_who_did_not_ask(site: Site, receiver: Receiver) -> None:
    quiet = await site.running()
    site.engine.ended(f"{quiet}.1")
    await until_told(site, await ended(site, receiver.url))
    assert len(receiver.calls) == 1
    job = (await site.get(f"/jobs/{quiet}")).json
    assert job["on_end"] is None and job["news"] == []


class Script:
    """A sender that makes no calls but answers as the test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.documents: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.signatures: list[str] = []
        self.hold: asyncio.Event | None = None

    async def send(self, target: str, body: bytes, headers: dict[str, str]) -> None:
        self.documents.append(json.loads(body))
        self.bodies.append(body)
        self.signatures.append(headers["Retz-Signature"])
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error

    def ids(self) -> list[str]:
        return [str(document["id"]) for document in self.documents]


async def test_the_url_is_shown_to_nobody_and_the_news_to_its_owner_only(
    site: Site, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seq = site.core.db.seq
    job_id = await ended(site, receiver.url)
    await until_told(site, job_id)
    pages = [(await site.get(f"/jobs/{job_id}", user)).body for user in (ANN, ROOT)]
    pages.append((await site.get("/jobs?state=ALL&user=*", ROOT)).body)
    pages.append((await site.get("/audit", ROOT)).body)
    pages.append((await site.ask("GET", "/metrics", None)).body)
    streams = []
    for target, user in ((f"/api/v2/events?since={seq}", ANN), (f"/api/v2/events?since={seq}&user=*", ROOT)):
        async with site.open("GET", target, user) as response:
            text = b""
            while b'"FINISHED"' not in text:
                text += await response.content.readany()
            streams.append(text)
    for page in (*pages, *streams, caplog.text.encode()):
        assert b"very-secret" not in page and b"token=abc" not in page
    assert all(b"notices" not in stream and b"/ended" not in stream for stream in streams)
    assert json.loads(pages[0])["on_end"] == f"http://127.0.0.1:{receiver.port}/<masked>"
    assert (await site.get(f"/jobs/{job_id}", BOB)).status == 404
    assert (await site.get("/jobs?state=ALL")).json["jobs"][0]["news"] is None
    assert receiver.documents()[0]["job"]["on_end"].endswith("/<masked>"), "not even in what is sent"


@pytest.mark.parametrize("url", ["http://10.0.0.1/s3cret", "http://169.254.169.254/s3cret", "ftp://a/s3cret", "s3cret"])
async def test_urls_that_cannot_be_called_are_refused_at_once(site: Site, url: str) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", ANN, jobs=[{"command": "true"}, {"command": "true", "on_end": url}])
    assert reply.status == 422 and reply.json["errors"][0]["field"] == "jobs[1].on_end"
    assert b"s3cret" not in reply.body


async def test_an_array_tells_once_with_its_counts(site: Site, receiver: Receiver) -> None:
    whole = await site.submit(array="1-3%1", on_end=receiver.url)
    for place, code in enumerate((0, 7, 0)):
        task = f"{whole + 1 + place}.1"
        await site.until(lambda task=task: any(t.id == task for t in site.engine.launched))
        site.engine.ended(task, code)
    await until_told(site, whole)
    (document,) = receiver.documents()
    array = document["job"]["array"]
    assert (document["id"], array["finished"], array["failed"]) == (f"{whole}/ended", 2, 1)
    task = (await site.get(f"/jobs/{whole}_2")).json
    assert task["on_end"] is None and task["news"] == []


async def test_every_way_to_end_is_told(site: Site, receiver: Receiver) -> None:
    url = receiver.url
    running = await site.running(on_end=url)
    held = await site.submit(on_end=url, held=True)
    failing = await site.running()
    doomed = await site.submit(on_end=url, after=[str(failing)])
    grouped = await site.running(group="g", max_fails=1)
    dropped = await site.submit(on_end=url, group="g", max_fails=1, held=True)
    array = await site.submit(on_end=url, array="1-5", held=True)
    lost = await site.running(on_end=url, max_retries=0)
    await site.ask("DELETE", f"/api/v2/jobs/{running}")
    site.engine.ended(f"{running}.1", 1)
    await site.ask("DELETE", f"/api/v2/jobs/{held}")
    await site.ask("POST", "/api/v2/jobs/kill", ANN, ids=[array])
    site.engine.ended(f"{failing}.1", 1)
    site.engine.ended(f"{grouped}.1", 1)
    site.engine.lost(f"{lost}.1")
    for job_id in (running, held, doomed, dropped, array, lost):
        await until_told(site, job_id)
    assert {d["job"]["id"]: d["job"]["reason"] for d in receiver.documents()} == {
        running: "user", held: "user", doomed: "dependency", dropped: "max_fails", array: "user", lost: "lost",
    }  # fmt: skip
    assert len(receiver.calls) == 6


async def test_a_job_submitted_again_tells_again(site: Site, receiver: Receiver) -> None:
    first = await ended(site, receiver.url)
    reply = await site.ask("POST", "/api/v2/jobs/resubmit", ANN, ids=[first])
    again = reply.json["results"][0]["new_id"]
    await site.until(lambda: any(task.id == f"{again}.1" for task in site.engine.launched))
    site.engine.ended(f"{again}.1")
    await until_told(site, again)
    assert [document["job"]["id"] for document in receiver.documents()] == [first, again]


async def test_a_receiver_that_fails_for_an_hour_is_told_in_the_end(tmp_path: Path) -> None:
    script, ticks = Script(), Clock()
    script.error = Down("it answered 500")
    async with running_site(tmp_path, LOOPBACK) as site, notified(site, script, ticks) as notifier:
        job_id = await ended(site, "https://hook.test/")
        calls, due = 1, rest_s(1)
        await site.until(lambda: script.ids() == [f"{job_id}/ended"] and site.core.outbox.tally.failed_calls == 1)
        while ticks.now < 3600:
            ticks.now += 60
            if ticks.now >= due:
                calls += 1
                due = ticks.now + rest_s(calls)
            look(notifier)
            await failed_calls(site, calls)
        assert calls < 12
        waiting = await news(site, job_id)
        assert (waiting["state"], waiting["tries"], waiting["error"]) == ("waiting", calls, "it answered 500")
        script.error = None
        ticks.now += 900
        look(notifier)
        assert (await until_told(site, job_id))["tries"] == calls + 1
        assert len(set(script.ids())) == 1, "the same id each time: a receiver knows it again"


async def test_after_a_day_it_is_given_up(tmp_path: Path) -> None:
    script, ticks = Script(), Clock()
    script.error = Refused("it answered 404")
    async with running_site(tmp_path, LOOPBACK) as site:
        clock, ahead = site.core.clock, 0.0
        site.core.clock = lambda: clock() + ahead
        async with notified(site, script, ticks) as notifier:
            job_id = await ended(site, "https://hook.test/")
            await failed_calls(site, 1)
            assert (await news(site, job_id))["state"] == "waiting"
            ahead, ticks.now = courier.KEEP_TRYING_S + 1, courier.KEEP_TRYING_S
            look(notifier)
            told = await until_told(site, job_id, "given-up")
            assert (told["tries"], told["error"]) == (2, "it answered 404")
            ticks.now += courier.KEEP_TRYING_S
            look(notifier)
            await site.core.settled()
        assert len(script.documents) == 2 and not site.core.outbox.waiting


async def test_what_was_not_told_before_a_restart_is_told_after_it_from_the_archive(
    tmp_path: Path, receiver: Receiver
) -> None:
    script = Script()
    script.hold = asyncio.Event()
    async with running_site(tmp_path, LOOPBACK) as site, notified(site, script):
        job_id = await ended(site, receiver.url)
        await site.until(lambda: script.documents)
        job = site.core.find(job_id)
        assert job is not None
        site.core.archive.append([job])
        site.core.dispatcher.apply([Change("jobs", job_id, None)])
        await site.core.settled()
        await site.core.db.compact()
    async with running_site(tmp_path, LOOPBACK) as site, notified(site):
        await until_told(site, job_id)
    assert [document["id"] for document in receiver.documents()] == [f"{job_id}/ended"]
    async with running_site(tmp_path, LOOPBACK) as site, notified(site):
        assert (await news(site, job_id))["state"] == "delivered", "still known, and told no more"
    assert len(receiver.calls) == 1


async def test_a_hanging_receiver_holds_up_nobody_else(site: Site, receiver: Receiver) -> None:
    stuck = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await stuck.wait()
        return web.Response()

    async with receiving() as other:
        receiver.answer = hang
        first = await ended(site, receiver.url)
        await site.until(lambda: receiver.calls)
        second = await ended(site, receiver.url)
        await until_told(site, await ended(site, other.url))
        assert (await news(site, first))["state"] == "waiting"
        stuck.set()
        await until_told(site, second)


async def test_beyond_the_bound_news_is_dropped_and_counted_and_the_queue_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 50)
    script, ticks = Script(), Clock()
    script.error = Down("no connection")
    async with running_site(tmp_path, LOOPBACK) as site, notified(site, script, ticks) as notifier:
        jobs = [{"command": "true", "held": True, "on_end": f"https://dead.test/{n}"} for n in range(450)]
        ids = (await site.ask("POST", "/api/v2/jobs", ANN, jobs=jobs)).json["ids"]
        assert (await site.ask("POST", "/api/v2/jobs/kill", ANN, ids=ids)).json["ok"] == 450
        await failed_calls(site, PER_USER)
        assert len(site.core.outbox.waiting) == 50 and site.core.outbox.tally.dropped == 400
        for rest in (1, 2, 3):
            ticks.now += rest_s(rest)
            look(notifier)
            await failed_calls(site, PER_USER + rest)
        assert len(script.documents) == PER_USER + 3, "a dead receiver costs one call per rest, whatever waits for it"
        assert (await site.get(f"/jobs/{ids[-1]}")).json["news"] == []
        page = (await site.ask("GET", "/metrics", None)).body.decode()
        assert "retz_notifications_waiting 50\n" in page
        assert 'retz_notifications_total{result="dropped"} 400\n' in page
        script.error = None
        bobs = await site.running(user=BOB, on_end="https://alive.test/")
        site.engine.ended(f"{bobs}.1")
        await site.until(lambda: f"{bobs}/ended" in script.ids())


async def test_what_is_known_of_old_news_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_DONE", 3)
    async with running_site(tmp_path, LOOPBACK) as site, notified(site, Script()):
        ids = [await ended(site, "https://hook.test/") for _ in range(5)]
        await until_told(site, ids[-1])
        assert [len(site.core.outbox.of_job(job_id)) for job_id in ids] == [0, 0, 1, 1, 1]
        assert len(site.core.db.notices.records()) == 3


async def test_a_disabled_user_tells_nothing_and_later_with_the_secret_of_then(tmp_path: Path) -> None:
    script, ticks = Script(), Clock()
    options = {**LOOPBACK, "retz.shared-uid": True}
    async with running_site(tmp_path, options) as site, notified(site, script, ticks) as notifier:
        job_id = await site.running(on_end="https://hook.test/")
        assert (await site.ask("PATCH", "/api/v2/users/ann", ROOT, enabled=False)).status == 200
        site.engine.ended(f"{job_id}.1")
        await failed_calls(site, 1)
        assert script.documents == []
        assert (await news(site, job_id, ROOT))["error"] == "its owner is disabled"
        assert (await site.ask("PATCH", "/api/v2/users/ann", ROOT, enabled=True)).status == 200
        secret = (await site.ask("POST", "/api/v2/users/ann/secret", ROOT)).json["secret"]
        ticks.now += rest_s(1)
        look(notifier)
        await site.until(lambda: script.documents)
        assert secret != ANN.secret and verified(secret, script.signatures[0], script.bodies[0])
        assert not verified(ANN.secret, script.signatures[0], script.bodies[0])


async def test_a_fault_of_ours_loses_no_news_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script, ticks = Script(), Clock()
    script.error = KeyError("https://hook.test/secret")
    async with running_site(tmp_path, LOOPBACK) as site, notified(site, script, ticks) as notifier:
        first = await ended(site, "https://hook.test/")
        await failed_calls(site, 1)
        script.error = None
        second = await ended(site, "https://hook.test/")
        await until_told(site, second)
        assert (await news(site, first))["error"] == "the server met an unexpected error"
        assert "KeyError" in caplog.text and "secret" not in caplog.text
        ticks.now += rest_s(1)
        look(notifier)
        await until_told(site, first)


async def test_news_that_comes_twice_from_the_journal_is_told_once(tmp_path: Path) -> None:
    script, ticks = Script(), Clock()
    script.hold = asyncio.Event()
    async with running_site(tmp_path, LOOPBACK) as site, notified(site, script, ticks) as notifier:
        job_id = await ended(site, "https://hook.test/")
        await site.until(lambda: script.documents)
        assert notifier.courier is not None
        notifier.courier.take([f"{job_id}/ended"])
        other = await ended(site, "https://other.test/")
        await site.until(lambda: f"{other}/ended" in script.ids())
        assert script.ids().count(f"{job_id}/ended") == 1
        script.hold.set()
        await until_told(site, job_id)
