"""Files of sandboxes: what agents answered, byte for byte, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from retz.engine.base import FileEntry, FileRefused, FilesUnavailable
from retz.engine.mesos import sandbox
from retz.engine.mesos.agent_http import REQUESTS
from retz.engine.mesos.sandbox import Sandboxes, SandboxReader

FRAMEWORK = "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-0002"
ROOT = f"/frameworks/{FRAMEWORK}/executors/t-sb/runs/latest"
REAL = (
    "/var/lib/mesos-x/run/a1/slaves/4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-S0/frameworks/"
    f"{FRAMEWORK}/executors/t-sb/runs/0a60e37f-2f8a-4d4c-a8fd-ce153a436bd9"
)
LISTING = (
    '[{"gid":"root","mode":"-rw-r--r--","mtime":1795151359.0,"nlink":1,"path":"%(root)s/env.txt","size":1019,'
    '"uid":"root"},{"gid":"root","mode":"-rw-r--r--","mtime":1795149855.0,"nlink":1,"path":"%(root)s/link",'
    '"size":1371,"uid":"root"},{"gid":"root","mode":"drwxr-xr-x","mtime":1795151359.0,"nlink":2,'
    '"path":"%(root)s/sub","size":4096,"uid":"root"}]'
)
NOT_FOUND = (404, b"")
IS_DIRECTORY = (400, b"Cannot read a directory.\n")
ODD_BYTES = b'{"data":"\xff\xfe caf\xc3\xa9 \\u0000 end\\n","offset":0}'
HALF_CHARACTER = b'{"data":"\xa9 ","offset":7}'

Reply = tuple[int, bytes] | bytes | None
"""Status and body; or the very bytes to send; None to say nothing, ever."""
Script = Callable[[str, dict[str, str]], Reply]


class ScriptedAgent:
    """Answers GET requests as a test says; notes what was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[bytes] = []
        self.waiting = 0
        self._url = ""

    @property
    def url(self) -> str:
        """As an offer has it."""
        return f"http://{self.name}/slave(1)"

    @property
    def name(self) -> str:
        """``host:port``."""
        return self._url

    def paths(self, what: str) -> list[str]:
        """The paths that were asked about at /files/what."""
        return [query["path"] for place, query in self.asked if place == f"/files/{what}"]

    async def serve(self, body: Callable[[], Awaitable[None]]) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self._url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            await body()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.headers.append(head)
                place, _, query = head.split(b" ")[1].decode().partition("?")
                fields = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
                asked = {name: unquote_to_bytes(value).decode("latin-1") for name, value in fields.items()}
                self.asked.append((place, asked))
                reply = self.script(place, asked)
                if reply is None:
                    self.waiting += 1
                    await reader.read()
                    return
                writer.write(_raw(reply))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def _raw(reply: tuple[int, bytes] | bytes) -> bytes:
    if isinstance(reply, bytes):
        return reply
    status, body = reply
    return b"HTTP/1.1 %d Whatever\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


def serving(content: dict[str, bytes], root: str = ROOT, state: bytes = b"{}") -> Script:
    """An agent with these files below ``root``; a name that ends in ``/`` is a directory and has its listing."""

    def script(place: str, query: dict[str, str]) -> Reply:
        if place == "/slave(1)/state":
            return 200, state
        path = query["path"]
        if not (path + "/").startswith(root + "/"):
            return NOT_FOUND
        name = path[len(root) + 1 :]
        if f"{name}/" in content:
            return (200, content[f"{name}/"]) if place == "/files/browse" else IS_DIRECTORY
        if name not in content:
            return IS_DIRECTORY if not name and place == "/files/read" else NOT_FOUND
        if place == "/files/browse":
            return 200, b"[]"
        return read_answer(content[name], int(query["offset"]), int(query.get("length", -1)))

    return script


def read_answer(data: bytes, offset: int, length: int) -> tuple[int, bytes]:
    """As an agent answers /files/read: at most 64 KiB, bytes as they are, control bytes escaped."""
    if offset == -1:
        return 200, b'{"data":"","offset":%d}' % len(data)
    most = 65536 if length < 0 else min(length, 65536)
    text = json.dumps(data[offset : offset + most].decode("latin-1"), ensure_ascii=False).encode("latin-1")
    return 200, b'{"data":%s,"offset":%d}' % (text, offset)


