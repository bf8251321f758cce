"""Files of tasks, read from the agents that have them.

An agent shows a sandbox as ``/frameworks/<framework>/executors/<task>/runs/latest``, or else under its real path, which
only the agent's ``/state`` tells. Both are asked for by plain HTTP (``/files/read``, ``/files/browse``,
``/files/download``). An agent says 404 both for a missing file and for a sandbox it does not know.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct

from retz.engine.base import FileEntry, FileRefused, FilesUnavailable
from retz.engine.paths import parts_of

from .agent_http import TIMEOUT_S, AgentHttp, Answer, name_of

PAGE = 65536
"""An agent sends no more in one answer, whatever is asked."""
PAGES = 4
"""Asked for at once by one reader."""
STREAM_FROM = 1024 * 1024
"""A longer file that is read from its beginning is downloaded as one stream."""
STREAMS = 8
"""At a time from one agent: a stream lasts as long as its reader is slow, and others need connections too."""
LOOK_S = 0.25
"""Between two looks of one reader at a growing file: each is a request to the agent."""
STATE_S = 10.0
"""How long an agent's state, which may be megabytes, is good for finding sandboxes."""
ROOTS = 10_000
"""Sandboxes of which the place is kept in mind."""
IN_PLACE = 256 * 1024
"""Longer JSON is read in a thread, so that the loop goes on."""


