"""The OpenAPI document, the routes and docs/api.md say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from retz.server.http import build_app
from retz.server.http.openapi import build, refusals
from retz.server.http.protocol import table as protocol
from retz.server.http.routes import Route
from retz.server.http.table import ROUTES

from .http_site import ANN, ROOT, Site

pytestmark = pytest.mark.anyio

DOCUMENT = build(ROUTES)
DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def _operations() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}


async def test_every_registered_route_is_in_the_document_and_vice_versa(site: Site) -> None:
    registered = {
        (route.method, route.resource.canonical)
        for route in build_app(site.core).router.routes()
        if route.resource is not None
        and route.method not in ("*", "HEAD")
        # The estimator's own application speaks Hadoop's dialect and is described on its own page.
        and not route.resource.canonical.startswith("/resourceestimator")
    } - {(route.method, route.path.replace(":.+", "")) for route in protocol.ROUTES}
    assert registered == _operations()


def test_every_route_is_on_the_page_about_the_api() -> None:
    for route in ROUTES:
        path = route.path.replace("/api/v2/jobs/{id}/file", "/file") if route.path.endswith("/file") else route.path
        short = re.sub(r"^/api/v2/jobs/(kill|hold|release|update|resubmit)$", "/api/v2/jobs/{action}", path)
        assert short in DOCS, route.path
        if route.access != "public":
            assert route.method in DOCS


def test_every_parameter_is_on_the_page_about_the_api() -> None:
    for route in ROUTES:
        for parameter in route.parameters:
            assert parameter.name in DOCS, (route.path, parameter.name)


def test_every_status_of_the_table_is_on_the_page_about_the_api() -> None:
    for status in set().union(*(refusals(route) for route in ROUTES)):
        assert f" {status}" in DOCS, status


async def test_the_served_document_is_the_built_one(site: Site) -> None:
    assert (await site.get("/openapi.json")).json == DOCUMENT


def test_references_lead_somewhere_and_nothing_is_left_over() -> None:
    references = set(_references(DOCUMENT))
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references == known


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in _references(each)]
    return [found for each in value for found in _references(each)] if isinstance(value, list) else []


def test_operations_are_complete() -> None:
    identifiers = [op["operationId"] for methods in DOCUMENT["paths"].values() for op in methods.values()]
    assert len(identifiers) == len(set(identifiers))
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        in_path = set(re.findall(r"\{(\w+)\}", route.path))
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert declared == in_path, route.path
        assert any(status.startswith("2") for status in operation["responses"])
        assert ("security" in operation) == (route.access != "public")


def test_the_document_is_openapi_3_1() -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    assert len(list(schema.get_all_operations())) == len(ROUTES)
    for name, component in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **component})
        assert component.get("description"), name


def _validator(route: Route, status: int) -> Any:
    content = DOCUMENT["paths"][route.path][route.method.lower()]["responses"][str(status)]["content"]
    (media,) = content.values()
    return jsonschema_rs.validator_for({**media["schema"], "components": DOCUMENT["components"]})


async def test_answers_are_what_the_document_says(site: Site) -> None:
    job_id = await site.running(tags=["x"], environment={"A": "b"}, resources={"gpus": 1, "ports": 1})
    site.engine.ended(f"{job_id}.1", 1)
    await site.submit(held=True)
    for route in ROUTES:
        if "/pipelines/" in route.path:
            continue  # they need a history: test_pipelines.py
        if route.method == "GET" and not route.path.endswith(("/events", "/file", "/metrics", "/openapi.json")):
            target = route.path.replace("{id}", str(job_id)).replace("{name}", "default")
            target = target.replace("{key}", "ann")
            for query, status in (("", 200), ("?nonsense=1", 400)):
                reply = await site.ask("GET", target + query, ROOT if route.access == "admin" else ANN)
                if route.access == "public" and status == 400:
                    continue
                assert reply.status == status, (target, reply.body)
                if target != "/":
                    _validator(route, status).validate(reply.json)
