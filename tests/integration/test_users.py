"""Users: made, changed and cut off by administrators; what is recorded of that; who used what."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from retz.auth import authorization
from retz.model.job import Attempt, Job, Usage
from retz.model.resources import Resources
from retz.model.user import User
from retz.server import audit
from retz.server.audit import Actor
from retz.server.http.table import ROUTES
from retz.store.database import Change, Database

from .http_site import ANN, BOB, ROOT, Site, running_site

pytestmark = pytest.mark.anyio

USERS = "/api/v2/users"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server whose users may share a Unix user, whoever runs the tests."""
    async with running_site(tmp_path, {"retz.shared-uid": True}) as running:
        yield running


async def create(site: Site, **fields: Any) -> User:
    reply = await site.ask("POST", USERS, ROOT, users=[fields])
    assert reply.status == 201, reply
    (made,) = reply.json["users"]
    return User(key=made["key"], secret=made["secret"], admin=made["admin"])


async def change(site: Site, user: User, **fields: Any) -> Any:
    return await site.ask("PATCH", f"{USERS}/{user.key}", ROOT, **fields)


async def recorded(site: Site) -> list[tuple[str, str, list[str], str]]:
    records = (await site.get("/audit", ROOT)).json["records"]
    assert all(record["origin"] == "127.0.0.1" for record in records)
    return [(r["who"], r["what"], r["whom"], r["detail"]) for r in records]


# -- making and changing ---------------------------------------------------------------------------------------------


async def test_a_new_user_gets_a_random_key_and_a_secret_that_is_told_once(site: Site) -> None:
    carol, dave = await create(site, info="Carol"), await create(site, info="Dave")
    words = {carol.key, carol.secret, dave.key, dave.secret}
    assert len(words) == 4 and all(len(word) == 32 and int(word, 16) >= 0 for word in words)
    assert (await site.get("/jobs", carol)).status == 200
    for target in ("/users", f"/users/{carol.key}", "/audit"):
        reply = await site.get(target, ROOT)
        assert reply.status == 200
        assert carol.secret.encode() not in reply.body and b'"secret"' not in reply.body
    shown = (await site.get(f"/users/{carol.key}", ROOT)).json
    assert {name: shown[name] for name in ("key", "enabled", "admin", "info", "unix_user")} == {
        "key": carol.key, "enabled": True, "admin": False, "info": "Carol", "unix_user": None,
    }  # fmt: skip
    assert [user["key"] for user in (await site.get("/users", ROOT)).json["users"]][-1] in (carol.key, dave.key)


async def test_many_users_are_made_or_none(site: Site) -> None:
    before = len(site.core.users.all())
    reply = await site.ask("POST", USERS, ROOT, users=[{"info": "a"}, {"unix_user": "no-such-user-here"}])
    assert (reply.status, "adduser" in reply.json["detail"]) == (422, True)
    assert len(site.core.users.all()) == before
    reply = await site.ask("POST", USERS, ROOT, users=[{"info": str(number)} for number in range(5)])
    assert [user["info"] for user in reply.json["users"]] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "fields",
    [{"users": []}, {"users": [{"key": "mine"}]}, {"users": [{"info": "a\nb"}]}, {"users": [{"info": "\x1b[31m"}]},
     {"users": [{"unix_user": "a b"}]}, {"users": [{"info": "x" * 1001}]}],
)  # fmt: skip
async def test_what_is_no_user_is_refused(site: Site, fields: dict[str, Any]) -> None:
    assert (await site.ask("POST", USERS, ROOT, **fields)).status == 400


async def test_admin_info_and_unix_user_can_be_changed(site: Site) -> None:
    reply = await change(site, BOB, info="Bob B.", admin=True, unix_user="nobody")
    assert (reply.json["info"], reply.json["admin"], reply.json["unix_user"]) == ("Bob B.", True, "nobody")
    assert (await site.get("/users", BOB)).status == 200
    assert (await change(site, BOB, unix_user="")).json["unix_user"] is None
    assert (await change(site, replace(BOB, key="nobody-here"), info="x")).status == 404
    assert (await change(site, BOB, secret="mine")).status == 400


async def test_nobody_is_mapped_to_root(site: Site) -> None:
    reply = await change(site, BOB, unix_user="root")
    assert (reply.status, "root" in reply.json["detail"]) == (422, True)


