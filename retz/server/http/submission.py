"""Decoding submissions: one job in a microsecond, 100 000 without ever holding the loop for long."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from retz.model.submission import MAX_JOBS_PER_REQUEST, MAX_KEY_LENGTH, JobSpec

from ..problem import FieldError, Problem
from . import body as bodies

MAX_BODY = 64 * bodies.MIB
SMALL = 64 * bodies.KIB
"""Up to here one call decodes everything: 0.2 ms."""
PIECE = 4 * bodies.MIB
"""Splitting this much into jobs takes 3 ms."""
SLICE = 200
"""Jobs decoded between two turns of the loop: 0.3 ms."""

Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_LENGTH)]


class SubmitRequest(Struct, forbid_unknown_fields=True):
    """One or many jobs; all are accepted, or none. The same key again means the same jobs."""

    jobs: Annotated[list[JobSpec], Meta(min_length=1, max_length=MAX_JOBS_PER_REQUEST)]
    key: Key | None = None


class _RawRequest(Struct, forbid_unknown_fields=True):
    jobs: list[Raw]
    key: Key | None = None


_decode_small = msgspec.json.Decoder(SubmitRequest).decode
_decode_raw = msgspec.json.Decoder(_RawRequest).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_job = msgspec.json.Decoder(JobSpec).decode
_BETWEEN = re.compile(rb'\}\s*,\s*(?=\{\s*")')
"""Between two objects of an array; within a text it may only look like it, which the decoder then notices."""


async def decode(data: bytes | bytearray) -> SubmitRequest:
    """Return the jobs of a request's body.

    Raises:
        Problem: ``bad-request``, naming the field (``jobs[3].resources.cpus``) or the place in the text.
    """
    if len(data) <= SMALL:
        return bodies.decode(_decode_small, data)
    key, raws = await _split(data)
    if not 1 <= len(raws) <= MAX_JOBS_PER_REQUEST:
        message = f"must be a list of 1 to {MAX_JOBS_PER_REQUEST} jobs; send more of them in several requests"
        raise Problem("bad-request", f"jobs: {message}", [FieldError("jobs", message)])
    specs: list[JobSpec] = []
    raws.reverse()
    while raws:
        await asyncio.sleep(0)
        # Taken from the end and freed as they go: freeing 100 000 at once holds the loop for 10 ms.
        batch = raws[: -SLICE - 1 : -1]
        del raws[-SLICE:]
        _decode_batch(batch, specs)
    return SubmitRequest(specs, key)


async def free(specs: list[JobSpec]) -> None:
    """Let go of decoded jobs, in slices."""
    while specs:
        del specs[-10 * SLICE :]
        await asyncio.sleep(0)


def _decode_batch(batch: list[Raw], specs: list[JobSpec]) -> None:
    for raw in batch:
        try:
            specs.append(_decode_job(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise bodies.problem_of(error, bytes(raw), f"jobs[{len(specs)}]") from None


async def _split(data: bytes | bytearray) -> tuple[str | None, list[Raw]]:
    cuts = list(_cuts(data))
    try:
        return await _split_at(data, cuts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A cut fell into a text, or the request is wrong: the whole of it tells which, and where.
        request = bodies.decode(_decode_raw, data)
        return request.key, request.jobs


def _cuts(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Yield (end of one piece, start of the next)."""
    found = _BETWEEN.search(data, PIECE)
    while found and found.end() < len(data):
        yield found.start() + 1, found.end()
        found = _BETWEEN.search(data, found.end() + PIECE)


async def _split_at(data: bytes | bytearray, cuts: list[tuple[int, int]]) -> tuple[str | None, list[Raw]]:
    """Split into jobs, piece by piece. A piece that decodes was cut between two jobs: brackets must balance."""
    if not cuts:
        request = _decode_raw(data)
        return request.key, request.jobs
    head = _decode_raw(b"".join((memoryview(data)[: cuts[0][0]], b"]}")))
    raws = head.jobs
    for (_, start), (end, _) in pairwise(cuts):
        await asyncio.sleep(0)
        raws += _decode_list(b"".join((b"[", memoryview(data)[start:end], b"]")))
    await asyncio.sleep(0)
    tail = _decode_raw(b"".join((b'{"jobs":[', memoryview(data)[cuts[-1][1] :])))
    return (head.key if tail.key is None else tail.key), raws + tail.jobs
