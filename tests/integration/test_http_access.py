"""Who may ask what: signatures, isolation of users, addresses and methods that do not exist."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import logging
import time
import zlib
from base64 import b64encode

import aiohttp
import pytest
from aiohttp.compression_utils import ZLibDecompressor
from msgspec.structs import replace

from retz.auth import authorization, content_md5
from retz.model.user import User
from retz.server.http.table import ROUTES
from retz.store.database import Change

from .http_site import ANN, BOB, ROOT, Site

pytestmark = pytest.mark.anyio

STRANGER = User(key="nobody", secret="whatever")


def signed(**changed: str) -> dict[str, str]:
    """Headers of ann's ``GET /api/v2/jobs``, some of them changed."""
    return {**authorization(ANN.key, ANN.secret, "GET", "/api/v2/jobs", b"", time.time()), **changed}


@pytest.mark.parametrize("path", ["/", "/ping", "/healthz", "/status", "/metrics"])
async def test_unsigned_pages_need_no_signature_and_name_nobody(site: Site, path: str) -> None:
    await site.submit("echo confidential", name="secret-name", tags=["secret-tag"])
    reply = await site.ask("GET", path, None)
    assert reply.status == 200
    for word in (b"confidential", b"secret-name", b"secret-tag", b"ann"):
        assert word not in reply.body


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"Authorization": ""}, "not signed"),
        ({"Authorization": "Basic YTpi"}, "must be"),
        ({"Authorization": "Retz-auth-v1 ann"}, "must be"),
        ({"Authorization": "Retz-auth-v1 ann:AAAA"}, "does not match"),
        ({"Date": "2001-01-01T00:00:00Z"}, "behind"),
        ({"Date": "yesterday"}, "Date header"),
        ({"Content-MD5": content_md5(b"x")}, "does not match"),
    ],
)
async def test_a_request_that_is_not_signed_correctly(site: Site, changed: dict[str, str], detail: str) -> None:
    reply = await site.ask("GET", "/api/v2/jobs", None, headers=signed(**changed))
    assert reply.status == 401
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["WWW-Authenticate"] == "Retz-auth-v1"
    assert reply.json["type"] == "urn:retz:unauthorized"
    assert detail in reply.json["detail"]


async def test_every_signed_route_refuses_strangers(site: Site) -> None:
    for route in ROUTES:
        if route.access != "public":
            target = route.path.replace("{id}", "1").replace("{name}", "default").replace("{run}", "r1")
            target = target.replace("{key}", "ann")
            for user in (None, STRANGER):
                assert (await site.ask(route.method, target, user)).status == 401, (route.method, target)


async def test_an_unknown_key_is_answered_as_a_wrong_signature(site: Site) -> None:
    unknown = await site.get("/jobs", STRANGER)
    wrong = await site.get("/jobs", replace(ANN, secret="not hers"))
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body)


async def test_a_body_must_match_its_signed_digest(site: Site) -> None:
    body, other = b'{"jobs":[{"command":"true"}]}', b'{"jobs":[{"command":"fals"}]}'
    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", body, time.time())
    reply = await site.ask("POST", "/api/v2/jobs", None, other, headers)
    assert (reply.status, "Content-MD5" in reply.json["detail"]) == (401, True)
    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", b"", time.time())
    reply = await site.ask("POST", "/api/v2/jobs", None, body, headers)
    assert (reply.status, "needs a Content-MD5" in reply.json["detail"]) == (401, True)
    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", body, time.time())
    reply = await site.ask("POST", "/api/v2/jobs", None, b"", headers)
    assert (reply.status, "it is empty" in reply.json["detail"]) == (401, True)
    assert (await site.get("/jobs")).json["total"] == 0


async def test_sha1_signatures_are_accepted(site: Site) -> None:
    headers = signed()
    text = f"GET\n\n{headers['Date']}\n/api/v2/jobs\n"
    mac = b64encode(hmac.digest(ANN.secret.encode(), text.encode(), hashlib.sha1)).decode().rstrip("=")
    headers["Authorization"] = f"Retz-auth-v1 ann:{mac}"
    assert (await site.ask("GET", "/api/v2/jobs", None, headers=headers)).status == 200


async def test_the_query_is_signed_as_it_is_sent(site: Site) -> None:
    job_id = await site.submit(name="täst & co")
    reply = await site.get("/jobs?name=t%C3%A4st%20%26%20co")
    assert [job["id"] for job in reply.json["jobs"]] == [job_id]


async def test_a_disabled_user_is_refused(site: Site) -> None:
    await site.core.db.apply([Change("users", BOB.key, replace(BOB, enabled=False))])
    reply = await site.get("/jobs", BOB)
    assert (reply.status, reply.json["type"]) == (403, "urn:retz:forbidden")


