"""What the synchronous and the asynchronous client have in common: everything but the waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Any, TypeVar

import msgspec

from retz.auth import authorization
from retz.config import ClientConfig, load_client
from retz.model.submission import JobSpec

from . import types
from .calls import Call
from .errors import ConnectionLost, NoServer, RetzError, Untrusted, refusal
from .lean import httpx
from .sse import RawEvent
from .transport import credentials, ssl_context

T = TypeVar("T")

Command = str | Sequence[str]
"""A shell line, or a program and its arguments."""
LONG_POLL_S = 30.0
PAGE = 1000
RANGE_NOT_SATISFIABLE = 416


class Signature(httpx.Auth):
    """Signs each request as it is sent, a repeated one anew."""

    requires_request_body = True

    def __init__(self, config: ClientConfig) -> None:
        self._key, self._secret = credentials(config)

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the headers."""
        target = request.url.raw_path.decode("ascii")
        signed = authorization(self._key, self._secret, request.method, target, request.content, time.time())
        request.headers.update(signed)
        yield request


def configured(config: ClientConfig | None, uri: str | None, key: str | None, secret: str | None) -> ClientConfig:
    """Return the configuration: the one given, or what environment and files say, with what was said here."""
    if config is None:
        config = load_client(
            {"retz.server.uri": uri, "retz.access.key": key, "retz.access.secret": secret},
        )
    elif uri or key or secret:
        config = replace(
            config,
            server_uri=uri or config.server_uri,
            access_key=key or config.access_key,
            access_secret=secret or config.access_secret,
        )
    return config


def http_options(config: ClientConfig) -> dict[str, Any]:
    """Arguments for httpx's clients. The environment's proxies are not used: requests carry your commands."""
    return {
        "base_url": config.server_uri,
        "auth": Signature(config),
        "timeout": config.server_timeout,
        "trust_env": False,
        "verify": ssl_context(config) if config.server_uri.startswith("https:") else False,
    }


def request_options(call: Call, config: ClientConfig) -> dict[str, Any]:
    """Arguments for httpx's ``request`` and ``build_request``."""
    headers = {"Content-Type": "application/json"} if call.body else {}
    return {
        "method": call.method,
        "url": call.target,
        "content": call.body or None,
        "headers": {**headers, **call.headers},
        "timeout": config.server_timeout + call.patience_s,
    }


def translated(error: httpx.TransportError, uri: str) -> RetzError:
    """Return our error for one of httpx."""
    reason = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return Untrusted(uri, reason)
    if isinstance(error, httpx.ConnectError):
        return NoServer(uri, reason, refused="refused" in reason.lower() or "attempts failed" in reason.lower())
    if isinstance(error, httpx.ConnectTimeout):
        return NoServer(uri, reason)
    return ConnectionLost(uri, reason)


def offset_of(date: str | None, now: float, known: float) -> float:
    """Seconds that a ``Date`` header is ahead of ``now``; ``known`` if that agrees with it, or if there is no date.

    The header has whole seconds: the clocks may agree while it looks up to a second behind.
    """
    if date is None:
        return known
    try:
        ahead = parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return known
    return known if ahead <= known <= ahead + 1 else ahead + 0.5


def check(status: int, body: bytes) -> None:
    """Raise ApiError for a status of 400 and above."""
    if status < 400:
        return
    try:
        problem = msgspec.json.decode(body)
    except msgspec.DecodeError:
        problem = None
    raise refusal(status, problem, responses.get(status, ""))


def range_of(response: httpx.Response) -> types.FileRange:
    """Return what an answer to a request for a file holds; a range past the end is an empty one."""
    data, attempt = response.content, int(response.headers.get("Retz-Attempt") or 0)
    span, _, size = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if response.status_code == RANGE_NOT_SATISFIABLE and size.isdigit():
        return types.FileRange(data=b"", offset=int(size), size=int(size), attempt=attempt)
    check(response.status_code, data)
    first = span.partition("-")[0]
    if not (first.isdigit() and size.isdigit()):
        return types.FileRange(data=data, offset=0, size=len(data), attempt=attempt)
    return types.FileRange(data=data, offset=int(first), size=int(size), attempt=attempt)


def decoded(body: bytes, into: type[T]) -> T:
    """Return an answer as its type.

    Raises:
        RetzError: it does not look like the API's.
    """
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.ValidationError as error:
        raise RetzError(f"the server's answer is not what version 2 of the API promises: {error}") from error
    except msgspec.DecodeError as error:
        raise RetzError(f"whatever answered is not Retz: {error}") from error


def specification(command: Command | JobSpec | Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job for the wire: from a command and fields, from a JobSpec, or from a mapping of API names."""
    if isinstance(command, JobSpec):
        given = {k: v for k, v in msgspec.to_builtins(command).items() if v is not None}
    elif isinstance(command, Mapping):
        given = dict(command)
    else:
        given = {"command": command if isinstance(command, str) else list(command)}
    resources = {n: fields[n] for n in ("cpus", "mem", "disk", "gpus", "ports") if fields.get(n) is not None}
    named = {n: v for n, v in fields.items() if v is not None and n not in ("cpus", "mem", "disk", "gpus", "ports")}
    merged = {**given, **named}
    if isinstance(merged.get("start_at"), datetime):
        merged["start_at"] = merged["start_at"].astimezone(UTC).isoformat()
    if resources:
        merged["resources"] = {**(given.get("resources") or {}), **resources}
    return merged


def event_of(raw: RawEvent) -> types.Event:
    """Return a typed event."""
    if raw.kind == "job":
        return types.Event(kind=raw.kind, seq=raw.id, job=msgspec.convert(raw.data, types.Job))
    return types.Event(kind=raw.kind, seq=raw.id, data=raw.data)