def with_agent(script: Script, test: Callable[[ScriptedAgent, Sandboxes], Awaitable[None]], **options: Any) -> None:
    """Run ``test`` beside a scripted agent."""

    async def body() -> None:
        agent = ScriptedAgent(script)
        sandboxes = Sandboxes(**{"principal": None, "secret": None, **options})

        async def use() -> None:
            await sandboxes.start()
            try:
                async with asyncio.timeout(20):
                    await test(agent, sandboxes)
            finally:
                await sandboxes.close()

        await agent.serve(use)

    asyncio.run(body())


async def _open(agent: ScriptedAgent, sandboxes: Sandboxes, path: str = "stdout") -> SandboxReader:
    return await sandboxes.open_file(agent.url, [FRAMEWORK], "t-sb", path)


async def _list(agent: ScriptedAgent, sandboxes: Sandboxes, path: str = "") -> list[FileEntry]:
    return await sandboxes.list_files(agent.url, [FRAMEWORK], "t-sb", path)


# -- listing -----------------------------------------------------------------------------------------------------


def test_a_listing_is_relative_to_the_sandbox() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        env, link, sub = await _list(agent, sandboxes)
        assert env == FileEntry(
            path="env.txt", size=1019, mtime=1795151359.0, mode="-rw-r--r--", uid="root", gid="root", type="file"
        )
        assert (link.path, sub.path, sub.type, sub.nlink) == ("link", "sub", "directory", 2)

    with_agent(serving({"/": (LISTING % {"root": ROOT}).encode()}), test)


def test_a_sandbox_is_found_in_the_state_of_an_agent_that_does_not_show_it_by_name() -> None:
    executor = {"id": "t-sb", "name": "t", "directory": REAL, "tasks": []}
    state = {"id": "S0", "frameworks": [{"id": FRAMEWORK, "completed_executors": [executor]}]}
    said = json.dumps(state).encode().replace(b'"name": "t"', b'"name": "\xff"')

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        assert [entry.path for entry in await _list(agent, sandboxes)] == ["env.txt", "link", "sub"]
        assert [entry.path for entry in await _list(agent, sandboxes, "sub")] == ["sub/f"]
        assert [place for place, _ in agent.asked].count("/slave(1)/state") == 1

    sub = b'[{"gid":"g","mode":"-rw-r--r--","mtime":1.0,"nlink":1,"path":"%s/sub/f","size":2,"uid":"u"}]'
    content = {"/": (LISTING % {"root": REAL}).encode(), "sub/": sub % REAL.encode()}
    with_agent(serving(content, REAL, said), test)


def test_a_path_that_is_a_file_is_its_own_entry_and_an_empty_directory_has_none() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        assert [entry.size for entry in await _list(agent, sandboxes, "env.txt")] == [1019]
        assert await _list(agent, sandboxes, "sub/") == []
        with pytest.raises(FileNotFoundError, match="nosuch"):
            await _list(agent, sandboxes, "nosuch")

    listing = (LISTING % {"root": ROOT}).encode()
    with_agent(serving({"/": listing, "sub/": b"[]", "env.txt": b"x"}), test)


def test_a_name_of_any_bytes_finds_its_way_back() -> None:
    name = b"a b%2e&c=\xff#?\xc3\xa9"
    listing = b'[{"gid":"g","mode":"srw-r--r--","mtime":1.5,"nlink":1,"path":"%s/%s","size":3,"uid":"u"}]'

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        (entry,) = await _list(agent, sandboxes)
        assert (entry.path.encode("utf-8", "surrogateescape"), entry.type) == (name, "other")
        reader = await _open(agent, sandboxes, entry.path)
        assert await reader.read(0, 10) == b"abc"

    content = {"/": listing % (ROOT.encode(), name), name.decode("latin-1"): b"abc"}
    with_agent(serving(content), test)


# -- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "data"), [(ODD_BYTES, b"\xff\xfe caf\xc3\xa9 \0 end\n"), (HALF_CHARACTER, b"\xa9 ")], ids=["odd", "half"]
)
def test_bytes_that_are_no_text_come_through_as_recorded(body: bytes, data: bytes) -> None:
    def script(place: str, query: dict[str, str]) -> Reply:
        if query["path"] == ROOT:
            return IS_DIRECTORY
        return (200, b'{"data":"","offset":15}') if query["offset"] == "-1" else (200, body)

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        reader = await _open(agent, sandboxes)
        assert reader.size == 15
        assert await reader.read(0, 1000) == data

    with_agent(script, test)


