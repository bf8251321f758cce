"""Files of a sandbox over HTTP: lists, ranges, downloads, and following over attempts."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from msgspec.structs import replace

from retz.engine.base import FileEntry, FilesUnavailable
from retz.server.http import follow
from retz.store.database import Change

from .http_site import BOB, Reader, Site

pytestmark = pytest.mark.anyio

TEXT = b"0123456789"


async def _ended_with_output(site: Site, data: bytes = TEXT, **files: bytes) -> int:
    job_id = await site.running()
    site.engine.files[f"{job_id}.1"]["stdout"] += data
    site.engine.files[f"{job_id}.1"].update({name: bytearray(content) for name, content in files.items()})
    site.engine.ended(f"{job_id}.1")
    return job_id


async def test_listing_a_sandbox(site: Site) -> None:
    job_id = await _ended_with_output(site)
    listing = (await site.get(f"/jobs/{job_id}/files")).json
    assert (listing["path"], listing["attempt"]) == ("", 1)
    assert [entry["name"] for entry in listing["entries"]] == ["stderr", "stdout"]
    out = listing["entries"][1]
    assert (out["size"], out["type"], out["mtime"]) == (10, "file", "1970-01-01T00:00:01.500Z")
    one = (await site.get(f"/jobs/{job_id}/files?path=stdout")).json
    assert [entry["path"] for entry in one["entries"]] == ["stdout"]


@pytest.mark.parametrize("route", ["files", "file"])
@pytest.mark.parametrize(
    ("path", "status"),
    [("..%2Fx", 403), ("a/../../x", 403), ("/etc/passwd", 403), ("link", 403), ("none", 404), ("a%00b", 400)],
)
async def test_paths_that_are_refused(site: Site, route: str, path: str, status: int) -> None:
    job_id = await _ended_with_output(site)
    for more in ("", "&follow=true") if route == "file" else ("",):
        reply = await site.get(f"/jobs/{job_id}/{route}?path={path}{more}")
        assert reply.status == status, reply.json
        assert reply.headers["Content-Type"] == "application/problem+json"


async def test_there_are_no_files_before_the_start(site: Site) -> None:
    job_id = await site.submit(held=True)
    for route in ("files", "file", "file?attempt=1"):
        assert (await site.get(f"/jobs/{job_id}/{route}")).status == 404


async def test_a_whole_file(site: Site) -> None:
    job_id = await _ended_with_output(site)
    reply = await site.get(f"/jobs/{job_id}/file")
    assert (reply.status, reply.body) == (200, TEXT)
    assert (reply.headers["Accept-Ranges"], reply.headers["Content-Length"]) == ("bytes", "10")
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert "Content-Disposition" not in reply.headers
    head = await site.ask("HEAD", f"/api/v2/jobs/{job_id}/file")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "10")
    empty = await site.get(f"/jobs/{job_id}/file?path=stderr")
    assert (empty.status, empty.body, empty.headers["Content-Length"]) == (200, b"", "0")
    assert (await site.get(f"/jobs/{job_id}/file", BOB)).status == 404
    assert site.engine.open_readers == 0


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=3-", 206, b"3456789", "bytes 3-9/10"),
        ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
        ("bytes=-99", 206, TEXT, "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=99-100", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-3", 200, TEXT, None),
        ("bytes=0-1,4-5", 200, TEXT, None),
        ("lines=0-1", 200, TEXT, None),
        ("bytes=x-y", 200, TEXT, None),
        ("bytes=" + "9" * 40 + "-", 200, TEXT, None),
    ],
)
async def test_ranges(site: Site, header: str, status: int, body: bytes | None, content_range: str | None) -> None:
    job_id = await _ended_with_output(site)
    reply = await site.get(f"/jobs/{job_id}/file", headers={"Range": header})
    assert (reply.status, reply.headers.get("Content-Range")) == (status, content_range)
    if body is None:
        assert reply.json["type"] == "urn:retz:range"
    else:
        assert reply.body == body
        assert int(reply.headers["Content-Length"]) == len(body)


async def test_a_range_of_an_empty_file(site: Site) -> None:
    job_id = await _ended_with_output(site, b"")
    assert (await site.get(f"/jobs/{job_id}/file", headers={"Range": "bytes=0-"})).status == 416
    assert (await site.get(f"/jobs/{job_id}/file", headers={"Range": "bytes=-5"})).status == 416


async def test_a_file_larger_than_one_piece(site: Site) -> None:
    data = bytes(range(256)) * 8192
    job_id = await _ended_with_output(site, data)
    assert (await site.get(f"/jobs/{job_id}/file")).body == data
    reply = await site.get(f"/jobs/{job_id}/file?offset=1000000")
    assert (reply.status, reply.body) == (206, data[1_000_000:])


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("out.txt", "attachment; filename=\"out.txt\"; filename*=UTF-8''out.txt"),
        ('a"b\r\nX: y', "attachment; filename=\"a_b__X_ y\"; filename*=UTF-8''a%22b%0D%0AX%3A%20y"),
        ("dir/結果.csv", "attachment; filename=\"__.csv\"; filename*=UTF-8''%E7%B5%90%E6%9E%9C.csv"),
        (".bashrc", "attachment; filename=\"bashrc\"; filename*=UTF-8''.bashrc"),
    ],
)
async def test_names_of_downloads(site: Site, name: str, header: str) -> None:
    job_id = await _ended_with_output(site, **{name: b"x"})
    reply = await site.get(f"/jobs/{job_id}/file?download=true&path={quote(name)}")
    assert (reply.status, reply.headers["Content-Disposition"]) == (200, header)


async def test_a_limit_on_downloads(site: Site) -> None:
    job_id = await _ended_with_output(site, b"x" * (2 << 20))
    object.__setattr__(site.core.config, "max_file_size", 1)
    reply = await site.get(f"/jobs/{job_id}/file")
    assert (reply.status, reply.json["type"]) == (413, "urn:retz:too-large")
    assert (await site.get(f"/jobs/{job_id}/file", headers={"Range": "bytes=0-9"})).status == 206


async def test_a_file_that_shrinks_while_it_is_sent_is_not_passed_off_as_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await _ended_with_output(site, b"x" * 1_000_000)

    async def shrunk(self: object, offset: int, length: int) -> bytes:
        return b"x" * length if offset == 0 else b""

    monkeypatch.setattr("tests.integration.http_site.Reader.read", shrunk)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file") as response:
        assert response.headers["Content-Length"] == "1000000"
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    await site.until(lambda: site.engine.open_readers == 0)


async def _follow(site: Site, job_id: int, query: str = "") -> asyncio.Task[Any]:
    return asyncio.ensure_future(site.get(f"/jobs/{job_id}/file?follow=true{query}"))


async def test_following_from_the_queue_to_the_end(site: Site) -> None:
    job_id = await site.submit(held=True)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        await site.ask("PATCH", f"/api/v2/jobs/{job_id}", held=False)
        await site.until(lambda: site.engine.launched)
        output = site.engine.files[f"{job_id}.1"]["stdout"]
        site.engine.started(f"{job_id}.1")
        output += b"one\n"
        assert await response.content.readexactly(4) == b"one\n"
        output += b"two\n"
        assert await response.content.readexactly(4) == b"two\n"
        output += b"the end"
        site.engine.ended(f"{job_id}.1")
        assert await response.content.read() == b"the end"
    await site.until(lambda: site.engine.open_readers == 0)


async def test_following_goes_on_with_the_next_attempt(site: Site) -> None:
    job_id = await site.running()
    site.engine.files[f"{job_id}.1"]["stdout"] += b"first attempt "
    task = await _follow(site, job_id, "&offset=6")
    await site.until(lambda: site.engine.open_readers)
    site.engine.lost(f"{job_id}.1")
    await site.until(lambda: any(task.id == f"{job_id}.2" for task in site.engine.launched))
    site.engine.started(f"{job_id}.2")
    site.engine.files[f"{job_id}.2"]["stdout"] += b"second attempt"
    site.engine.ended(f"{job_id}.2")
    reply = await task
    assert (reply.body, reply.headers["Retz-Attempt"]) == (b"attempt second attempt", "1")
    second = await site.get(f"/jobs/{job_id}/file?follow=true&offset=7")
    assert (second.body, second.headers["Retz-Attempt"]) == (b"attempt", "2")
    assert (await site.get(f"/jobs/{job_id}/file?attempt=1")).body == b"first attempt "
    assert (await site.get(f"/jobs/{job_id}/file?follow=true&attempt=1")).body == b"first attempt second attempt"
    assert (await site.get(f"/jobs/{job_id}/file?attempt=3")).status == 404


async def test_following_a_file_that_appears_later(site: Site) -> None:
    job_id = await site.running()
    task = await _follow(site, job_id, "&path=result")
    site.engine.files[f"{job_id}.1"]["result"] = bytearray(b"42")
    site.engine.ended(f"{job_id}.1")
    assert (await task).body == b"42"


async def test_following_a_job_that_never_ran(site: Site) -> None:
    job_id = await site.submit(held=True)
    task = await _follow(site, job_id)
    await site.until(lambda: site.core.db.jobs.record(job_id))
    await site.ask("DELETE", f"/api/v2/jobs/{job_id}")
    reply = await task
    assert (reply.status, reply.body) == (200, b"")


async def test_following_what_is_over(site: Site) -> None:
    job_id = await _ended_with_output(site)
    assert (await site.get(f"/jobs/{job_id}/file?follow=true")).body == TEXT
    assert (await site.get(f"/jobs/{job_id}/file?follow=true&offset=4")).body == TEXT[4:]
    assert (await site.get(f"/jobs/{job_id}/file?follow=true&offset=99")).body == b""
    assert (await site.ask("HEAD", f"/api/v2/jobs/{job_id}/file?follow=true")).status == 200
    assert site.engine.open_readers == 0


async def test_nothing_stays_open_when_the_client_goes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LONGEST_S", 0.02)
    job_id = await site.running()
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        await site.until(lambda: site.engine.open_readers == 1)
        response.close()
    await site.until(lambda: site.engine.open_readers == 0)


async def test_a_file_that_cannot_be_read_any_more_cuts_the_stream(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await site.running()
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        await site.until(lambda: site.engine.open_readers == 1)
        site.engine.files[f"{job_id}.1"]["stdout"] = None  # type: ignore[assignment]

        async def broken(self: object) -> int:
            raise OSError("input/output error")

        monkeypatch.setattr("tests.integration.http_site.Reader.refresh", broken)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert "under way" in caplog.text


async def test_a_file_from_beyond_the_calendar(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await _ended_with_output(site)
    entry = FileEntry(path="odd", size=1, mtime=1e17, mode="-rw-r--r--", uid="ann", gid="users")

    async def listed(_task: str, _path: str, _agent: str) -> list[FileEntry]:
        return [entry]

    monkeypatch.setattr(site.engine, "list_files", listed)
    (shown,) = (await site.get(f"/jobs/{job_id}/files")).json["entries"]
    assert shown["mtime"] == "9999-12-31T23:59:59.000Z"


async def test_a_disabled_user_follows_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LONGEST_S", 0.02)
    job_id = await site.running(user=BOB)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true", BOB) as response:
        await site.core.db.apply([Change("users", BOB.key, replace(BOB, enabled=False))])
        async with asyncio.timeout(30):
            assert await response.read() == b""


class Away:
    """Makes the machines that have the files unreachable, for as long as a test wants."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.refused = 0
        opened, refreshed = site.engine.open_file, Reader.refresh

        async def open_file(task_id: str, path: str, agent: str = "") -> Reader:
            self.asked.append(agent)
            self._fail()
            return await opened(task_id, path)

        async def refresh(reader: Reader) -> int:
            self._fail()
            return await refreshed(reader)

        monkeypatch.setattr(site.engine, "open_file", open_file)
        monkeypatch.setattr(Reader, "refresh", refresh)

    def _fail(self) -> None:
        if self.error is not None:
            self.refused += 1
            raise self.error


