"""Files of jobs on the local engine: fetched before the command starts, whole or not at all, and never in its way."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import signal
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retz.engine.base import Uri
from retz.engine.local import processes
from retz.engine.local.engine import Fetching

from .engine_contract.site import Site, alive, drop, end, until

Scenario = Callable[[Site], Coroutine[Any, Any, None]]


class Web:
    """A web server that does what a test needs.

    Attributes:
        gate: While it is closed, ``/slow`` sends only half of its answer.
        etag: Of ``/file``.
        sent: Whole answers by path.
        authorization: What came with the last request to each path.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.etag = '"1"'
        self.sent: Counter[str] = Counter()
        self.authorization: dict[str, str | None] = {}
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing: the output belongs to the tests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        self.authorization[path] = request.headers["Authorization"]
        if path == "/file" and request.headers["If-None-Match"] == self.etag:
            self._send(request, 304, {})
        elif path in ("/file", "/slow", "/short", "/unmarked"):
            self._content(request, path)
        elif path.startswith("/to/"):
            self._send(request, 302, {"Location": path.removeprefix("/to/")})
        else:
            self._send(request, 404, {})

    def _content(self, request: BaseHTTPRequestHandler, path: str) -> None:
        body = f"{path} {self.etag}\n".encode()
        marks = {"ETag": self.etag} if path == "/file" else {}
        self._send(request, 200, {**marks, "Content-Length": str(len(body) + (path == "/short"))})
        if path == "/slow":
            request.wfile.write(body[:3])
            request.wfile.flush()
            self.waiting.release()
            self.gate.wait()
            body = body[3:]
        request.wfile.write(body)
        self.sent[path] += 1

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    place = Site("local", tmp_path / "engine")
    yield place
    place.clean()


def files(*uris: str | Path, cache: bool = False) -> dict[str, Any]:
    return {"files": tuple(Uri(str(uri), cache=cache) for uri in uris)}


def tarball(place: Path, name: str = "a.tar.gz") -> Path:
    (place / "inner").write_text("from the archive\n")
    with tarfile.open(place / name, "w:gz") as tar:
        tar.add(place / "inner", "d/inner")
    return place / name


def test_files_are_there_before_the_command(local: Site, web: Web, tmp_path: Path) -> None:
    tool = tmp_path / "a tool"
    tool.write_text("#!/bin/sh\necho tool\n")
    tool.chmod(0o4755)
    (tmp_path / "words.gz").write_bytes(gzip.compress(b"words\n"))

    async def scenario(site: Site) -> None:
        uris = (
            tool.as_uri(),
            f"{web.uri}/file?a=b#c",
            f"{web.uri}/to//unmarked",
            tmp_path / "words.gz",
            tarball(tmp_path),
        )
        truth = await site.run(
            "ls; './a tool'; cat file words d/inner", **files(f"{web.uri}/file", *uris[:1], *uris[3:])
        )
        assert (truth.exit_code, truth.message) == (0, None)
        box = site.sandbox()
        assert (box / "stdout").read_text() == (
            'a tool\na.tar.gz\nd\nfile\nstderr\nstdout\nwords\nwords.gz\ntool\n/file "1"\nwords\nfrom the archive\n'
        )
        assert (box / "stderr").read_text() == ""
        assert (box / "a tool").stat().st_mode & 0o7777 == 0o755
        assert (await site.run("test -e a.tar.gz || cat d/inner", "2.1", **files(uris[4], cache=True))).exit_code == 0
        assert (site.sandbox("2.1") / "stdout").read_text() == "from the archive\n"
        assert (await site.run("cat unmarked", "3.1", **files(f"{web.uri}/to/{web.uri}/unmarked"))).exit_code == 0

    local.play(scenario)