ALL_BYTES = bytes(range(256)) * 3000 + "é€😀".encode() * 7


def test_every_page_is_where_it_belongs() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        reader = await _open(agent, sandboxes)
        assert reader.size == len(ALL_BYTES)
        got = bytearray()
        while data := await reader.read(len(got), 256 * 1024 + 7):
            got += data
        assert got == ALL_BYTES
        for offset, length in ((65535, 2), (1, 70_000), (len(ALL_BYTES) - 3, 10), (len(ALL_BYTES), 5), (10**9, 5)):
            assert ALL_BYTES[offset : offset + length].startswith(await reader.read(offset, length))
        assert len(await reader.read(5, 200_000)) == 200_000
        assert await reader.read(0, 0) == b""

    with_agent(serving({"stdout": ALL_BYTES}), test)


def test_a_file_that_grows_shrinks_and_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "LOOK_S", 0.0)
    content = {"stdout": b"first"}

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        reader = await _open(agent, sandboxes)
        content["stdout"] += b" second"
        assert (reader.size, await reader.refresh(), reader.size) == (5, 12, 12)
        assert await reader.read(5, 100) == b" second"
        content["stdout"] = b"new"
        assert await reader.refresh() == 3
        assert await reader.read(5, 100) == b""
        del content["stdout"]
        with pytest.raises(FileNotFoundError):
            await reader.refresh()
        reader.close()
        reader.close()

    with_agent(serving(content), test)


def test_pages_of_a_file_that_shrinks_meanwhile_leave_no_hole() -> None:
    data = ALL_BYTES[: 4 * 65536]

    def script(place: str, query: dict[str, str]) -> Reply:
        short = data[:70_000] if query.get("offset") == "65536" else data
        return serving({"stdout": short if query.get("offset") != "-1" else data})(place, query)

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        reader = await _open(agent, sandboxes)
        assert await reader.read(0, len(data)) == data[:70_000]

    with_agent(script, test)


def test_a_broken_download_goes_on_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "STREAM_FROM", 1000)
    pages = serving({"stdout": ALL_BYTES})

    def script(place: str, query: dict[str, str]) -> Reply:
        if place != "/files/download":
            return pages(place, query)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + ALL_BYTES[:50_001]

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        agent.script = script
        reader = await _open(agent, sandboxes)
        first = await reader.read(0, 100_000)
        assert agent.paths("download") == [f"{ROOT}/stdout"]
        assert ALL_BYTES.startswith(first)
        got = bytearray(first)
        while data := await reader.read(len(got), 100_000):
            got += data
        assert got == ALL_BYTES

    with_agent(pages, test, timeout_s=1.0)


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\0b", ".."])
def test_paths_out_of_the_sandbox_are_not_even_asked_for(path: str) -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        for ask in (_open, _list):
            with pytest.raises(FileRefused):
                await ask(agent, sandboxes, path)
        assert agent.asked == []

    with_agent(serving({}), test)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((400, f"'{REAL}/link' is inaccessible.\n".encode()), FileRefused, "link leads out of the sandbox"),
        (IS_DIRECTORY, FileRefused, "link is not a plain file"),
        ((400, b"Failed to parse\n"), FileRefused, "Failed to parse"),
        ((404, b""), FileNotFoundError, "link"),
        ((401, b"401 Unauthorized."), FilesUnavailable, "secret-file.*waiting does not help"),
        ((403, b""), FilesUnavailable, "ACL.*waiting does not help"),
        ((503, b"Agent has not finished recovery"), FilesUnavailable, "finished recovery.*try again later"),
        ((307, b""), FilesUnavailable, "no Mesos agent"),
        ((200, b'{"data":7}'), FilesUnavailable, "not understood"),
        ((200, b"nonsense"), FilesUnavailable, "not understood"),
        (b"what?\r\n\r\n", FilesUnavailable, "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", FilesUnavailable, "did not answer within 0.5 s"),
        (None, FilesUnavailable, "did not answer within 0.5 s.*try again later"),
    ],
)
def test_what_agents_refuse(answer: Reply, error: type[Exception], words: str) -> None:
    def script(place: str, query: dict[str, str]) -> Reply:
        return IS_DIRECTORY if query.get("path") == ROOT else answer

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        with pytest.raises(error, match=words) as caught:
            await _open(agent, sandboxes, "link")
        if isinstance(caught.value, FilesUnavailable):
            assert agent.name in str(caught.value)
            assert caught.value.waiting_helps == ("waiting does not help" not in words and "no Mesos" not in words)

    with_agent(script, test, timeout_s=0.5)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/slave(1)", "", "nonsense", "http://[x"])