async def test_nobody_sees_or_touches_what_is_somebody_elses(site: Site) -> None:
    job_id = await site.running()
    queued = await site.submit(resources={"cpus": 4})
    assert (await site.ask("PUT", "/api/v2/applications/mine", enabled=True)).status == 200
    for path in ("", "/why", "/usage", "/wait?timeout_s=0", "/files", "/file", "/file?follow=true"):
        reply = await site.get(f"/jobs/{job_id}{path}", BOB)
        missing = await site.get(f"/jobs/{job_id + 1000}{path}", BOB)
        assert reply.status == missing.status == 404, path
        assert reply.body.replace(b"1", b"") == missing.body.replace(b"1001", b"").replace(b"1", b"")
    assert (await site.ask("DELETE", f"/api/v2/jobs/{job_id}", BOB)).status == 404
    assert (await site.ask("PATCH", f"/api/v2/jobs/{queued}", BOB, priority=3)).status == 404
    for action in ("kill", "hold", "release", "resubmit"):
        reply = await site.ask("POST", f"/api/v2/jobs/{action}", BOB, ids=[job_id, queued])
        assert (reply.json["ok"], reply.json["failed"]) == (0, 2), action
        assert all("no such job" in result["error"] for result in reply.json["results"])
        reply = await site.ask("POST", f"/api/v2/jobs/{action}", BOB, filter={"state": ["ALL"]})
        assert reply.json["results"] == [], action
    assert (await site.get("/jobs?state=ALL", BOB)).json["jobs"] == []
    assert sum((await site.get("/jobs", BOB)).json["counts"].values()) == 0
    assert (await site.get("/jobs/last", BOB)).status == 404
    assert (await site.get("/applications/mine", BOB)).status == 404
    assert (await site.ask("DELETE", "/api/v2/applications/mine", BOB)).status == 404
    assert [a["name"] for a in (await site.get("/applications", BOB)).json["applications"]] == ["default"]
    assert site.engine.killed == []


async def test_users_see_amounts_but_not_jobs_of_others_on_agents(site: Site) -> None:
    job_id = await site.running(resources={"gpus": 1})
    (mine,) = (await site.get("/agents")).json["agents"]
    (seen_by_bob,) = (await site.get("/agents", BOB)).json["agents"]
    (seen_by_root,) = (await site.get("/agents", ROOT)).json["agents"]
    assert mine["gpus"][0]["job"] == seen_by_root["gpus"][0]["job"] == job_id
    assert seen_by_bob["gpus"][0]["job"] is None
    assert seen_by_bob["used"] == mine["used"] and seen_by_bob["jobs"] == 1


async def test_administrators_see_everybody(site: Site) -> None:
    await site.submit(user=ANN)
    await site.submit(user=BOB)
    assert (await site.get("/jobs?user=*", ROOT)).json["total"] == 2
    assert (await site.get("/jobs?user=bob", ROOT)).json["total"] == 1
    assert (await site.get("/jobs", ROOT)).json["total"] == 0
    assert (await site.get("/jobs?user=*", ANN)).status == 403
    assert (await site.get("/jobs?user=bob", ANN)).status == 403
    assert (await site.get("/jobs?user=ann", ANN)).json["total"] == 1


async def test_the_queue_is_the_administrators(site: Site) -> None:
    assert (await site.ask("PUT", "/api/v2/queue", ANN, mode="paused")).status == 403
    reply = await site.ask("PUT", "/api/v2/queue", ROOT, mode="draining")
    assert (reply.status, reply.json) == (200, {"mode": "draining", "running": 0})
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true"}])
    assert (reply.status, reply.json["type"]) == (503, "urn:retz:unavailable")
    assert (await site.ask("GET", "/status", None)).json["command"] == "status"


@pytest.mark.parametrize("target", ["/nothing", "/api/v2", "/api/v2/jobz", "/api/v2/jobs/1/nothing", "/a%0Ab", "//"])
async def test_an_address_that_does_not_exist(site: Site, target: str) -> None:
    reply = await site.ask("GET", target)
    assert (reply.status, reply.json["type"]) == (404, "urn:retz:not-found")


async def test_a_wrong_method_is_told_the_right_ones(site: Site) -> None:
    for method, target, allow in (
        ("PUT", "/api/v2/jobs", "POST, GET, HEAD"),
        ("GET", "/api/v2/jobs/kill", "POST"),
        ("OPTIONS", "/api/v2/status", "GET, HEAD"),
        ("POST", "/ping", "GET, HEAD"),
    ):
        reply = await site.ask(method, target)
        assert (reply.status, reply.headers["Allow"]) == (405, allow)
        assert reply.json["type"] == "urn:retz:method-not-allowed"


