"""What can go wrong between a client and its server. Every text says what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RetzError(Exception):
    """Any failure of a client."""

    code = "client"


class ApiError(RetzError):
    """The server refused.

    Attributes:
        status: The HTTP status.
        code: ``not-found``, ``unprocessable``, ... (docs/api.md).
        detail: A sentence for people.
        errors: ``(field, message)`` for each field to blame.
    """

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        more = [f"{field}: {message}" for field, message in errors if message not in detail]
        super().__init__("; ".join([detail, *more]))
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)


class NoServer(RetzError):
    """No server answers. ``refused``: nothing listens there, so the request was certainly not received."""

    code = "no-server"

    def __init__(self, uri: str, reason: str, refused: bool = False) -> None:
        hint = "start one with 'retz-server' or set retz.server.uri"
        super().__init__(f"no server at {uri}: {hint}" + ("" if refused else f" ({reason})"))
        self.uri = uri
        self.reason = reason
        self.refused = refused


class Untrusted(RetzError):
    """The server's certificate is not one to trust."""

    code = "untrusted"

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"the certificate of {uri} is not trusted ({reason}): set retz.tls.ca to the file to trust")


class ConnectionLost(RetzError):
    """The connection broke before the answer was complete."""

    code = "connection-lost"

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"the connection to {uri} broke ({reason}): is the server still running? see 'retz ping'")
        self.reason = reason


class NoCredentials(RetzError):
    """There is no key or secret to sign with."""

    code = "no-credentials"


def refusal(status: int, problem: object, reason: str = "") -> ApiError:
    """Return the error for an answer of 400 and above.

    Args:
        problem: The decoded problem document; anything else, where a proxy answered, is borne.
        reason: The HTTP reason phrase, used then.
    """
    document: Mapping[str, Any] = problem if isinstance(problem, Mapping) else {}
    code = str(document.get("type", "")).removeprefix("urn:retz:") or f"http-{status}"
    detail = str(document.get("detail") or document.get("title") or reason or "the server gave no reason")
    items = document.get("errors") or ()
    errors = [(str(e.get("field", "")), str(e.get("message", ""))) for e in items if isinstance(e, Mapping)]
    return ApiError(status, code, detail, errors)