async def test_the_last_administrator_stays_one(site: Site) -> None:
    for fields in ({"enabled": False}, {"admin": False}):
        reply = await change(site, ROOT, **fields)
        assert (reply.status, "last enabled administrator" in reply.json["detail"]) == (409, True)
    second = await create(site, admin=True)
    await change(site, second, enabled=False)
    assert (await change(site, ROOT, admin=False)).status == 409
    await change(site, second, enabled=True)
    assert (await change(site, ROOT, enabled=False)).status == 200
    assert (await site.get("/users", ROOT)).status == 403
    assert (await site.get("/users", second)).status == 200


# -- one Unix user for several people ------------------------------------------------------------------------------


async def test_a_second_user_of_one_unix_user_is_refused_and_told_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    async with running_site(tmp_path) as site:
        reply = await site.ask("POST", USERS, ROOT, users=[{"info": "Carol"}])
        assert (reply.status, reply.json["type"]) == (409, "urn:retz:conflict")
        assert all(word in reply.json["detail"] for word in ("uid 1234", "read", "--shared-uid", "retz.shared-uid"))
        for user in (ANN, BOB):
            assert (await change(site, user, enabled=False)).status == 200
        assert (await change(site, ANN, enabled=True)).status == 409
        assert site.core.users.sharing() is None
        site.core.users._config = replace_config(site.core.config, shared_uid=True)
        assert (await change(site, ANN, enabled=True)).status == 200
        site.core.users._config = site.core.config  # started again without it
        assert "set retz.shared-uid" in (site.core.users.sharing() or "")


async def test_a_server_of_roots_keeps_users_apart_by_their_unix_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    async with running_site(tmp_path, {"retz.local.user": "root"}) as site:
        await change(site, ANN, enabled=False)
        await change(site, BOB, enabled=False)
        reply = await site.ask("POST", USERS, ROOT, users=[{"info": "Carol"}])
        assert (reply.status, "--unix-user" in reply.json["detail"]) == (409, True)
        reply = await site.ask("POST", USERS, ROOT, users=[{"unix_user": "nobody"}, {"unix_user": "nobody"}])
        assert reply.status == 409
        assert [error["field"] for error in reply.json["errors"]] == ["users[1].unix_user"]
        before = len(site.core.users.all())
        wanted = ["nobody", "nobody", "no-such-user", "root", "daemon", None]
        reply = await site.ask("POST", USERS, ROOT, users=[{"unix_user": name} for name in wanted])
        assert (reply.status, reply.json["detail"]) == (409, reply.json["errors"][0]["message"])
        blamed = {error["field"]: error["message"] for error in reply.json["errors"]}
        assert list(blamed) == [f"users[{place}].unix_user" for place in (1, 2, 3, 5)]
        assert "no Unix user 'no-such-user'" in blamed["users[2].unix_user"]
        reply = await site.ask("POST", USERS, ROOT, users=[{"unix_user": "no-such-user"}] * 1000)
        assert (reply.status, len(reply.json["errors"])) == (422, 20)
        assert len(site.core.users.all()) == before, "all or none"
        assert (await site.ask("POST", USERS, ROOT, users=[{"unix_user": "nobody"}])).status == 201
        reply = await change(site, BOB, enabled=True, unix_user="nobody")
        assert (reply.status, "nobody" in reply.json["detail"]) == (409, True)
        assert (await change(site, BOB, enabled=True, unix_user="daemon")).status == 200


def replace_config(config: Any, **fields: Any) -> Any:
    from dataclasses import replace as replace_dataclass

    return replace_dataclass(config, **fields)


# -- cut off at once ------------------------------------------------------------------------------------------------


async def disable(site: Site, user: User) -> None:
    assert (await change(site, user, enabled=False)).status == 200


async def rotate(site: Site, user: User) -> None:
    reply = await site.ask("POST", f"{USERS}/{user.key}/secret", ROOT)
    assert (reply.status, len(reply.json["secret"])) == (200, 32)


@pytest.mark.parametrize("cut_off", [disable, rotate])
async def test_open_answers_end_at_once(site: Site, cut_off: Any) -> None:
    job_id = await site.running(user=BOB)
    site.engine.files[f"{job_id}.1"]["stdout"] += b"begin"
    await site.submit(user=ANN)
    waiting = asyncio.create_task(site.get(f"/jobs/{job_id}/wait?timeout_s=3", BOB))
    async with (
        site.open("GET", "/api/v2/events", BOB) as events,
        site.open("GET", "/api/v2/events", ANN) as others,
        site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true", BOB) as followed,
    ):
        assert b"hello" in await events.content.readuntil(b"\n\n")
        assert b"hello" in await others.content.readuntil(b"\n\n")
        assert await followed.content.readexactly(5) == b"begin"
        await cut_off(site, BOB)
        site.engine.files[f"{job_id}.1"]["stdout"] += b"confidential"
        async with asyncio.timeout(30):
            assert await followed.read() == b""
            assert b"job" not in await events.read()
        site.engine.ended(f"{job_id}.1")
        assert (await waiting).status == 403
        mine = await site.submit(user=ANN)
        assert str(mine).encode() in await others.content.readuntil(b"\n\n")
    assert site.engine.open_readers == 0


