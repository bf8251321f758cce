"""Fetches a job's files into its sandbox, the current directory, with the rights of the process that calls.

Nothing is believed that did not arrive whole: a short answer, a damaged archive, a limit that was passed are errors,
and the job does not start. Standard library only, because this runs in a child of the launcher.
"""

from __future__ import annotations

import os
import resource
import signal

from . import unpack
from .cache import Cache
from .job import duration
from .sources import name_of, open_uri, save, shown
from .unpack import FetchError as FetchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MEMORY = 1 << 30
"""Address space while fetching: some archives ask for gigabytes to be unpacked."""
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class _TimedOut(BaseException):
    """Not an Exception, so that no library on the way takes it for its own."""


def fetch_all(
    files: Sequence[tuple[str, bool]], limits: Mapping[str, Any], cache_fd: int | None, environment: Mapping[str, str]
) -> None:
    """Fetch files, in order, and unpack the archives among them.

    Args:
        files: URI (``http``, ``https``, ``file`` or a path), and whether to keep a copy in the cache.
        limits: ``timeout_s`` for all, ``max_mb`` for each, ``cache_mb``.
        cache_fd: The directory of the cache.
        environment: The job's; of it only the proxies count.

    Raises:
        FetchError: naming the file and the cause.
    """
    for name in (*_PROXIES, *(name.upper() for name in _PROXIES)):
        if name in environment:
            os.environ[name] = environment[name]
    most = limits["max_mb"] << 20
    cache = None if cache_fd is None or not limits["cache_mb"] else Cache(cache_fd, limits["cache_mb"] << 20, most)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_least(MEMORY, *memory), memory[1]))
    signal.signal(signal.SIGALRM, _time_out)
    signal.setitimer(signal.ITIMER_REAL, limits["timeout_s"])
    uri = ""
    try:
        try:
            for uri, cached in files:
                _fetch(uri, cache if cached else None, most)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, memory)
    except _TimedOut:
        text = f"it was not there within {duration(limits['timeout_s'])} (retz.fetch.timeout)"
        raise FetchError(f"cannot fetch {shown(uri)}: {text}") from None


def _least(*limits: int) -> int:
    return min(limit for limit in limits if limit != resource.RLIM_INFINITY)


def _time_out(*_: object) -> None:
    raise _TimedOut


def _fetch(uri: str, cache: Cache | None, most: int) -> None:
    try:
        name = name_of(uri)
        if os.path.lexists(name):
            raise FetchError(f"the sandbox has a file {name!r} already; no two may have the same name")
        if cache is None:
            _place(uri, name, most)
        else:
            _place_cached(uri, name, cache, most)
    except MemoryError:
        raise FetchError(f"cannot fetch {shown(uri)}: to unpack it takes more than {MEMORY >> 20} MiB memory") from None
    except Exception as error:  # foreign data can make a library raise anything
        raise FetchError(f"cannot fetch {shown(uri)}: {unpack.cause(error)}") from error


def _place(uri: str, name: str, most: int) -> None:
    source = open_uri(uri)
    assert source is not None
    with source, open(_create(name), "wb") as file:
        save(source, file, most)
        os.fchmod(file.fileno(), source.mode)
    if unpack.kind_of(name) is not None:
        with open(name, "rb") as archive:
            unpack.unpack(archive, name, most)


def _place_cached(uri: str, name: str, cache: Cache, most: int) -> None:
    with cache.open(uri) as (copy, mode):
        if unpack.kind_of(name) is not None:
            unpack.unpack(copy, name, most)
            return
        with open(_create(name), "wb") as file:
            while chunk := copy.read(unpack.CHUNK):
                file.write(chunk)
            os.fchmod(file.fileno(), mode)


def _create(name: str) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
