"""Answers, built as cheaply as aiohttp allows: headers are copied from ready-made dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from retz import __version__

from ..problem import FieldError, Problem

SERVER = f"retz-server-0.5.0 ({__version__})"
"""Old clients compare the first x.y.z with their own version and refuse to work without one; Retz ended with 0.5.0."""
_COMMON = {"Server": SERVER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_JSON = CIMultiDict({**_COMMON, "Content-Type": "application/json"})
_PROBLEM = CIMultiDict({**_COMMON, "Content-Type": "application/problem+json"})
_SHOWN = 1000
"""Longest text of a request that is repeated in a problem."""

SLICE = 200
"""Views made and encoded between two turns of the loop: about 1 ms."""

T = TypeVar("T")
encode = msgspec.json.Encoder().encode


class FieldErrorView(msgspec.Struct):
    """A field that is to blame: ``jobs[3].resources.cpus``, and what is wrong with it."""

    field: str
    message: str


class ProblemView(msgspec.Struct, omit_defaults=True):
    """The body of every refusal, ``application/problem+json``."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldErrorView] | None = None


async def encoded(items: Sequence[T], view: Callable[[T], Any]) -> msgspec.Raw:
    """Return the views of ``items`` as a JSON array, made in slices that never hold the loop."""
    parts: list[bytes] = []
    for start in range(0, len(items), SLICE):
        if start:
            await asyncio.sleep(0)
        parts.append(encode([view(item) for item in items[start : start + SLICE]])[1:-1])
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def json_bytes(body: bytes, status: int = 200) -> web.Response:
    """Answer with a body that is JSON already."""
    return web.Response(body=body, status=status, headers=_JSON)


def json_of(value: Any, status: int = 200) -> web.Response:
    """Answer with ``value`` encoded."""
    return web.Response(body=encode(value), status=status, headers=_JSON)


def text(body: str | bytes, content_type: str) -> web.Response:
    """Answer with text that is not JSON."""
    data = body if isinstance(body, bytes) else body.encode()
    return web.Response(body=data, headers={**_COMMON, "Content-Type": content_type})


def stream(status: int, headers: dict[str, str]) -> web.StreamResponse:
    """An answer whose body is written later."""
    return web.StreamResponse(status=status, headers={**_COMMON, **headers})


def problem_of(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with a refusal."""
    view = ProblemView(
        type=f"urn:retz:{problem.code}",
        title=problem.title,
        status=problem.status,
        detail=shown(problem.detail),
        errors=[_field(error) for error in problem.errors] or None,
    )
    response = web.Response(body=encode(view), status=problem.status, headers=_PROBLEM)
    if problem.code == "unauthorized":
        response.headers["WWW-Authenticate"] = "Retz-auth-v1"
    if headers:
        response.headers.update(headers)
    return response


def _field(error: FieldError) -> FieldErrorView:
    return FieldErrorView(shown(error.field), shown(error.message))


def shown(text: str) -> str:
    """A text of a request as it may be repeated in a refusal: not too long, and encodable."""
    if len(text) > _SHOWN:
        text = text[:_SHOWN] + "…"
    # A lone surrogate (undecodable bytes of a header or a file name) has no place in JSON.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