async def test_head_answers_as_get_without_a_body(site: Site) -> None:
    reply = await site.ask("HEAD", "/api/v2/status")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 100


async def test_too_large_is_told_before_the_body_is_read(site: Site) -> None:
    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", b"x", time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {65 << 20}\r\n{lines}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 413 " in head.split(b"\r\n")[0]
    writer.close()
    reply = await site.ask("PATCH", "/api/v2/jobs/1", body=b" " * ((1 << 20) + 1))
    assert (reply.status, "1 MiB" in reply.json["detail"]) == (413, True)


async def test_compressed_bodies_are_refused(site: Site) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", body=b"x", headers={"Content-Encoding": "gzip"})
    assert reply.status in (400, 401)
    assert (await site.get("/jobs")).json["total"] == 0


@pytest.mark.parametrize("path", ["/api/v2/jobs", "/resourceestimator/translator", "/nowhere"])
@pytest.mark.parametrize("user", [None, ANN])
async def test_compressed_bodies_are_not_even_unpacked(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str, user: User | None
) -> None:
    """Not to be thrown away either: a megabyte becomes a gigabyte, and the loop does nothing else meanwhile."""
    unpacked: list[int] = []

    def unpack(self: object, data: bytes, max_length: int = 0) -> bytes:
        unpacked.append(len(data))
        raise zlib.error("unpacked")

    monkeypatch.setattr(ZLibDecompressor, "decompress_sync", unpack)
    reply = await site.ask("POST", path, user, gzip.compress(b"x" * 1_000_000), {"Content-Encoding": "gzip"})
    assert reply.status == (404 if path == "/nowhere" else 401 if user is None else 400)
    assert unpacked == []


async def test_our_own_mistakes_tell_nothing_and_are_logged_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("confidential internals")

    monkeypatch.setattr(site.core, "visible", broken)
    reply = await site.get("/jobs/1")
    assert (reply.status, reply.json["type"]) == (500, "urn:retz:internal")
    assert b"confidential" not in reply.body
    records = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in records] == ["GET /api/v2/jobs/{id} failed"]


async def test_what_strangers_send_does_not_reach_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for request in (
        b"EVIL\x1b[31m / HTTP/1.1\r\n\r\n",
        b"GET /\x1b[31mEVIL HTTP/1.1\r\nHost: x\r\nEVIL\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00EVIL\r\n\r\n",
        b"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: EVIL\x1b[31m\r\nContent-Length: 0\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request)
        status = (await reader.readline()).split()[1]
        assert status in (b"400", b"401"), request
        writer.close()
    logged = "".join(logging.Formatter().format(record) for record in caplog.records)
    assert "EVIL" not in logged


async def test_after_a_failed_write_the_server_is_read_only_and_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await site.submit()
    monkeypatch.setattr(type(site.core.db), "failed", property(lambda _db: "disk is gone"))
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true"}])
    assert (reply.status, reply.json["type"]) == (503, "urn:retz:unavailable")
    assert (await site.ask("DELETE", f"/api/v2/jobs/{job_id}")).status == 503
    assert (await site.get(f"/jobs/{job_id}")).status == 200
    health = await site.ask("GET", "/healthz", None)
    assert (health.status, health.json["status"]) == (503, "read-only")
    assert (await site.get("/status")).json["read_only"] == "disk is gone"
    monkeypatch.undo()


async def test_an_engine_failure_shows_in_health(site: Site) -> None:
    site.core.dispatcher.failed("no master")
    health = await site.ask("GET", "/healthz", None)
    assert (health.status, health.json["status"]) == (503, "engine-failure")
    site.core.dispatcher.recovered()
    assert (await site.ask("GET", "/healthz", None)).json == {"status": "ok"}


async def test_connections_are_kept_alive_after_refusals(site: Site) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(3):
            async with session.get(f"http://127.0.0.1:{site.port}/api/v2/jobs") as response:
                assert response.status == 401
                assert response.headers.get("Connection", "keep-alive") == "keep-alive"


async def test_a_client_that_goes_in_the_middle_is_no_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"jobs":[{"command":"true"}]}'
    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", body, time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode())
    writer.write(body[:10])
    await writer.drain()
    await site.get("/status")
    writer.close()
    await writer.wait_closed()
    assert (await site.get("/jobs")).json["total"] == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nab"])
async def test_damaged_chunks_are_refused(site: Site, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", b"abc", time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode() + body)
    writer.write_eof()
    status = (await reader.readline()).split()
    assert status == [] or status[1] == b"400"
    writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
