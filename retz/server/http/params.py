"""Query parameters: strictly typed, unknown and repeated ones refused, each refusal naming the parameter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NoReturn

from aiohttp import web

from ..problem import FieldError, Problem

MAX_ID = 2**53 - 1
"""Largest id that every JSON reader keeps exactly."""
MAX_TEXT = 1000
MAX_IDS_TEXT = 8000
MAY_BE_EMPTY = ("path", "text")
"""The sandbox itself, and a search for nothing in particular."""


def refuse(name: str, message: str) -> NoReturn:
    """Raise ``bad-request`` that blames a parameter or path part."""
    raise Problem("bad-request", f"{name}: {message}", [FieldError(name, message)])


class Params:
    """The query of one request.

    Args:
        allowed: Names that the route knows; any other is refused.
        repeatable: Those among them that may occur more than once.
    """

    def __init__(self, request: web.Request, allowed: Iterable[str], repeatable: Iterable[str] = ()) -> None:
        self._query = request.query
        names = set(allowed)
        for name in self._query:
            if name not in names:
                refuse(
                    name[:100], f"is not a parameter of this request; there are: {', '.join(sorted(names)) or 'none'}"
                )
            if name not in repeatable and len(self._query.getall(name)) > 1:
                refuse(name, "is given more than once")

            if name not in MAY_BE_EMPTY and "" in self._query.getall(name):
                refuse(name, "is empty: give it a value or leave it out")

    def text(self, name: str, longest: int = MAX_TEXT) -> str | None:
        """The text, None if absent or empty."""
        value = self._query.get(name)
        return checked_text(name, value, longest) if value else None

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a repeatable parameter."""
        return tuple(checked_text(name, value) for value in self._query.getall(name, ()))

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._query.get(name)
        return default if value is None else integer(name, value, low, high)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number within bounds."""
        value = self._query.get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            refuse(name, f"must be a number from {low:g} to {high:g}")
        return number

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``; None if absent."""
        value = self._query.get(name)
        if value is None:
            return None
        if value not in ("true", "false"):
            refuse(name, "must be true or false")
        return value == "true"

    def time(self, name: str) -> float | None:
        """An ISO-8601 time in seconds since the epoch; without an offset it is UTC."""
        value = self._query.get(name)
        return None if value is None else parse_time(name, value)

    def words(self, name: str) -> tuple[str, ...]:
        """A comma list, empty if absent."""
        value = self.text(name)
        return tuple(word.strip() for word in value.split(",") if word.strip()) if value else ()


def checked_text(name: str, value: str, longest: int = MAX_TEXT) -> str:
    """The text, if it is one that could be meant."""
    if len(value) > longest:
        refuse(name, f"is longer than {longest} characters")
    if "\0" in value:
        refuse(name, "must not contain NUL characters")
    return value


def integer(name: str, value: str, low: int, high: int) -> int:
    """A whole number within bounds, in ASCII digits."""
    # int() alone takes " 1_0 " and digits of other scripts.
    digits = value[1:] if value[:1] == "-" else value
    if len(value) <= 20 and digits.isascii() and digits.isdigit():
        number = int(value)
        if low <= number <= high:
            return number
    refuse(name, f"must be a whole number from {low} to {high}")


def parse_time(name: str, value: str) -> float:
    """An ISO-8601 time in seconds since the epoch.

    A ``+`` of an offset that a careless client left unescaped arrives as a space; it is taken for what it was.
    """
    try:
        when = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        refuse(name, "must be an ISO-8601 time, as 2026-11-20T06:27:17Z")