def test_an_agent_that_is_not_there(url: str) -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        with pytest.raises(FilesUnavailable):
            await sandboxes.list_files(url, [FRAMEWORK], "t-sb", "")

    with_agent(serving({}), test)


def test_the_sandbox_itself_is_no_file() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        with pytest.raises(FileRefused, match="name a file"):
            await _open(agent, sandboxes, "./")

    with_agent(serving({}), test)


# -- finding the sandbox -----------------------------------------------------------------------------------------


def test_older_registrations_are_tried_in_turn_and_the_place_is_remembered() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        for _ in range(3):
            reader = await sandboxes.open_file(agent.url, ["newer", FRAMEWORK], "t-sb", "stdout")
            assert await reader.read(0, 10) == b"text"
        assert agent.paths("read").count("/frameworks/newer/executors/t-sb/runs/latest") == 1
        assert agent.paths("read").count(ROOT) == 1

    with_agent(serving({"stdout": b"text"}), test)


def test_a_sandbox_that_moved_is_found_again() -> None:
    state = json.dumps({"completed_frameworks": [{"id": FRAMEWORK, "executors": [{"id": "t-sb", "directory": REAL}]}]})

    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        assert await (await _open(agent, sandboxes)).read(0, 9) == b"text"
        agent.script = serving({"stdout": b"text"}, REAL, state.encode())
        assert await (await _open(agent, sandboxes)).read(0, 9) == b"text"
        with pytest.raises(FileNotFoundError):
            await _open(agent, sandboxes, "other")

    with_agent(serving({"stdout": b"text"}), test)


def test_a_sandbox_that_nobody_knows_costs_one_look_at_the_state_for_all() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        asked = [sandboxes.open_file(agent.url, [FRAMEWORK], f"{n}.1", "stdout") for n in range(50)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(error) for error in found} == {FileNotFoundError}
        assert [place for place, _ in agent.asked].count("/slave(1)/state") == 1

    with_agent(serving({}), test)


def test_a_state_that_could_not_be_had_is_asked_for_again() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        with pytest.raises(FilesUnavailable, match="not understood"):
            await _open(agent, sandboxes)
        agent.script = serving({}, "/elsewhere", b'{"frameworks":[]}')
        with pytest.raises(FileNotFoundError, match="no sandbox of t-sb"):
            await _open(agent, sandboxes)

    with_agent(serving({}, "/elsewhere", b"nonsense"), test)


# -- manners -----------------------------------------------------------------------------------------------------


def test_credentials_and_no_compression() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        await _open(agent, sandboxes)
        assert all(b"\r\nAuthorization: Basic cmV0ejpzw6ljcmV0\r\n" in head for head in agent.headers)
        assert all(b"\r\nAccept-Encoding: identity\r\n" in head for head in agent.headers)

    with_agent(serving({"stdout": b"text"}), test, principal="retz", secret="sécret")


def test_an_agent_is_not_flooded_and_a_silent_one_does_not_stop_the_readers_of_others() -> None:
    async def test(agent: ScriptedAgent, sandboxes: Sandboxes) -> None:
        silent = ScriptedAgent(lambda _place, _query: None)

        async def use() -> None:
            stuck = [asyncio.ensure_future(_list(silent, sandboxes)) for _ in range(200)]
            while silent.waiting < REQUESTS:  # noqa: ASYNC110 (what a server sees is no event)
                await asyncio.sleep(0.001)
            reader = await _open(agent, sandboxes)
            assert await reader.read(0, 10) == b"text"
            assert silent.waiting == REQUESTS
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)

        await silent.serve(use)

    with_agent(serving({"stdout": b"text"}), test)
