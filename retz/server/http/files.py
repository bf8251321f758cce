"""Files of a job's sandbox: list, read by range, follow while they grow."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import quote

from aiohttp import web
from msgspec import Raw, Struct

from retz.engine.base import FileReader, FileRefused, FilesUnavailable
from retz.model.job import ENDED_STATES, Attempt, Job

from ..problem import Problem
from . import streaming
from .api import Call
from .follow import Follower
from .params import Params
from .responses import encoded, json_of, problem_of, stream
from .views import FileView, file_of

CHUNK = 256 * 1024
"""Bytes of a file in memory at a time, per request."""
MAX_OFFSET = 2**62
_RANGE = re.compile(r"^bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))$")


class FileListing(Struct):
    """A directory of the sandbox; a path that is a file is its only entry."""

    path: str
    attempt: int
    entries: list[FileView]


class _EncodedListing(Struct):
    path: str
    attempt: int
    entries: Raw


def _never_started(job: Job) -> Problem:
    if job.array is not None:
        task = f"{job.id}_{job.array.index_of(0)}"
        return Problem("not-found", f"job {job.id} is an array: its tasks have the files, 'retz get-file {task}'")
    if job.state in ENDED_STATES:
        return Problem("not-found", f"job {job.id} ended without having been started: it has no files")
    return Problem(
        "not-found",
        f"job {job.id} has not been started: it has no files yet; 'retz get-file --poll' (follow=true) waits for them",
    )


async def list_files(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}/files``."""
    params = call.params("path", "attempt")
    job = await call.job_to_read()
    path = _path(params, "")
    attempt = attempt_of(job, params)
    if attempt is None:
        raise _never_started(job)
    try:
        entries = await call.core.engine.list_files(f"{job.id}.{attempt.number}", path, attempt.agent)
    except (FileNotFoundError, NotADirectoryError, FileRefused, FilesUnavailable) as error:
        raise _no_file(job, attempt, path, error) from None
    return json_of(_EncodedListing(path, attempt.number, await encoded(entries, file_of)))