class Sandboxes:
    """The files of tasks on all agents.

    Args:
        principal, secret: For agents that ask who we are.
        timeout_s: For one answer of an agent.
    """

    def __init__(
        self, *, principal: str | None = None, secret: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._http = AgentHttp(principal=principal, secret=secret, timeout_s=timeout_s)
        self._roots: dict[tuple[str, str], str] = {}
        self._states: dict[str, tuple[float, asyncio.Future[dict[tuple[str, str], str]]]] = {}
        self._streams: dict[str, int] = {}

    async def start(self) -> None:
        """Make ready, for the running loop."""
        await self._http.start()

    async def close(self) -> None:
        """Close all connections; readers fail from now on."""
        for _, state in self._states.values():
            state.cancel()
        self._states.clear()
        await self._http.close()

    async def list_files(self, url: str, framework_ids: Sequence[str], task_id: str, path: str) -> list[FileEntry]:
        """Entries of a directory of a sandbox, in name order; one entry if ``path`` is a file.

        Args:
            url: Of the agent, as offers have it: ``http://10.0.0.7:5051/slave(1)``.
            framework_ids: Under which the task may have been launched, the likeliest first.
            path: Relative to the sandbox.

        Raises:
            FilesUnavailable: the agent is away, slow, or refuses us.
            FileNotFoundError: no such sandbox or path.
            FileRefused: the path leaves the sandbox.
        """
        parts = parts_of(path)
        root, answer = await self._ask(url, framework_ids, task_id, parts, "browse", "")
        entries = await self._entries(url, root, answer)
        if entries or not parts:
            return entries
        # A file is answered like an empty directory: what it is, its parent knows.
        _, answer = await self._ask(url, framework_ids, task_id, parts[:-1], "browse", "")
        wanted = "/".join(parts)
        found = [entry for entry in await self._entries(url, root, answer) if entry.path == wanted]
        return [entry for entry in found if entry.type != "directory"]

    async def open_file(self, url: str, framework_ids: Sequence[str], task_id: str, path: str) -> SandboxReader:
        """Open a file of a sandbox for reading. Arguments and errors as those of :meth:`list_files`."""
        parts = parts_of(path)
        if not parts:
            raise FileRefused("the sandbox itself is a directory; name a file in it")
        root, answer = await self._ask(url, framework_ids, task_id, parts, "read", "&offset=-1")
        return SandboxReader(self, url, _join(root, parts), path, _page(url, answer)[1])

    # -- for readers -----------------------------------------------------------------------------------------

    async def read(self, url: str, place: str, path: str, offset: int, length: int) -> tuple[bytes, int]:
        """One page, or with offset -1 nothing; and the offset that the agent tells, which then is the size."""
        answer = await self._http.get(_files(url, "read", place, f"&offset={offset}&length={length}"))
        _check(answer, path)
        return _page(url, answer)

    async def download(self, url: str, place: str) -> Download | None:
        """Begin a download, unless the agent sends enough of them already."""
        if self._streams.get(url, 0) >= STREAMS:
            return None
        self._streams[url] = self._streams.get(url, 0) + 1
        response = None
        try:
            response = await self._http.stream(_files(url, "download", place, ""))
        finally:
            if response is None:
                self.ended(url)
        return Download(self, url, response) if response is not None else None

    def ended(self, url: str) -> None:
        """A download is over."""
        self._streams[url] -= 1
        if not self._streams[url]:
            del self._streams[url]

    # -- where a sandbox is ----------------------------------------------------------------------------------

    async def _ask(
        self, url: str, framework_ids: Sequence[str], task_id: str, parts: Sequence[str], what: str, more: str
    ) -> tuple[str, Answer]:
        """Ask about a path of a sandbox; return the place of the sandbox too."""
        key, path = (url, task_id), "/".join(parts)
        known = self._roots.get(key)
        if known is not None:
            answer = await self._http.get(_files(url, what, _join(known, parts), more))
            if answer.status != 404:
                _check(answer, path)
                return known, answer
        # What is not found may be because the agent restarted and shows the sandbox elsewhere now.
        root = await self._root(url, framework_ids, task_id)
        answer = await self._http.get(_files(url, what, _join(root, parts), more))
        _check(answer, path)
        return root, answer

    async def _root(self, url: str, framework_ids: Sequence[str], task_id: str) -> str:
        key = (url, task_id)
        self._roots.pop(key, None)
        for framework in framework_ids:
            root = f"/frameworks/{framework}/executors/{task_id}/runs/latest"
            # A directory that is there cannot be read (400); one that is not there is not found (404).
            if (await self._http.get(_files(url, "read", root, "&offset=-1"))).status != 404:
                break
        else:
            root = await self._directory(url, framework_ids, task_id)
        if len(self._roots) >= ROOTS:
            del self._roots[next(iter(self._roots))]
        self._roots[key] = root
        return root

    async def _directory(self, url: str, framework_ids: Sequence[str], task_id: str) -> str:
        directories = await self._state(url)
        for framework in framework_ids:
            found = directories.get((framework, task_id))
            if found:
                return found
        raise FileNotFoundError(f"agent {name_of(url)} has no sandbox of {task_id} (any more)")

    async def _state(self, url: str) -> dict[tuple[str, str], str]:
        """Sandboxes in the agent's state, asked for once for all who want it."""
        now = time.monotonic()
        known = self._states.get(url)
        if known is None or now - known[0] > STATE_S or _failed(known[1]):
            for old in [old for old, (at, _) in self._states.items() if now - at > STATE_S]:
                del self._states[old]
            known = (now, asyncio.ensure_future(self._look(url)))
            self._states[url] = known
        return await asyncio.shield(known[1])

    async def _look(self, url: str) -> dict[tuple[str, str], str]:
        answer = await self._http.get(f"{url.rstrip('/')}/state")
        if answer.status != 200:
            return {}
        try:
            return await asyncio.to_thread(_directories, answer.body)
        except msgspec.MsgspecError as error:
            raise FilesUnavailable(f"agent {name_of(url)} sent a state that was not understood: {error}") from error

    async def _entries(self, url: str, root: str, answer: Answer) -> list[FileEntry]:
        if len(answer.body) > IN_PLACE:
            return await asyncio.to_thread(_listing, url, root, answer.body)
        return _listing(url, root, answer.body)


class Download:
    """A file that comes as one stream."""

    def __init__(self, sandboxes: Sandboxes, url: str, response: aiohttp.ClientResponse) -> None:
        self._sandboxes = sandboxes
        self._url = url
        self._response: aiohttp.ClientResponse | None = response
        self.offset = 0

    async def read(self, length: int) -> bytes:
        """The next bytes; empty at the end, also if the stream breaks: the rest is then read in pages."""
        if self._response is None:
            return b""
        try:
            data = await self._response.content.read(length)
        except (aiohttp.ClientError, TimeoutError, OSError):
            data = b""
        self.offset += len(data)
        return data

    def close(self) -> None:
        """End it. Twice is harmless."""
        if self._response is not None:
            self._response.close()
            self._response = None
            self._sandboxes.ended(self._url)


class SandboxReader:
    """An open file of a sandbox; see :class:`retz.engine.base.FileReader`.

    All methods raise :class:`FilesUnavailable` while the agent is away, and FileNotFoundError once the file is gone;
    both may be tried again.
    """

    def __init__(self, sandboxes: Sandboxes, url: str, place: str, path: str, size: int) -> None:
        self._sandboxes = sandboxes
        self._url = url
        self._place = place
        self._path = path
        self._size = size
        self._looked = 0.0
        self._stream: Download | None = None

    @property
    def size(self) -> int:
        """Size in bytes when it was opened or last refreshed."""
        return self._size

    async def refresh(self) -> int:
        """Look again, some time after the last look: the present size in bytes."""
        await asyncio.sleep(self._looked + LOOK_S - time.monotonic())
        self._looked = time.monotonic()
        _, self._size = await self._sandboxes.read(self._url, self._place, self._path, -1, 0)
        return self._size

    async def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; empty at or past the end."""
        if length <= 0:
            return b""
        if offset == 0 and length > PAGE and self._size >= STREAM_FROM:
            self.close()
            self._stream = await self._sandboxes.download(self._url, self._place)
        if self._stream is not None and self._stream.offset == offset:
            data = await self._stream.read(length)
            if data:
                return data
        self.close()
        return await self._pages(offset, length)

    def close(self) -> None:
        """Release it. Twice is harmless."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _pages(self, offset: int, length: int) -> bytes:
        stop = offset + min(length, PAGE * PAGES)
        wanted = [(at, min(PAGE, stop - at)) for at in range(offset, stop, PAGE)]
        if len(wanted) == 1 or offset + PAGE >= self._size:
            return await self._page(*wanted[0])
        asked = [asyncio.ensure_future(self._page(*page)) for page in wanted]
        try:
            pages = await asyncio.gather(*asked)
        finally:
            for page in asked:
                page.cancel()
        got = bytearray()
        for (_, most), data in zip(wanted, pages, strict=True):
            got += data
            if len(data) < most:
                break  # it became shorter between two pages: what follows has another place now
        return bytes(got)

    async def _page(self, offset: int, length: int) -> bytes:
        return (await self._sandboxes.read(self._url, self._place, self._path, offset, length))[0]


# -- what agents say ---------------------------------------------------------------------------------------------


def _files(url: str, what: str, place: str, more: str) -> str:
    """The URL of a question about files: they belong to the agent's process as a whole, not to ``/slave(1)``."""
    scheme, _, rest = url.partition("://")
    return (
        f"{scheme}://{rest.partition('/')[0]}/files/{what}?path={quote(place, safe='', errors='surrogateescape')}{more}"
    )


def _join(root: str, parts: Sequence[str]) -> str:
    return "/".join((root, *parts))


def _check(answer: Answer, path: str) -> None:
    if answer.status == 404:
        raise FileNotFoundError(f"no such file or directory in the sandbox: {path}")
    if answer.status == 400:
        if b"inaccessible" in answer.body:
            raise FileRefused(f"{path} leads out of the sandbox, or the agent may not read it")
        if b" directory." in answer.body:
            raise FileRefused(f"{path} is not a plain file")
        raise FileRefused(f"{path}: the agent says: {answer.text}")


def _page(url: str, answer: Answer) -> tuple[bytes, int]:
    """Data and offset of an answer of ``/files/read``: any bytes at all inside a JSON string."""
    try:
        # As Latin-1 every byte is one character, so that what is no UTF-8, or half of a character, comes through.
        page = json.loads(answer.body.decode("latin-1"))
        return page["data"].encode("latin-1"), int(page["offset"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _puzzling(url, error) from error


def _listing(url: str, root: str, body: bytes) -> list[FileEntry]:
    try:
        # Names are bytes as well; what is no UTF-8 must find its way back into a request.
        found = json.loads(body.decode("utf-8", "surrogateescape"))
        entries = [_entry(root, item) for item in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _puzzling(url, error) from error
    return sorted(entries, key=lambda entry: entry.path)


def _entry(root: str, item: dict[str, Any]) -> FileEntry:
    mode = item["mode"]
    return FileEntry(
        path=item["path"].removeprefix(root).lstrip("/"),
        size=int(item["size"]),
        mtime=float(item["mtime"]),
        mode=mode,
        uid=str(item["uid"]),
        gid=str(item["gid"]),
        nlink=int(item.get("nlink", 1)),
        type=_TYPES.get(mode[:1], "other"),
    )


_TYPES: dict[str, Literal["file", "directory", "link"]] = {"-": "file", "d": "directory", "l": "link"}


def _puzzling(url: str, error: Exception) -> FilesUnavailable:
    return FilesUnavailable(f"agent {name_of(url)} sent an answer that was not understood: {error!r}")


class _Executor(Struct):
    id: str = ""
    directory: str = ""


class _Framework(Struct):
    id: str = ""
    executors: list[_Executor] = []
    completed_executors: list[_Executor] = []


class _State(Struct):
    frameworks: list[_Framework] = []
    completed_frameworks: list[_Framework] = []


_STATE = msgspec.json.Decoder(_State)


def _directories(body: bytes) -> dict[tuple[str, str], str]:
    """Sandboxes in an agent's state, by framework and executor (which has the task's id)."""
    state = _STATE.decode(body.decode("utf-8", "replace"))
    found = {}
    for framework in (*state.completed_frameworks, *state.frameworks):
        for executor in (*framework.completed_executors, *framework.executors):
            if executor.directory:
                found[framework.id, executor.id] = executor.directory
    return found


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
