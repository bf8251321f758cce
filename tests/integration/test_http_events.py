"""The event stream: resumable, without gaps or repetitions, one's own events only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from retz.model.user import User
from retz.server.http import events, hub
from retz.store.database import Change

from .http_site import ANN, BOB, ROOT, Site, running_site

pytestmark = pytest.mark.anyio


class Received(NamedTuple):
    """One event of a stream."""

    seq: int
    kind: str
    data: Any


class Listening:
    """An open stream."""

    def __init__(self, response: Any) -> None:
        self._content = response.content

    async def next(self) -> Received:
        """The next event."""
        async with asyncio.timeout(30):
            fields: dict[str, str] = {}
            while line := (await self._content.readline()).decode():
                name, _, value = line.rstrip("\n").partition(":")
                if name:
                    fields[name] = value.strip()
                elif "id" in fields:
                    return Received(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        raise EOFError

    async def until_job(self, job_id: int, state: str) -> list[Received]:
        """Events up to the one that shows a job in a state."""
        received = [await self.next()]
        while (received[-1].data.get("id"), received[-1].data.get("state")) != (job_id, state):
            received.append(await self.next())
        return received

    async def ended(self) -> bool:
        """Whether the stream ends."""
        async with asyncio.timeout(30):
            return bool((await self._content.read()).strip() == b"")


@asynccontextmanager
async def listening(
    site: Site, query: str = "", user: User = ANN, headers: dict[str, str] | None = None
) -> AsyncIterator[Listening]:
    async with site.open("GET", f"/api/v2/events{query}", user, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Listening(response)


async def _a_jobs_life(site: Site, user: User = ANN) -> int:
    job_id = await site.running(user=user)
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    return job_id


async def test_the_life_of_a_job_as_events(site: Site) -> None:
    async with listening(site) as stream:
        hello = await stream.next()
        assert (hello.kind, hello.seq) == ("hello", site.core.db.published_seq)
        job_id = await site.submit(environment={"MY_TOKEN": "hidden"}, held=True)
        queued = await stream.next()
        assert (queued.kind, queued.data["id"], queued.data["state"]) == ("job", job_id, "QUEUED")
        assert queued.data["environment"] == {"MY_TOKEN": "<masked>"}
        assert queued.data.keys() == (await site.get(f"/jobs/{job_id}")).json.keys()
        await site.ask("DELETE", f"/api/v2/jobs/{job_id}")
        killed = await stream.next()
        assert (killed.data["state"], killed.seq > queued.seq > hello.seq) == ("KILLED", True)


async def test_applications_and_the_queues_mode_are_events(site: Site) -> None:
    async with listening(site) as stream:
        await stream.next()
        await site.ask("PUT", "/api/v2/applications/app", enabled=True)
        await site.ask("PUT", "/api/v2/applications/app", BOB, enabled=True)
        await site.ask("DELETE", "/api/v2/applications/app")
        await site.ask("PUT", "/api/v2/queue", ROOT, mode="paused")
        received = [await stream.next() for _ in range(3)]
        assert [event.kind for event in received] == ["application", "application", "queue"]
        assert received[0].data["name"] == "app"
        assert received[1].data == {"name": "app", "owner": "ann", "deleted": True}
        assert received[2].data == {"mode": "paused"}


async def test_everybody_hears_of_their_own_jobs_only(site: Site) -> None:
    async with listening(site) as anns, listening(site, "?user=*", ROOT) as roots, listening(site, "?user=ann", ROOT):
        await anns.next()
        await roots.next()
        await site.submit(user=BOB, held=True)
        job_id = await site.submit(held=True)
        assert (await anns.next()).data["id"] == job_id
        owners = [(await roots.next()).data["owner"] for _ in range(2)]
        assert set(owners) == {"ann", "bob"}
    assert (await site.get("/events?user=*", ANN)).status == 403
    assert (await site.get("/events?user=bob", ANN)).status == 403


async def test_resuming_misses_nothing_and_repeats_nothing(site: Site) -> None:
    first = await _a_jobs_life(site)
    window = (await site.get("/jobs?state=ALL")).json
    second = await _a_jobs_life(site)
    await _a_jobs_life(site, BOB)
    async with listening(site, f"?since={window['as_of']}") as stream:
        third = await site.submit(held=True)
        received = await stream.until_job(third, "QUEUED")
    states = [(event.data["id"], event.data["state"]) for event in received]
    assert states == [(second, s) for s in ("QUEUED", "STARTING", "STARTED", "FINISHED")] + [(third, "QUEUED")]
    seqs = [event.seq for event in received]
    assert seqs == sorted(set(seqs)) and seqs[0] > window["as_of"]
    async with listening(site, "?since=0", headers={"Last-Event-ID": str(seqs[1])}) as stream:
        assert await stream.until_job(third, "QUEUED") == received[2:]
    assert first < second


async def test_replay_and_live_meet_under_load(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REPLAY_PAGE", 7)
    since = site.core.db.published_seq
    for _ in range(30):
        await site.submit(held=True)

    async def submitting() -> None:
        for _ in range(100):
            await site.submit(held=True)

    load = asyncio.ensure_future(submitting())
    async with listening(site, f"?since={since}") as stream:
        received = await stream.until_job(130, "QUEUED")
    await load
    assert [event.data["id"] for event in received] == list(range(1, 131))


async def test_what_is_kept_no_more_is_a_reset(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await site.submit(held=True)
    monkeypatch.setattr(site.core.db, "events_since", lambda _seq, _limit: None)
    async with listening(site, "?since=1") as stream:
        reset = await stream.next()
        assert (reset.kind, reset.seq) == ("reset", site.core.db.published_seq)
        job_id = await site.submit(held=True)
        assert (await stream.next()).data["id"] == job_id


async def test_a_number_from_another_life_is_a_reset(site: Site) -> None:
    async with listening(site, "?since=999999999") as stream:
        assert (await stream.next()).kind == "reset"


async def test_resuming_from_disk(tmp_path: Path) -> None:
    async with running_site(tmp_path, ring=2) as site:
        since = site.core.db.published_seq
        ids = [await site.submit(held=True) for _ in range(10)]
        async with listening(site, f"?since={since}") as stream:
            received = await stream.until_job(ids[-1], "QUEUED")
        assert [event.data["id"] for event in received] == ids


async def test_a_client_that_is_too_slow_is_told_to_reload(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(site) as stream:
        await stream.next()
        monkeypatch.setattr(hub, "QUEUE_BYTES", 1500)
        reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "held": True}] * 20)
        reset = await stream.next()
        while reset.kind != "reset":
            reset = await stream.next()
        assert reset.seq >= site.core.db.published_seq - 20
        monkeypatch.undo()
        job_id = await site.submit(held=True)
        after = await stream.next()
        while after.data.get("id") != job_id:
            assert after.seq > reset.seq
            after = await stream.next()
    assert reply.status == 201
    assert b"retz_event_resets_total 1\n" in (await site.ask("GET", "/metrics", None)).body


async def test_a_disabled_users_stream_is_closed(site: Site) -> None:
    async with listening(site, user=BOB) as stream:
        await stream.next()
        await site.core.db.apply([Change("users", BOB.key, replace(BOB, enabled=False))])
        assert await stream.ended()


async def test_an_administrator_who_is_none_any_more_sees_no_more(site: Site) -> None:
    async with listening(site, "?user=*", ROOT) as stream:
        await stream.next()
        await site.core.db.apply([Change("users", ROOT.key, replace(ROOT, admin=False))])
        assert await stream.ended()


async def test_an_archived_job_is_no_event(site: Site) -> None:
    job_id = await _a_jobs_life(site)
    async with listening(site) as stream:
        await stream.next()
        await site.core.db.apply([Change("jobs", job_id, None)])
        last = await site.submit(held=True)
        assert (await stream.next()).data["id"] == last


async def test_a_heartbeat_keeps_an_idle_stream_alive(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)
    async with site.open("GET", "/api/v2/events") as response:
        async with asyncio.timeout(30):
            assert b"hello" in await response.content.readuntil(b"\n\n")
            assert await response.content.readuntil(b"\n\n") == b": alive\n\n"


async def test_streams_are_bounded_per_user(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 1)
    async with listening(site) as stream:
        await stream.next()
        reply = await site.get("/events")
        assert (reply.status, reply.json["type"]) == (429, "urn:retz:too-many")
        async with listening(site, user=BOB):
            assert b"retz_event_clients 2\n" in (await site.ask("GET", "/metrics", None)).body


async def test_nothing_is_left_when_clients_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)
    async with listening(site) as stream:
        await stream.next()
    async with asyncio.timeout(30):
        while b"retz_event_clients 0\n" not in (await site.ask("GET", "/metrics", None)).body:
            await site.submit(held=True)


async def test_the_servers_end_is_the_streams_end(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        job_id = await site.running()
        stream_of = listening(site)
        stream = await stream_of.__aenter__()
        await stream.next()
        following = asyncio.ensure_future(site.get(f"/jobs/{job_id}/file?follow=true"))
        waiting = asyncio.ensure_future(site.get(f"/jobs/{job_id}/wait"))
        await site.until(lambda: site.engine.open_readers and site.core.dispatcher.live._waiters)
        ended = asyncio.ensure_future(stream.ended())
        await site.shut()
        assert await ended
        assert (await following).status == 200
        assert (await waiting).json["state"] == "STARTED"
        await stream_of.__aexit__(None, None, None)