AWAY = FilesUnavailable("agent host1:5051 cannot be reached; try again later")
FORBIDDEN = FilesUnavailable("agent host1:5051 does not know this server", waiting_helps=False)


async def test_a_machine_that_is_away_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await _ended_with_output(site)
    away = Away(site, monkeypatch)
    away.error = AWAY
    for query in ("", "?follow=true"):
        reply = await site.get(f"/jobs/{job_id}/file{query}")
        assert (reply.status, reply.json["detail"]) == (503, str(AWAY))
    assert away.asked == ["a1", "a1"]


async def test_a_follower_survives_a_machine_that_is_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LONGEST_S", 0.02)
    job_id = await site.running()
    away = Away(site, monkeypatch)
    away.error = AWAY
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        await site.until(lambda: away.refused > 1)
        site.engine.files[f"{job_id}.1"]["stdout"] += b"first "
        away.error = None
        assert await response.content.readexactly(6) == b"first "
        away.error, away.refused = AWAY, 0
        site.engine.files[f"{job_id}.1"]["stdout"] += b"second"
        await site.until(lambda: away.refused > 1)
        site.engine.ended(f"{job_id}.1")
        await site.core.settled()
        away.refused = 0
        await site.until(lambda: away.refused > 1)
        away.error = None
        assert await response.read() == b"second"
    assert set(away.asked) == {"a1"}


