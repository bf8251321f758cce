"""What a route is: enough to register it with aiohttp and to describe it in the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .api import Handler
from .body import MIB

Access = Literal["public", "user", "admin"]


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

    @property
    def query(self) -> tuple[Parameter, ...]:
        """Its query parameters."""
        return tuple(parameter for parameter in self.parameters if parameter.where == "query")