async def test_a_download_under_way_ends(site: Site) -> None:
    job_id = await site.running(user=BOB)
    size = 64 << 20
    site.engine.files[f"{job_id}.1"]["stdout"] += bytes(size)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file", BOB) as download:
        await download.content.readexactly(1000)
        await disable(site, BOB)
        got = 1000
        with contextlib.suppress(aiohttp.ClientPayloadError, ConnectionError):
            while chunk := await download.content.readany():
                got += len(chunk)
        assert got < size


async def test_a_request_that_arrives_slowly_is_looked_at_again_at_its_end(site: Site) -> None:
    body = b'{"jobs":[{"command":"true"}]}'
    headers = authorization(BOB.key, BOB.secret, "POST", "/api/v2/jobs", body, time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode())
    writer.write(body[:9])
    await writer.drain()
    # Another connection's answer: by then the server has read the first part.
    assert (await site.get("/status", BOB)).status == 200
    await disable(site, BOB)
    writer.write(body[9:])
    assert b" 403 " in await reader.readline()
    writer.close()
    assert site.core.db.jobs.all_ids() == []


async def test_old_signatures_end_with_the_secret(site: Site) -> None:
    reply = await site.ask("POST", f"{USERS}/bob/secret", ROOT)
    assert (await site.get("/jobs", BOB)).status == 401
    assert (await site.get("/jobs", replace(BOB, secret=reply.json["secret"]))).status == 200


async def test_who_is_no_administrator_any_more_hears_no_more_of_others(site: Site) -> None:
    second = await create(site, admin=True)
    async with site.open("GET", "/api/v2/events?user=*", second) as events:
        await events.content.readuntil(b"\n\n")
        await change(site, second, admin=False)
        await site.submit(user=ANN)
        async with asyncio.timeout(30):
            assert b"event: job" not in await events.read()


# -- the audit record ---------------------------------------------------------------------------------------------


async def test_what_administrators_do_is_recorded(site: Site) -> None:
    carol = await create(site, info="Carol", unix_user="nobody")
    await change(site, carol, info="Caroline")
    await disable(site, carol)
    await change(site, carol, enabled=True)
    await rotate(site, carol)
    first, second = await site.submit(user=ANN), await site.submit(user=BOB, held=True)
    own = await site.submit(user=ROOT)
    await site.ask("POST", "/api/v2/jobs/kill", ROOT, ids=[first, second, own])
    await site.ask("DELETE", f"/api/v2/jobs/{await site.submit(user=ROOT)}", ROOT)
    await site.ask("PUT", "/api/v2/queue", ROOT, mode="paused")
    await site.ask("POST", "/api/v2/gc", ROOT, older_than_s=60)
    assert await recorded(site) == [
        ("root", "create-user", [carol.key], "info = 'Carol', unix_user = 'nobody'"),
        ("root", "set-user", [carol.key], "info = 'Caroline'"),
        ("root", "disable-user", [carol.key], ""),
        ("root", "enable-user", [carol.key], ""),
        ("root", "rotate-secret", [carol.key], ""),
        ("root", "kill", ["ann", "bob"], f"jobs {first}, {second}"),
        ("root", "queue", [], "paused"),
        ("root", "gc", [], "sandboxes older than 60 s"),
    ]


async def test_what_users_do_with_their_own_is_not_recorded(site: Site) -> None:
    await site.ask("DELETE", f"/api/v2/jobs/{await site.submit()}")
    for user in (ANN, ROOT):
        assert (await site.get(f"/jobs/{await site.running(user=user)}/file", user)).status == 200
    assert await recorded(site) == []