async def test_what_a_machine_kept_to_itself_is_not_passed_off_as_the_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "AWAY_S", 0.0)
    job_id = await site.running()
    away = Away(site, monkeypatch)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        away.error = AWAY
        site.engine.ended(f"{job_id}.1")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_the_output_of_the_next_attempt_follows_what_a_lost_machine_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "AWAY_S", 0.0)
    job_id = await site.running()
    away = Away(site, monkeypatch)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        site.engine.files[f"{job_id}.1"]["stdout"] += b"begun "
        assert await response.content.readexactly(6) == b"begun "
        away.error = AWAY
        site.engine.lost(f"{job_id}.1")
        await site.until(lambda: away.refused > 0)
        await site.until(lambda: any(task.id == f"{job_id}.2" for task in site.engine.launched))
        away.error = None
        site.engine.files[f"{job_id}.2"]["stdout"] += b"again"
        site.engine.started(f"{job_id}.2")
        site.engine.ended(f"{job_id}.2")
        assert await response.read() == b"again"


async def test_waiting_for_nothing_is_not_done(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await site.running()
    away = Away(site, monkeypatch)
    async with site.open("GET", f"/api/v2/jobs/{job_id}/file?follow=true") as response:
        away.error = FORBIDDEN
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    reply = await site.get(f"/jobs/{job_id}/file?follow=true")
    assert (reply.status, reply.json["detail"]) == (503, str(FORBIDDEN))


async def test_a_machine_that_leaves_in_the_middle_of_a_file_cuts_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await _ended_with_output(site, bytes(1_000_000))
    read = Reader.read

    async def leaving(reader: Reader, offset: int, length: int) -> bytes:
        if offset:
            raise AWAY
        return await read(reader, offset, length)

    monkeypatch.setattr(Reader, "read", leaving)
    with pytest.raises(aiohttp.ClientPayloadError):
        await site.get(f"/jobs/{job_id}/file")
    assert "Traceback" not in caplog.text
