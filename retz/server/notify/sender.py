"""One call of a webhook over HTTP: to a checked address, bounded in time and size, redirects not followed."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from .targets import NOT_PUBLIC, Network, permitted, target_of

CALL_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 5.0
MOST_LOOKUPS = 32
"""Threads that wait for a name service at one time. A lookup cannot be ended; it hangs in a thread of its own, where it
is in nobody's way."""

Lookup = Callable[[str, int], list[Any]]
"""(host, port) -> what ``socket.getaddrinfo`` returns. Blocks."""


class Refused(Exception):
    """The call may not be made, or the receiver does not want just this: others may fare better."""


class Down(Exception):
    """The receiver does not answer, or says that it cannot work now: nothing else would fare better."""


def _getaddrinfo(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class CheckedResolver(AbstractResolver):
    """Looks names up, and passes on only addresses that may be called. What it returns is what is connected to."""

    def __init__(self, allowed: tuple[Network, ...], lookup: Lookup) -> None:
        self._allowed = allowed
        self._lookup = lookup
        self._under_way = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            Refused: one of them is not permitted. A name with public and private addresses is an attempt.
            Down: there is none now.
        """
        found = [info for info in await self._looked_up(host, port) if family in (socket.AF_UNSPEC, info[0])]
        for info in found:
            address = ip_address(info[4][0])
            if not permitted(address, self._allowed):
                raise Refused(f"{host} {NOT_PUBLIC}")  # which it is, is no business of the user's
        return [
            ResolveResult(
                hostname=host,
                host=info[4][0],
                port=port,
                family=info[0],
                proto=info[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for info in found
        ]

    async def _looked_up(self, host: str, port: int) -> list[Any]:
        if self._under_way >= MOST_LOOKUPS:
            raise Down("the name service does not answer")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any] | OSError] = loop.create_future()
        self._under_way += 1
        threading.Thread(target=self._ask, args=(host, port, loop, answer), daemon=True, name="retz-lookup").start()
        found = await answer
        if isinstance(found, OSError):
            raise Down(f"{host} has no address: {found.strerror or found}")
        return found

    def _ask(
        self, host: str, port: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[Any] | OSError]
    ) -> None:
        found: list[Any] | OSError
        try:
            found = self._lookup(host, port)
        except OSError as error:
            found = error
        except UnicodeError:  # a label of more than 63 characters, say
            found = OSError(f"{host} is no name of a host")
        try:
            loop.call_soon_threadsafe(self._take, answer, found)
        except RuntimeError:
            return  # the loop was closed meanwhile: nobody waits

    def _take(self, answer: asyncio.Future[list[Any] | OSError], found: list[Any] | OSError) -> None:
        self._under_way -= 1
        if not answer.done():
            answer.set_result(found)

    async def close(self) -> None:
        """Nothing to close: threads end with their lookups."""


class Sender:
    """Makes calls; close it. The event loop must be running.

    Args:
        allowed: Networks that may be called although they are not public.
    """

    def __init__(
        self, allowed: tuple[Network, ...], lookup: Lookup = _getaddrinfo, timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        self._allowed = allowed
        self._timeout_s = timeout_s
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(allowed, lookup), use_dns_cache=False, force_close=True, limit=0
        )
        # No cookies, no proxy and no .netrc of the server's, no unpacking: nothing but the call.
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Drop what is under way."""
        await self._session.close()

    async def send(self, target: str, body: bytes, headers: Mapping[str, str]) -> None:
        """POST the body; return once the receiver has said that it took it. Its own body is never read.

        Raises:
            Refused, Down: it was not delivered; the text is for the job's owner and holds nothing of the URL but its
                host, and nothing of the answer but its status.
        """
        try:
            url = target_of(target, self._allowed)  # again: the configuration may have changed since the submit
        except ValueError as error:
            raise Refused(str(error)) from None
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
                response.close()
        except TimeoutError:
            raise Down(f"no answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            raise Down("its certificate is not trusted") from None
        except aiohttp.ClientConnectorError as error:
            raise Down(f"no connection: {_reason(error.os_error)}") from None
        except ValueError:  # UnicodeError too: a host that no library can write down
            raise Refused("this URL cannot be called") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Down(f"no proper answer ({type(error).__name__})") from None
        _judge(status)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _judge(status: int) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise Refused(f"it answered {status}: redirects are not followed, give the final URL")
    if status in (408, 425, 429) or status >= 500:
        raise Down(f"it answered {status}")
    raise Refused(f"it answered {status}")