@pytest.mark.parametrize("cache", [False, True])
def test_what_cannot_be_fetched_fails_the_job_and_says_why(local: Site, web: Web, tmp_path: Path, cache: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bad.tgz").write_bytes(b"not an archive")
    expected = {
        f"{web.uri}/none": "the server answers 404 Not Found",
        f"{web.uri}/short": "11 bytes came, not the 12 that were announced",
        f"{web.uri}/to/file:///etc/passwd": "not allowed",
        f"{web.uri}/to/ftp://127.0.0.1/x": "where we do not follow",
        f"{web.uri}/": "does not end in the name of a file",
        "http://127.0.0.1:1/x": "Connection refused",
        "/no/such/file": "No such file or directory",
        "file://elsewhere/x": "of this machine",
        "hdfs://name/x": "this server fetches http://, https://, file:// and absolute paths",
        "http://[/x": "IPv6",
        str(tmp_path / "pipe"): "not a plain file",
        str(tmp_path): "not a plain file",
        str(tmp_path / "bad.tgz"): "damaged",
        "/dev/../etc/stdout": "already",
    }

    async def scenario(site: Site) -> None:
        for number, (uri, cause) in enumerate(expected.items(), 1):
            truth = await site.run("echo ran", f"{number}.1", **files(uri, cache=cache))
            assert (truth.kind, truth.reason, truth.exit_code, truth.started) == ("ended", "fetch", None, None), uri
            assert truth.message is not None and truth.message.startswith(f"cannot fetch {uri}: "), truth.message
            assert cause in truth.message, truth.message
            assert (site.sandbox(f"{number}.1") / "stdout").read_text() == ""
        truth = await site.run("echo ran", "99.1", **files(tmp_path / "bad.tgz", tmp_path / "bad.tgz", cache=cache))
        assert truth.reason == "fetch"
        assert site.recorder.failures == []  # the machine is well

    local.play(scenario)


def test_passwords_go_to_their_server_and_nowhere_else(local: Site, web: Web) -> None:
    async def scenario(site: Site) -> None:
        server = web.uri.removeprefix("http://")
        await site.run("true", **files(f"http://me:s%40cret@{server}/file"))
        assert web.authorization["/file"] == f"Basic {base64.b64encode(b'me:s@cret').decode()}"
        elsewhere = f"{web.uri.replace('127.0.0.1', 'localhost')}/unmarked"
        await site.run("true", "2.1", **files(f"http://me:s%40cret@{server}/to/{elsewhere}"))
        assert web.authorization["/unmarked"] is None
        truth = await site.run("true", "3.1", **files(f"http://me:s%40cret@{server}/none"))
        assert truth.message is not None and "cret" not in truth.message
        for name in ("records", "launcher.log"):
            assert "cret" not in (site.directory / name).read_text()

    local.play(scenario)


def test_limits(tmp_path: Path, web: Web) -> None:
    place = Site("local", tmp_path / "engine", fetching=Fetching(timeout_s=1.0, max_mb=1))
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))

    async def scenario(site: Site) -> None:
        for number, cache in enumerate((False, True), 1):
            truth = await site.run("true", f"{number}.1", **files(tmp_path / "large", cache=cache))
            assert truth.reason == "fetch" and "retz.fetch.max-size" in (truth.message or "")
        truth = await site.run("true", "3.1", **files(f"{web.uri}/slow"))
        assert truth.reason == "fetch" and "not there within 1s" in (truth.message or "")

    try:
        place.play(scenario)
    finally:
        place.clean()


