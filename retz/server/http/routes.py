"""What a route is: enough to register it with aiohttp and to describe it in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from ..problem import Problem
from .api import Handler
from .body import MIB
from .params import MAX_TEXT
from .responses import problem_of

API = "/api/v2"

Access = Literal["public", "user", "admin"]

TEXT: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT}
WORDS: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
FLAG: dict[str, Any] = {"type": "string", "enum": ["true", "false"]}


def whole(low: int, high: int) -> dict[str, Any]:
    """The schema of a whole number, both ends included."""
    return {"type": "integer", "minimum": low, "maximum": high}


@dataclass(frozen=True)
class Parameter:
    """A query, header or path parameter, with its JSON schema."""

    name: str
    schema: dict[str, Any]
    text: str = ""
    where: Literal["query", "path", "header"] = "query"
    repeatable: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer: its media type, and what it holds (a msgspec type for JSON)."""

    text: str
    type: Any = None
    media: str = "application/json"


def _native(_request: web.Request, problem: Problem) -> web.Response:
    return problem_of(problem)


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        access: ``public`` is unsigned; ``user`` and ``admin`` are signed.
        parameters: Of query and path.
        body: The type of the request's body, None for none.
        answers: By status; the refusals that any signed request may meet need not be listed.
        refusals: Statuses of the further refusals there are.
        max_body: Bytes.
        refuse: Makes the answer of a problem.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access = "user"
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    answers: dict[int, Answer] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()
    max_body: int = MIB
    refuse: Callable[[web.Request, Problem], web.Response] = _native

    @property
    def label(self) -> str:
        """The path as metrics name it: without the expressions of its variables."""
        return self.path.replace(":.+}", "}")

    @property
    def query(self) -> tuple[Parameter, ...]:
        """Its query parameters."""
        return tuple(parameter for parameter in self.parameters if parameter.where == "query")


def answer(text: str, kind: Any) -> dict[int, Answer]:
    """The answers of a route that has one, with status 200."""
    return {200: Answer(text, kind)}
