"""The OpenAPI 3.1 document, built from the table of routes and the types that handlers really use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from retz import __version__

from .api import Call
from .responses import ProblemView, json_bytes
from .routes import Answer, Parameter, Route

REF = "#/components/schemas/{name}"
_PROBLEM = "application/problem+json"
Schemas = Mapping[Any, dict[str, Any]]
"""By type."""
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bytes: {"type": "string", "format": "binary"},
    dict: {"type": "object"},
}
_ABOUT = (
    "A batch-job queue. Requests are signed: Authorization is 'Retz-auth-v1 <access-key>:<signature>', the signature "
    "an HMAC-SHA256 over method, Content-MD5, Date and resource; see the native API's page of the documentation. "
    "Times are ISO-8601 UTC, durations float seconds, memory and disk MiB."
)


async def document(call: Call) -> web.StreamResponse:
    """``GET /openapi.json``."""
    call.params()
    return json_bytes(call.api.openapi)


def build(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document."""
    types = list({ProblemView, *(kind for route in routes for kind in _types(route) if kind not in _PLAIN)})
    # All at once: a look at one type is a look at all that it is made of, and a server waits for this at its start.
    found, components = msgspec.json.schema_components(types, ref_template=REF)
    schemas = _PLAIN | dict(zip(types, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Retz",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "signature": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Retz-auth-v1"}
            },
        },
    }


def _types(route: Route) -> Iterable[Any]:
    if route.body is not None:
        yield route.body
    for answer in route.answers.values():
        if answer.type is not None:
            yield answer.type


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "responses": _responses(route, schemas),
    }
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.body is not None:
        content = {"application/json": {"schema": schemas[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.access != "public":
        operation["security"] = [{"signature": []}]
    return operation


def _operation_id(route: Route) -> str:
    words = re.findall(r"[A-Za-z]+", route.path.removeprefix("/api/v2"))
    prefix = "public_" if route.access == "public" else ""
    return prefix + "_".join([route.method.lower(), *words])


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {str(status): _answer(answer, schemas) for status, answer in route.answers.items()}
    for status in sorted(refusals(route) - set(route.answers)):
        title = HTTPStatus(status).phrase
        responses[str(status)] = {"description": f"{title}.", "content": {_PROBLEM: {"schema": schemas[ProblemView]}}}
    return responses


def refusals(route: Route) -> set[int]:
    """All statuses of refusals that a route may answer with, short of our own mistakes."""
    if route.access == "public":
        return set(route.refusals)
    statuses = {400, 401, 403, 413, *route.refusals}
    if "{" in route.path:
        statuses.add(405)  # what stands in the place of the braces may make it another route, of other methods
    if route.method != "GET":
        statuses.add(503)
    return statuses


def _answer(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    if answer.type is None:
        return {"description": answer.text}
    return {"description": answer.text, "content": {answer.media: {"schema": schemas[answer.type]}}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = {"type": "array", "items": parameter.schema} if parameter.repeatable else parameter.schema
    described: dict[str, Any] = {"name": parameter.name, "in": parameter.where, "schema": schema}
    if parameter.where == "path":
        described["required"] = True
    if parameter.text:
        described["description"] = parameter.text
    return described
