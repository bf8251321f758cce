"""Request bodies: read within limits, checked against their digest, decoded strictly, refused precisely."""

from __future__ import annotations

import asyncio
import re
from binascii import b2a_base64
from collections.abc import Callable
from hashlib import md5
from typing import Any, NoReturn, TypeVar

import msgspec
from aiohttp import web

from ..problem import FieldError, Problem

KIB, MIB = 1024, 1024 * 1024
IDLE_S = 30.0
"""Longest silence within a body."""
TOTAL_S = 600.0
"""Longest time for a whole body: 64 MiB at 1 Mbit/s."""

T = TypeVar("T")


class Body:
    """A request's body with its MD5."""

    __slots__ = ("_hash", "data")

    def __init__(self, data: bytes | bytearray = b"", hash_: Any = None) -> None:
        self.data = data
        self._hash = hash_

    @property
    def md5(self) -> Any:
        """The hash object of the whole body."""
        if self._hash is None:
            self._hash = md5(self.data, usedforsecurity=False)
        return self._hash

    @property
    def md5_text(self) -> str:
        """The MD5 as Content-MD5 has it: base64 without padding."""
        return b2a_base64(self.md5.digest(), newline=False).rstrip(b"=").decode("ascii")


NO_BODY = Body()


async def read(request: web.Request, limit: int) -> Body:
    """Return the body, at most ``limit`` bytes.

    Raises:
        Problem: ``too-large``, before anything is read where the length is announced; ``bad-request`` if it is
            compressed or does not arrive.
    """
    length = request.content_length
    if length is not None and length > limit:
        _too_large(limit)
    if not request.body_exists:
        return NO_BODY
    refuse_compressed(request)
    content = request.content
    if content.is_eof() and length is not None:
        data = content.read_nowait(-1)
        return Body(data) if data else NO_BODY
    try:
        async with asyncio.timeout(TOTAL_S):
            return await _read_slowly(content, limit)
    except TimeoutError:
        raise Problem("bad-request", "the body did not arrive in time; send it again") from None


def refuse_compressed(request: web.Request) -> None:
    """Raises Problem ``bad-request`` for a body with a Content-Encoding: the server unpacks none."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem("bad-request", "send the body without Content-Encoding: compressed bodies are not accepted")


async def _read_slowly(content: Any, limit: int) -> Body:
    data = bytearray()
    digest = md5(usedforsecurity=False)
    while True:
        async with asyncio.timeout(IDLE_S):
            chunk = await content.readany()
        if not chunk:
            return Body(data, digest) if data else NO_BODY
        if len(data) + len(chunk) > limit:
            _too_large(limit)
        data += chunk
        # Chunk by chunk, so that 64 MiB never hold the loop for the 100 ms that their MD5 takes.
        digest.update(chunk)


def _too_large(limit: int) -> NoReturn:
    size = f"{limit // MIB} MiB" if limit >= MIB else f"{limit // KIB} KiB"
    raise Problem("too-large", f"a body of this request may have at most {size}: send it in several requests")


def decode(decoder: Callable[[Any], T], data: bytes | bytearray) -> T:
    """Decode JSON by ``decoder`` (a msgspec decoder's ``decode``).

    Raises:
        Problem: ``bad-request``, naming the field or the place in the text.
    """
    if not data:
        raise Problem("bad-request", "the body is empty: send a JSON object")
    try:
        return decoder(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, data) from None


def problem_of(error: Exception, data: bytes | bytearray, prefix: str = "") -> Problem:
    """The refusal for what a decoder raised.

    Args:
        data: The text that was decoded, for line and column.
        prefix: Path in front of the decoder's own: ``jobs[3]``.
    """
    if isinstance(error, msgspec.ValidationError):
        field, message = _blame(str(error), prefix)
        where = f"{field}: " if field else ""
        return Problem("bad-request", where + message, [FieldError(field, message)] if field else ())
    if isinstance(error, RecursionError):
        return Problem("bad-request", "the JSON is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Problem("bad-request", f"the body is not UTF-8: byte {error.object[error.start]:#04x} cannot be decoded")
    return Problem("bad-request", _malformed(str(error), data))


_BYTE = re.compile(r"^JSON is malformed: (.*) \(byte (\d+)\)$")


def _malformed(message: str, data: bytes | bytearray) -> str:
    found = _BYTE.match(message)
    if not found:
        return "the JSON ends too early, or holds half of a surrogate pair (\\ud800)"
    # msgspec counts the bytes it has read, the offending one included (and three more of a word such as nul1).
    end = max(1, int(found[2]))
    line = data.count(b"\n", 0, end - 1) + 1
    column = end - 1 - data.rfind(b"\n", 0, end - 1)
    return f"not JSON: {found[1]} near line {line}, column {column}"


_AT = re.compile(r"^(.*) - at `(?:key in )?\$?([^`]*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.*)`$")
_EXPECTED = re.compile(r"^Expected `(.*?)`(.*?)(?:, got `(.*)`)?$", re.DOTALL)
_WORDS = {
    "str": "text", "int": "a whole number", "float": "a number", "array": "a list", "bool": "true or false",
    "object": "an object", "null": "null",
}  # fmt: skip


def _blame(text: str, prefix: str) -> tuple[str, str]:
    """Turn msgspec's sentence into (our field path, our sentence)."""
    found = _AT.match(text)
    message, path = (found[1], found[2]) if found else (text, "")
    path = _joined(prefix, path.removeprefix("."))
    if unknown := _UNKNOWN.match(message):
        return _joined(path, unknown[1]), "is not a known field"
    if missing := _MISSING.match(message):
        return _joined(path, missing[1]), "is required"
    if expected := _EXPECTED.match(message):
        got = f", not {_WORDS.get(expected[3], expected[3])}" if expected[3] else ""
        return path, f"must be {_words(expected[1])}{expected[2]}{got}"
    return path, message


def _joined(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if prefix and path and not path.startswith("[") else prefix + path


def _words(types: str) -> str:
    names = [_WORDS.get(name, name) for name in types.split(" | ") if name != "null"]
    return " or ".join(names) if names else "null"
