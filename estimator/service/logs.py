"""Logs for the translator: files below the directories that the configuration allows, or a request's body."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from ..errors import BadArgument
from .replies import Forbidden, LogNotFound, TooLarge

_CHUNK = 1 << 20
MB = 1 << 20


def find(path: str, directories: Sequence[Path]) -> Path:
    """The file or directory of that name below the first of the directories that has it.

    Links are followed first and judged by where they lead: what lies outside is as if it were not there.

    Raises:
        Forbidden: no directory is configured, or the path wants to leave them by its form.
        LogNotFound: there is no such file.
    """
    if not directories:
        raise Forbidden(
            "no directory is configured to read logs from: set resourceestimator.log-directories, "
            "or send the log in the body of 'POST translator'"
        )
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise Forbidden("give a path relative to the configured log directories, without '..'")
    roots = [directory.resolve() for directory in directories]
    for root in roots:
        try:
            found = (root / path).resolve()
            inside = any(found.is_relative_to(each) for each in roots)
            if inside and (found.is_file() or found.is_dir()):
                return found
        except (OSError, RuntimeError):  # a name that is too long, a circle of links: not there
            continue
    raise LogNotFound(f"no log {path[:200]!r} in the configured log directories")


@asynccontextmanager
async def uploaded(request: web.Request, limit_mb: int) -> AsyncIterator[Path]:
    """The body as a file, for as long as the block lasts.

    Raises:
        TooLarge: the body is larger than the limit.
    """
    directory = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="retz-estimator-")
    try:
        path = Path(directory.name) / "log"
        with path.open("wb") as file:
            async for chunk in body(request, limit_mb):
                await asyncio.to_thread(file.write, chunk)
        yield path
    finally:
        await asyncio.shield(asyncio.to_thread(directory.cleanup))


async def document(request: web.Request, limit_mb: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it is larger than the limit.
    """
    return b"".join([chunk async for chunk in body(request, limit_mb)])


async def body(request: web.Request, limit_mb: int) -> AsyncIterator[bytes]:
    """The body piece by piece, unpacked; also if somebody (who checked its signature) has read it already.

    Raises:
        TooLarge: it is larger than the limit.
        BadArgument: it cannot be unpacked.
    """
    if request.content.at_eof():
        yield await request.read()
        return
    size = 0
    try:
        async for chunk in request.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > limit_mb * MB:
                raise TooLarge(f"the body is larger than {limit_mb} MB; see resourceestimator.upload-limit")
            yield chunk
    except web.RequestPayloadError as error:
        raise BadArgument("the body is damaged: it is not packed as its Content-Encoding says") from error