def test_the_cache_asks_whether_it_is_right(local: Site, web: Web, tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    async def content(site: Site, number: int, *uris: str | Path) -> str:
        names = " ".join(str(uri).rpartition("/")[2] for uri in uris)
        assert (await site.run(f"cat {names}", f"{number}.1", **files(*uris, cache=True))).exit_code == 0
        return (site.sandbox(f"{number}.1") / "stdout").read_text()

    async def scenario(site: Site) -> None:
        kept.write_text("one")
        both = (f"{web.uri}/file", kept)
        for number in (1, 2):
            assert await content(site, number, *both) == '/file "1"\none'
        assert web.sent["/file"] == 1
        (site.sandbox("2.1") / "file").write_text("the job's own copy")
        web.etag = '"2"'
        kept.write_text("two")
        assert await content(site, 3, *both) == '/file "2"\ntwo'
        assert web.sent["/file"] == 2
        for copy in (site.directory / "cache").glob("*/*.data"):
            copy.write_text("")  # lost in a crash, say
        assert await content(site, 4, *both) == '/file "2"\ntwo'
        for number in (5, 6):
            assert await content(site, number, f"{web.uri}/unmarked") == '/unmarked "2"\n'
        assert web.sent["/unmarked"] == 2  # nothing tells whether it changed

    local.play(scenario)


def test_many_jobs_fetch_a_cached_file_once(local: Site, web: Web) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(*(site.task("cat file", f"{n}.1", **files(f"{web.uri}/file", cache=True)) for n in range(4)))
        for number in range(4):
            assert (await site.recorder.final(f"{number}.1")).exit_code == 0
        assert web.sent["/file"] == 1

    local.play(scenario)


def test_the_cache_stays_small(tmp_path: Path) -> None:
    place = Site("local", tmp_path / "engine", fetching=Fetching(cache_mb=2))
    for name in "abcd":
        (tmp_path / name).write_bytes(bytes(700 << 10))
    (tmp_path / "huge").write_bytes(bytes(3 << 20))

    async def scenario(site: Site) -> None:
        uris = [tmp_path / name for name in ("a", "b", "a", "c", "d", "huge")]
        for number, uri in enumerate(uris, 1):
            assert (await site.run("true", f"{number}.1", **files(uri, cache=True))).exit_code == 0
        copies = [path.stat().st_size for path in (site.directory / "cache").glob("*/*.data")]
        assert copies == [700 << 10] * 2

    try:
        place.play(scenario)
    finally:
        place.clean()


async def fetching(site: Site, web: Web, **more: Any) -> int:
    """Launch a job that does not get beyond its file. Returns its pid."""
    await site.launch(site.task("echo $$; exec sleep 60", **files(f"{web.uri}/slow"), **more))
    await asyncio.to_thread(web.waiting.acquire)
    (pid,) = children(site.launcher_pid())
    return pid


def children(pid: int) -> list[int]:
    return processes.children_of(processes.scan(processes.all_pids())).get(pid, [])


def descriptors(pid: int) -> dict[str, str]:
    return {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}


def test_a_kill_ends_it_while_it_fetches(local: Site, web: Web) -> None:
    async def scenario(site: Site) -> None:
        pid = await fetching(site, web)
        held = descriptors(pid)  # of the launcher's lock, socket and records: none
        assert {held[fd].rpartition("/")[2] for fd in "012"} == {"null", "stdout", "stderr"}
        others = {target.rpartition("/")[2].partition(":")[0] for fd, target in held.items() if fd not in "012"}
        assert {"pipe", "socket"} <= others <= {"pipe", "socket", "slow"}
        assert len(held) <= 6
        site.engine.kill("1.1", 5.0)
        truth = await site.recorder.final("1.1")
        assert (truth.kind, truth.reason, truth.signal, truth.started) == ("ended", "user", signal.SIGTERM, None)
        assert not alive(pid)
        assert site.recorder.about("1.1", "started") is None

    local.play(scenario)


def test_a_restart_of_the_server_does_not_disturb_it(local: Site, web: Web) -> None:
    async def scenario(site: Site) -> None:
        pid = await fetching(site, web, timeout_s=50.0, mem_limit_mb=64)
        drop(site.engine)
        recorder = await site.start([site.known("1.1")])
        assert recorder.news == []  # neither started nor lost
        web.gate.set()
        started = await recorder.started("1.1")
        assert started.started is not None
        await until(lambda: (site.sandbox() / "stdout").read_text() == f"{pid}\n")
        site.engine.kill("1.1", 0.0)
        assert (await recorder.final("1.1")).started == started.started

    local.play(scenario)


def test_it_ends_with_its_launcher(local: Site, web: Web) -> None:
    async def scenario(site: Site) -> None:
        pid = await fetching(site, web)
        end(site.launcher_pid(), signal.SIGKILL)
        assert (await site.recorder.final("1.1")).kind == "lost"
        await until(lambda: not alive(pid))
        web.gate.set()
        assert (site.sandbox() / "stdout").read_text() == ""

    local.play(scenario)


def test_limits_of_the_job_begin_with_its_command(local: Site, web: Web) -> None:
    async def scenario(site: Site) -> None:
        await fetching(site, web, timeout_s=0.2, mem_limit_mb=4)
        await asyncio.sleep(0.4)  # twice its limit: this is the time that must not count
        assert site.recorder.about("1.1", "ended") is None
        web.gate.set()
        truth = await site.recorder.final("1.1")
        assert truth.started is not None and truth.reason == "timeout"

    local.play(scenario)
