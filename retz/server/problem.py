"""What the API says when it refuses: one exception, rendered as ``application/problem+json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class FieldError(NamedTuple):
    """A field that is to blame, by path (``jobs[3].resources.cpus``), and what is wrong with it."""

    field: str
    message: str


_STATUS = {
    "bad-request": (400, "Bad request"),
    "unauthorized": (401, "Not signed, or not correctly"),
    "forbidden": (403, "Not allowed"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "too-large": (413, "Too large"),
    "range": (416, "Range not satisfiable"),
    "unprocessable": (422, "Cannot be honoured"),
    "too-many": (429, "Too many"),
    "internal": (500, "Internal error"),
    "unavailable": (503, "Not available now"),
}


class Problem(Exception):
    """A refusal with a code of docs/api.md; ``detail`` tells the user what to do."""

    def __init__(self, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.status, self.title = _STATUS[code]