async def get_file(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}/file``."""
    params = call.params("path", "attempt", "download", "follow", "offset")
    job = await call.job_to_read()
    path = _path(params, "stdout")
    attempt = attempt_of(job, params)
    offset = params.integer("offset", 0, 0, MAX_OFFSET)
    headers = {"Content-Type": "application/octet-stream"}
    if params.flag("download"):
        headers["Content-Disposition"] = disposition(path)
    if params.flag("follow"):
        return await _follow(call, job, attempt, path, offset, headers)
    if attempt is None:
        raise _never_started(job)
    reader = await _open(call, job, attempt, path)
    try:
        return await _send(call, reader, attempt, headers, offset)
    finally:
        reader.close()


def _path(params: Params, default: str) -> str:
    return params.text("path") or default


def attempt_of(job: Job, params: Params) -> Attempt | None:
    """The attempt that is asked for, by default the latest; None if there was none yet."""
    number = params.integer("attempt", 0, 0, 1_000_000)
    if not number:
        return job.attempt
    for attempt in job.attempts:
        if attempt.number == number:
            return attempt
    last = job.attempts[-1].number if job.attempts else 0
    raise Problem("not-found", f"job {job.id} has no attempt {number}; its last is {last}")


async def _open(call: Call, job: Job, attempt: Attempt, path: str) -> FileReader:
    try:
        return await call.core.engine.open_file(f"{job.id}.{attempt.number}", path, attempt.agent)
    except (FileNotFoundError, NotADirectoryError, FileRefused, FilesUnavailable) as error:
        raise _no_file(job, attempt, path, error) from None


def _no_file(job: Job, attempt: Attempt, path: str, error: Exception) -> Problem:
    if isinstance(error, FileRefused):
        return Problem("forbidden", str(error))
    if isinstance(error, FilesUnavailable):
        return Problem("unavailable", str(error))
    where = f"attempt {attempt.number} of job {job.id}"
    kept = "; sandboxes of ended jobs are removed after some days" if job.state in ENDED_STATES else ""
    return Problem("not-found", f"no such file: {path!r} in the sandbox of {where}{kept}")


class Span(NamedTuple):
    """Bytes to send: from ``start`` to before ``stop``."""

    start: int
    stop: int


def parse_range(header: str | None, size: int) -> Span | Literal["all", "unsatisfiable"]:
    """Read a Range header. What is not one range of bytes is ignored, as RFC 9110 allows."""
    found = _RANGE.match(header) if header else None
    if found is None:
        return "all"
    first, last, suffix = found.groups()
    if suffix is not None:
        return Span(max(0, size - int(suffix)), size) if int(suffix) and size else "unsatisfiable"
    start = int(first)
    stop = int(last) + 1 if last else size
    if stop <= start and last:
        return "all"  # "5-3" is no range at all
    return Span(start, min(stop, size)) if start < size else "unsatisfiable"


async def _send(
    call: Call, reader: FileReader, attempt: Attempt, headers: dict[str, str], offset: int
) -> web.StreamResponse:
    size = reader.size
    span = parse_range(call.request.headers.get("Range"), size)
    if span == "all" and offset:
        span = Span(offset, size) if offset <= size else "unsatisfiable"
    if span == "unsatisfiable":
        problem = Problem("range", f"the file has {size} bytes: ask for a range within it")
        return problem_of(problem, {"Content-Range": f"bytes */{size}"})
    partial = isinstance(span, Span)
    start, stop = span if isinstance(span, Span) else Span(0, size)
    most = call.core.config.max_file_size
    if most and stop - start > most * 1024 * 1024:
        raise Problem("too-large", f"this server sends at most {most} MiB at a time: ask for a range (bytes=0-999999)")
    if partial and stop > start:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response = stream(
        206 if "Content-Range" in headers else 200,
        {**headers, "Accept-Ranges": "bytes", "Retz-Attempt": str(attempt.number)},
    )
    response.content_length = stop - start

    async def produce(response: web.StreamResponse) -> None:
        await copy(call, reader, response, start, stop)

    return await streaming.run(call.request, response, "GET file", produce)


async def copy(call: Call, reader: FileReader, response: web.StreamResponse, start: int, stop: int) -> None:
    """Write bytes ``start`` to before ``stop`` of a file, as long as the user is welcome."""
    while start < stop:
        if not call.api.welcome(call.user):
            raise ConnectionAbortedError("the user was disabled meanwhile")
        try:
            data = await reader.read(start, min(CHUNK, stop - start))
        except (FilesUnavailable, FileNotFoundError) as error:
            raise ConnectionAbortedError(f"the rest of the file cannot be had: {error}") from error
        if not data:
            raise ConnectionAbortedError("the file became shorter while it was sent")
        await response.write(data)
        start += len(data)


async def _follow(
    call: Call, job: Job, attempt: Attempt | None, path: str, offset: int, headers: dict[str, str]
) -> web.StreamResponse:
    follower = Follower(call, job.id, path, offset, attempt.number if attempt else 1)
    if attempt is not None:
        # Refusals are told by the status, which is only possible before the first byte.
        try:
            await follower.open(attempt)
        except FileRefused as error:
            raise _no_file(job, attempt, path, error) from None
        except FilesUnavailable as error:
            if job.state in ENDED_STATES or not error.waiting_helps:
                raise _no_file(job, attempt, path, error) from None
        if not follower.opened and job.state in ENDED_STATES:
            raise _no_file(job, attempt, path, FileNotFoundError())
    response = stream(200, {**headers, "Retz-Attempt": str(attempt.number if attempt else 1)})
    try:
        return await streaming.run(call.request, response, "GET file (follow)", follower.produce)
    finally:
        follower.close()


def disposition(path: str) -> str:
    """A Content-Disposition header for a file name that may hold anything (RFC 6266)."""
    name = path.rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._ +,=@-]", "_", name).lstrip(".") or "file"
    full = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"
