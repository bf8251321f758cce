"""Asking agents over HTTP, on the server's own loop. What fails is told as :class:`FilesUnavailable`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp
from yarl import URL

from retz.engine.base import FilesUnavailable

from .failures import words_of

TIMEOUT_S = 10.0
REQUESTS = 32
"""At a time to one agent; more wait. Agents do not wait for each other."""
READ_AHEAD = 256 * 1024
ANSWERED = (200, 400, 404)
"""What an agent answers that is well and knows us; 400 and 404 are about the path."""


class Answer(NamedTuple):
    """A whole answer; its status is one of :data:`ANSWERED`."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The beginning of the body, for messages."""
        return self.body[:200].decode("utf-8", "replace").strip()


class AgentHttp:
    """GET requests to agents, with the framework's credentials. :meth:`start` it before use, :meth:`close` it after.

    Args:
        timeout_s: For a whole answer; for a stream, between two pieces of it.
    """

    def __init__(self, *, principal: str | None, secret: str | None, timeout_s: float = TIMEOUT_S) -> None:
        # To compress costs the agent more than the network saves.
        self._headers = {"Accept-Encoding": "identity"}
        if principal is not None:
            self._headers["Authorization"] = "Basic " + b64encode(f"{principal}:{secret or ''}".encode()).decode()
        self._timeout_s = timeout_s
        self._opened: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make ready, for the running loop."""
        self._opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=REQUESTS),
            headers=self._headers,
            read_bufsize=READ_AHEAD,
        )

    async def close(self) -> None:
        """Close all connections. Twice is harmless."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def get(self, url: str) -> Answer:
        """Ask, and read the whole answer.

        Raises:
            FilesUnavailable: the agent is away, slow, in trouble, or refuses us.
        """
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        with self._failures(url):
            async with self._session(url).get(_url(url), timeout=timeout, allow_redirects=False) as response:
                answer = Answer(response.status, await response.read())
        if answer.status not in ANSWERED:
            raise _refused(url, answer)
        return answer

    async def stream(self, url: str) -> aiohttp.ClientResponse | None:
        """Begin to read a long answer; the caller closes it. None if the agent will not send it.

        Raises:
            FilesUnavailable: as :meth:`get`.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=self._timeout_s, sock_read=self._timeout_s)
        with self._failures(url):
            response = await self._session(url).get(_url(url), timeout=timeout, allow_redirects=False)
        if response.status == 200:
            return response
        response.close()
        return None

    def _session(self, url: str) -> aiohttp.ClientSession:
        if self._opened is None:
            raise FilesUnavailable(f"agent {name_of(url)} is not asked: the server is stopping or starting; try again")
        return self._opened

    @contextmanager
    def _failures(self, url: str) -> Iterator[None]:
        name = name_of(url)
        try:
            yield
        except TimeoutError:
            late = (
                f"agent {name} did not answer within {self._timeout_s:g} s; it is overloaded or away: try again later"
            )
            raise FilesUnavailable(late) from None
        except aiohttp.InvalidURL:
            raise FilesUnavailable(f"agent {name!r} has no address that can be asked", waiting_helps=False) from None
        except (aiohttp.ClientError, OSError) as error:
            why = words_of(error)
            raise FilesUnavailable(
                f"agent {name}, which has the files, cannot be reached ({why}); they can be read once it is back"
            ) from None


def name_of(url: str) -> str:
    """An agent's name for people: ``host:port``."""
    try:
        return URL(url).authority or url
    except ValueError:
        return url


def _url(text: str) -> URL:
    try:
        return URL(text, encoded=True)  # escaped already, by the bytes of the names and not by their characters
    except ValueError as error:
        raise aiohttp.InvalidURL(text) from error


def _refused(url: str, answer: Answer) -> FilesUnavailable:
    name, status = name_of(url), answer.status
    if status == 401:
        return FilesUnavailable(
            f"agent {name} does not know this server (401): the operator must set retz.mesos.principal and "
            "retz.mesos.secret-file to what the agent accepts; waiting does not help",
            waiting_helps=False,
        )
    if status == 403:
        return FilesUnavailable(
            f"agent {name} does not let this server see sandboxes (403): the operator must allow it to "
            "retz.mesos.principal in the agent's ACLs; waiting does not help",
            waiting_helps=False,
        )
    said = f": {answer.text}" if answer.text else ""
    if status >= 500:
        return FilesUnavailable(f"agent {name} is in trouble ({status}{said}); try again later")
    return FilesUnavailable(f"what answers at {name} is no Mesos agent ({status}{said})", waiting_helps=False)
