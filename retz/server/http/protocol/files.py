"""``/job/{id}/file``, ``/download``, ``/dir``: the sandbox of a job's latest attempt."""

from __future__ import annotations

import codecs

from aiohttp import web

from retz.engine.base import FileReader, FileRefused, FilesUnavailable
from retz.model.job import ENDED_STATES, Attempt, Job

from ...problem import Problem
from .. import streaming
from ..api import Call
from ..files import MAX_OFFSET, copy
from ..params import checked_text, integer, refuse
from ..responses import stream
from . import messages
from .answers import answer, error, plain
from .jobs import id_of, origin_of, own_job
from .messages import EntryMessage, FileMessage, JobMessage
from .translate import entry_message, job_message

ROOT = "$MESOS_SANDBOX"
"""What old clients say for the sandbox itself."""
MOST = 1 << 20
"""Bytes in one answer; a client asks again from where it ended."""
MAX_PATH = 4096
_LONGEST_CHARACTER = 4


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    # One for one: old clients count the bytes of what they got to know where to go on.
    return "?" * (error.end - error.start), error.end


codecs.register_error("retz-same-length", _mark)


def _text(data: bytes, final: bool) -> str:
    """As much of ``data`` as is whole characters; all of it if nothing can follow. As many bytes as it takes up."""
    return codecs.getincrementaldecoder("utf-8")("retz-same-length").decode(data, final)


def _given(call: Call, name: str) -> str:
    value = call.request.query.get(name)
    if value is None:
        refuse(name, "is missing")
    return checked_text(name, value, MAX_PATH)


def _task_id(job: Job, attempt: Attempt) -> str:
    return f"{job.id}.{attempt.number}"


async def get_file(call: Call) -> web.StreamResponse:
    """``GET /job/{id}/file``."""
    job = own_job(call)
    path = _given(call, "path")
    offset = integer("offset", _given(call, "offset"), 0, MAX_OFFSET)
    length = integer("length", _given(call, "length"), -1, MAX_OFFSET)
    await call.core.settled()
    if job is None:
        return answer(messages.GetFileAnswer(None, None))
    part = await _part(call, job, path, offset, MOST if length < 0 else min(length, MOST))
    return answer(messages.GetFileAnswer(job_message(job, origin_of(call)), part))


async def _part(call: Call, job: Job, path: str, offset: int, length: int) -> FileMessage | None:
    attempt = job.attempt
    if attempt is None:
        return None
    try:
        reader = await call.core.engine.open_file(_task_id(job, attempt), path, attempt.agent)
        try:
            return FileMessage(await _read(reader, offset, length, job.state in ENDED_STATES), offset)
        finally:
            reader.close()
    except (FileNotFoundError, NotADirectoryError, FileRefused):
        return None
    except FilesUnavailable as away:
        raise Problem("unavailable", str(away)) from None


async def _read(reader: FileReader, offset: int, length: int, ended: bool) -> str:
    """Up to ``length`` bytes as text, ending with a whole character; one character if none fits."""
    if length == 0:
        return ""
    data = await reader.read(offset, length)
    found = _text(data, ended and offset + len(data) >= reader.size)
    if found or not data:
        return found
    data = await reader.read(offset, _LONGEST_CHARACTER)
    return _text(data, ended and offset + len(data) >= reader.size)[:1]


async def download(call: Call) -> web.StreamResponse:
    """``GET /job/{id}/download``."""
    job = own_job(call)
    path = _given(call, "path")
    if job is None:
        return error(404, f"No such job: {id_of(call)}")
    attempt = job.attempt
    if attempt is None:
        return plain(404, "")
    try:
        reader = await call.core.engine.open_file(_task_id(job, attempt), path, attempt.agent)
    except (FileNotFoundError, NotADirectoryError):
        return error(404, f"{path} not found")
    except FileRefused as refused:
        raise Problem("forbidden", str(refused)) from None
    except FilesUnavailable as away:
        raise Problem("unavailable", str(away)) from None
    try:
        return await _send(call, reader)
    finally:
        reader.close()


async def _send(call: Call, reader: FileReader) -> web.StreamResponse:
    size, most = reader.size, call.core.config.max_file_size << 20
    if most and size > most:
        return error(500, f"stream file too large: {size} (must be less than or equal to {most})")
    response = stream(200, {"Content-Type": "application/octet-stream"})
    response.content_length = size

    async def produce(response: web.StreamResponse) -> None:
        await copy(call, reader, response, 0, size)

    return await streaming.run(call.request, response, "GET download", produce)


async def list_files(call: Call) -> web.StreamResponse:
    """``GET /job/{id}/dir``."""
    job = own_job(call)
    path = _given(call, "path")
    await call.core.settled()
    message: JobMessage | None = None
    entries: list[EntryMessage] = []
    if job is not None:
        message = job_message(job, origin_of(call))
        try:
            entries = await _entries(call, job, "" if path == ROOT else path)
        except (FileNotFoundError, NotADirectoryError):
            if path != ROOT or _began(job):
                return error(404, f"{path} not found")
        except FileRefused as refused:
            raise Problem("forbidden", str(refused)) from None
        except FilesUnavailable as away:
            raise Problem("unavailable", str(away)) from None
    return answer(messages.ListFilesAnswer(message, entries))


def _began(job: Job) -> bool:
    """Whether the latest attempt has a sandbox; one that only was to begin may have none."""
    return job.attempt is not None and job.attempt.started is not None


async def _entries(call: Call, job: Job, path: str) -> list[EntryMessage]:
    attempt = job.attempt
    if attempt is None:
        return []
    found = await call.core.engine.list_files(_task_id(job, attempt), path, attempt.agent)
    itself = "/".join(part for part in path.split("/") if part not in ("", "."))
    if itself and [entry.path for entry in found] == [itself]:
        return []  # a file is not a directory with itself in it
    return [entry_message(entry, _task_id(job, attempt)) for entry in found]