async def test_files_of_others_are_read_on_record(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [await site.running(user=ANN), await site.running(user=ANN), await site.running(user=BOB)]
    for path in (f"/jobs/{jobs[0]}", "/jobs?user=*", f"/jobs/{jobs[0]}/why", "/usage?user=*"):
        assert (await site.get(path, ROOT)).status == 200
    assert await recorded(site) == []  # what is no file
    for _ in range(3):
        assert (await site.get(f"/jobs/{jobs[0]}/file", ROOT)).status == 200
    for job_id in jobs:
        assert (await site.get(f"/jobs/{job_id}/files", ROOT)).status == 200
    assert (await site.get(f"/jobs/{jobs[0]}/file", BOB)).status == 404
    first = [
        ("root", "read", ["ann"], f"files of jobs {jobs[0]}, {jobs[1]}"),
        ("root", "read", ["bob"], f"files of job {jobs[2]}"),
    ]
    assert await recorded(site) == first
    now = site.core.clock() + audit.READS_S
    monkeypatch.setattr(site.core.audit, "_clock", lambda: now)
    assert (await site.get(f"/jobs/{jobs[0]}/file", ROOT)).status == 200
    assert await recorded(site) == [*first, ("root", "read", ["ann"], f"files of job {jobs[0]}")]
    assert len(site.core.audit._reads) == 1


async def test_without_a_disk_files_are_still_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await site.running(user=ANN)
    monkeypatch.setattr(type(site.core), "read_only", "the disk is full")
    assert (await site.get(f"/jobs/{job_id}/file", ROOT)).status == 200
    assert site.core.audit._reads == {}


async def test_records_are_in_the_journal_and_read_by_time(site: Site, tmp_path: Path) -> None:
    await change(site, BOB, info="one")
    middle = datetime.now(UTC).isoformat()
    await change(site, BOB, info="two")
    target = f"/audit?since={middle.replace('+', '%2B')}"
    assert [r["detail"] for r in (await site.get(target, ROOT)).json["records"]] == ["info = 'two'"]
    target = target.replace("since", "until")
    assert [r["detail"] for r in (await site.get(target, ROOT)).json["records"]] == ["info = 'one'"]
    assert [r["detail"] for r in (await site.get("/audit?limit=1", ROOT)).json["records"]] == ["info = 'two'"]
    with Database.open(tmp_path, read_only=True) as opened:
        details = [record.detail for record in opened.audit.records().values()]
    assert sorted(details) == ["info = 'one'", "info = 'two'"]


async def test_old_records_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await change(site, BOB, info="old")
    now = site.core.clock()
    assert site.core.audit.outdated(now) == []
    (gone,) = site.core.audit.outdated(now + audit.KEPT_S + 1)
    assert (gone.table, gone.record) == ("audit", None)
    monkeypatch.setattr(audit, "MAX_RECORDS", 2)
    for number in range(3):
        await change(site, BOB, info=str(number))
    dropped = site.core.audit.outdated(now)
    await site.core.dispatcher.apply(dropped)
    assert [detail for *_, detail in await recorded(site)] == ["info = '1'", "info = '2'"]


def test_long_records_are_bounded() -> None:
    assert audit.named(range(1, 1001)).endswith("20 and 980 more")
    made = audit.Audit(None, lambda: 5.0)  # type: ignore[arg-type]
    record = made.change(Actor(ROOT), "kill", (str(n) for n in range(1000)), "x" * 5000).record
    assert len(record.detail) == audit.MAX_DETAIL and len(record.whom) == audit.MAX_NAMED + 1
    assert made.change(Actor(ROOT), "kill").record.id > record.id


# -- administrators only -------------------------------------------------------------------------------------------


async def test_a_plain_user_learns_nothing_from_administrators_routes(site: Site) -> None:
    answers = set()
    for route in ROUTES:
        if route.access == "admin":
            for key in ("ann", "nobody-here"):
                reply = await site.ask(route.method, route.path.replace("{key}", key), ANN)
                assert reply.status == 403, route.path
                answers.add(reply.body)
    assert len(answers) == 1


# -- who used what --------------------------------------------------------------------------------------------------


def ended(number: int, owner: str, start: float, stop: float, **fields: Any) -> Job:
    attempt = Attempt(
        number=1, agent="a1", launched=start, started=start, ended=stop,
        usage=Usage(cpu_s=(stop - start) / 2, max_rss_mb=512, interval_s=1.0, series=((50, 256), (50, 512))),
    )  # fmt: skip
    return Job(**{
        "id": number, "owner": owner, "command": "x", "resources": Resources(2, 1024), "submitted": start - 5,
        "state": "FINISHED", "ended": stop, "attempts": (attempt,), **fields,
    })  # fmt: skip


def day(number: float) -> str:
    return datetime.fromtimestamp(86_400 * number, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_usage_adds_up_live_and_archived_jobs(site: Site) -> None:
    hour = 3600.0
    jobs = [
        ended(1, "ann", 100 * hour, 102 * hour),
        ended(2, "ann", 100 * hour, 101 * hour, state="FAILED", application="a"),
        ended(3, "bob", 95 * hour, 97 * hour, state="KILLED", resources=Resources(1, 2048, 0, 1)),  # half of it before
        ended(4, "bob", 10 * hour, 20 * hour),  # all of it before
        ended(5, "bob", 100 * hour, 101 * hour, state="KILLED", attempts=()),
    ]
    site.core.archive.append(jobs[:4])
    await site.core.db.apply([Change("jobs", job.id, job) for job in jobs[3:]])
    target = f"/usage?since={day(4)}&until={day(5)}"
    report = (await site.get(f"{target}&user=*", ROOT)).json
    assert (report["since"][:10], report["until"][:10]) == ("1970-01-05", "1970-01-06")
    rows = {(row["user"], row["application"]): row for row in report["rows"]}
    assert list(rows) == [("ann", "default"), ("ann", "a"), ("bob", "default")]
    mine = rows["ann", "default"]
    assert (mine["finished"], mine["failed"], mine["killed"], mine["running"]) == (1, 0, 0, 0)
    assert (mine["cpu_hours"], mine["cpu_hours_used"]) == (4.0, 1.0)
    assert (mine["mem_gib_hours"], mine["mem_gib_hours_used"]) == (2.0, 0.75)
    assert (mine["gpu_hours"], mine["gpu_hours_used"]) == (0.0, 0.0)
    assert (rows["ann", "a"]["failed"], rows["ann", "a"]["cpu_hours"]) == (1, 2.0)
    bobs = rows["bob", "default"]
    assert (bobs["killed"], bobs["cpu_hours"], bobs["cpu_hours_used"]) == (2, 1.0, 0.5)
    assert (bobs["gpu_hours"], bobs["gpu_hours_used"]) == (1.0, None)
    assert [row["user"] for row in (await site.get(target, BOB)).json["rows"]] == ["bob"]
    assert (await site.get(f"{target}&user=*", BOB)).status == 403
    assert (await site.get(f"{target}&user=ann", BOB)).status == 403
    assert (await site.get(f"{target}&user=ann", ROOT)).json["rows"] == [mine, rows["ann", "a"]]


async def test_usage_begins_with_who_held_most_in_all(site: Site) -> None:
    """Bob has the largest row; ann, with two applications, held more."""
    hour = 3600.0
    held = [("ann", "a", 3), ("bob", "b", 4), ("ann", "b", 2), ("bob", "a", 0.5)]
    jobs = [
        ended(number, owner, 100 * hour, (100 + hours) * hour, application=application)
        for number, (owner, application, hours) in enumerate(held, 1)
    ]
    site.core.archive.append(jobs)
    rows = (await site.get(f"/usage?since={day(4)}&until={day(5)}&user=*", ROOT)).json["rows"]
    assert [(row["user"], row["application"]) for row in rows] == [
        ("ann", "a"), ("ann", "b"), ("bob", "b"), ("bob", "a"),
    ]  # fmt: skip


async def test_usage_counts_what_runs_now(site: Site) -> None:
    await site.running(user=ANN)
    await site.submit(user=ANN, resources={"cpus": 4})
    async with asyncio.timeout(30):
        row: dict[str, Any] = {"cpu_hours": 0}
        while not row["cpu_hours"]:  # told in millionths of an hour, 3.6 ms
            (row,) = (await site.get("/usage", ANN)).json["rows"]
    assert (row["running"], row["finished"], row["cpu_hours_used"] > 0) == (1, 0, True)


# -- gc --------------------------------------------------------------------------------------------------------------


async def test_gc_removes_sandboxes_and_records_that_are_old_enough(site: Site) -> None:
    now = site.core.clock()
    site.core.archive.append([ended(1, "ann", now - 400, now - 300), ended(2, "bob", now - 40, now - 30)])
    site.engine.files = {"1.1": {}, "2.1": {}}
    assert (await site.ask("POST", "/api/v2/gc", ROOT, older_than_s=100)).json == {"sandboxes": 1, "records": 0}
    assert set(site.engine.files) == {"2.1"}
    assert len(site.core.archive) == 2
    reply = await site.ask("POST", "/api/v2/gc", ROOT, older_than_s=10, records=True)
    assert reply.json == {"sandboxes": 2, "records": 2}
    assert (len(site.core.archive), site.core.archive.max_id, site.engine.files) == (0, 2, {})
