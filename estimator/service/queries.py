"""Query strings: what may stand in them, read strictly, because a misspelt wish would be silently not granted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from ..errors import BadArgument

Convert = Callable[[str], Any]
Parameters = Mapping[str, tuple[str, Convert]]
"""Name in the query -> argument of the operation, and how its text is read."""


def word(text: str) -> str:
    """A text that is not empty."""
    if not text:
        raise ValueError(text)
    return text


def number(text: str) -> float:
    """A number."""
    return float(text)


def whole(text: str) -> int:
    """A whole number that fits into 53 bits."""
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise ValueError(text)
    return int(text)


def flag(text: str) -> bool:
    """``true`` or ``false``."""
    return {"true": True, "false": False}[text]


WISHES: Parameters = {
    "solver": ("solver", word),
    "alpha": ("alpha", number),
    "beta": ("beta", number),
    "interval": ("interval", whole),
    "minJobRuns": ("min_runs", whole),
    "kind": ("kind", word),
}
ESTIMATE: Parameters = {**WISHES, "full": ("full", flag)}
PLOT: Parameters = {**WISHES, "resource": ("resource", word)}
TEXT: Parameters = {**PLOT, "width": ("width", whole), "height": ("height", whole), "colour": ("colour", flag)}
RESERVATION: Parameters = {
    **WISHES,
    "arrival": ("arrival_ms", whole),
    "deadline": ("deadline_ms", whole),
    "recurrence": ("recurrence_ms", whole),
    "queue": ("queue", word),
    "gang": ("gang", whole),
    "priority": ("priority", whole),
    "name": ("name", word),
    "reservation-id": ("reservation_id", word),
}
UPLOAD: Parameters = {"format": ("parser", word), "strict": ("strict", flag)}


def arguments(request: web.Request, parameters: Parameters) -> dict[str, Any]:
    """The query as arguments of an operation.

    Raises:
        BadArgument: a parameter is not known, empty, given twice, or of the wrong form.
    """
    found: dict[str, Any] = {}
    for name, text in request.query.items():
        if name not in parameters:
            known = f"known are {', '.join(parameters)}" if parameters else "none is known here"
            raise BadArgument(f"there is no parameter {name[:40]!r}; {known}")
        argument, convert = parameters[name]
        if argument in found:
            raise BadArgument(f"{name} is given twice")
        try:
            found[argument] = convert(text)
        except (ValueError, KeyError):
            raise BadArgument(f"{name}={text[:40]} makes no sense: give {_wanted(convert)}") from None
    return found


_WANTED: dict[Convert, str] = {number: "a number", whole: "a whole number", flag: "true or false"}


def _wanted(convert: Convert) -> str:
    return _WANTED.get(convert, "a text")
