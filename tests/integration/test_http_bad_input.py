"""Bad input: each with a precise refusal that names what is to blame."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from retz.auth import authorization
from retz.server.http import submission

from .http_site import ANN, ROOT, Site

pytestmark = pytest.mark.anyio

HUGE = 10**30
FIELDS: list[tuple[str, Any, int, str]] = [
    ("command", 1, 400, "must be text or a list, not a whole number"),
    ("command", None, 400, "must be text or a list, not null"),
    ("command", "", 422, "is empty"),
    ("command", [], 422, "no program"),
    ("command", ["a", 1], 400, "command[1]"),
    ("command", "a\0b", 422, "NUL"),
    ("command", "x" * (128 * 1024), 422, "longer than"),
    ("unheard", 1, 400, "is not a known field"),
    ("name", "a\nb", 422, "line breaks"),
    ("name", "x" * 201, 400, "length <= 200"),
    ("tags", ["x"] * 65, 400, "length <= 64"),
    ("tags", "x", 400, "must be a list, not text"),
    ("tags", [""], 400, "tags[0]"),
    ("priority", 20, 400, "<= 19"),
    ("priority", 1.5, 400, "must be a whole number"),
    ("priority", HUGE, 400, "<= 19"),
    ("priority", True, 400, "not true or false"),
    ("held", "yes", 400, "must be true or false, not text"),
    ("timeout_s", 0, 400, "> 0"),
    ("timeout_s", -1, 400, "> 0"),
    ("kill_grace_s", -1, 400, ">= 0"),
    ("max_retries", -1, 400, ">= 0"),
    ("directory", "relative/path", 422, "absolute"),
    ("application", "nothing-like-it", 422, "no such application"),
    ("attributes", "rack==", 422, "attributes"),
    ("environment", {"A=B": "x"}, 422, "environment"),
    ("environment", {"A": 1}, 400, "must be text, not a whole number"),
    ("resources", {"cpus": -1}, 422, "resources.cpus"),
    ("resources", {"cpus": 0}, 422, "resources.cpus"),
    ("resources", {"cpus": 5}, 422, "more than the largest agent"),
    ("resources", {"cpus": "2"}, 400, "resources.cpus"),
    ("resources", {"gpus": -1}, 422, "resources.gpus"),
    ("resources", {"gpus": HUGE}, 422, "resources.gpus"),
    ("resources", {"ports": HUGE}, 422, "resources.ports"),
    ("resources", {"mem": -1}, 422, "resources.mem"),
    ("resources", {"mem": HUGE}, 422, "resources.mem"),
    ("resources", {"mem": "many"}, 422, "resources.mem"),
    ("resources", {"disk": "1x"}, 422, "resources.disk"),
    ("resources", {"memory": 1}, 400, "resources.memory"),
    ("resources", [], 400, "must be an object, not a list"),
]


@pytest.mark.parametrize(("field", "value", "status", "said"), FIELDS)
async def test_a_field_that_is_wrong_is_named(site: Site, field: str, value: Any, status: int, said: str) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true"}, {"command": "true", field: value}])
    problem = reply.json
    assert (reply.status, problem["status"]) == (status, status), problem
    assert said in problem["detail"]
    assert problem["errors"][0]["field"].startswith(f"jobs[1].{field}")
    assert len(reply.body) < 4000


@pytest.mark.parametrize(("field", "value", "status", "said"), [*FIELDS[:1], *FIELDS[7:9], *FIELDS[31:33]])
async def test_a_large_request_names_the_same_field(
    site: Site, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, status: int, said: str
) -> None:
    monkeypatch.setattr(submission, "SMALL", 0)
    monkeypatch.setattr(submission, "PIECE", 300)
    jobs: list[dict[str, Any]] = [{"command": "true"} for _ in range(500)]
    jobs[321] = {"command": "true", field: value}
    reply = await site.ask("POST", "/api/v2/jobs", jobs=jobs)
    assert (reply.status, said in reply.json["detail"]) == (status, True), reply.json
    assert reply.json["errors"][0]["field"].startswith(f"jobs[321].{field}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{", "ends too early"),
        (b'{"jobs":[{"command":"true"}]', "ends too early"),
        (b'{"jobs":[{"command":"true"}]}x', "line 1, column 30"),
        (b'{\n "jobs": nonsense}', "line 2, column 13"),
        (b'{"jobs":[{"command":"true","resources":{"cpus":NaN}}]}', "not JSON"),
        (b'{"jobs":[{"command":"true","resources":{"cpus":Infinity}}]}', "not JSON"),
        (b'{"jobs":[{"command":"true","resources":{"cpus":1e999}}]}', "jobs[0].resources.cpus"),
        (b'{"jobs":[{"command":"\xff\xfe"}]}', "not UTF-8"),
        (b'{"jobs":[{"command":"\\ud800"}]}', "surrogate"),
        (b"[" * 100_000, "must be an object, not a list"),
        (b'{"jobs":[{"command":' + b"[" * 50_000, "command[0]"),
        (b'{"jobs":' + b'[{"environment":{"a":' * 5_000, "nested too deeply"),
        (b"[]", "must be an object, not a list"),
        (b"null", "must be an object, not null"),
        (b"{}", "jobs: is required"),
        (b'{"jobs":[]}', "jobs"),
        (b'{"jobs":null}', "jobs: must be a list"),
        (b'{"jobs":[{"command":"true"}],"key":""}', "key"),
        (b'{"jobs":[{"command":"true"}],"key":"' + b"k" * 201 + b'"}', "key"),
        (b'{"jobs":[{"command":"true"}],"extra":1}', "extra: is not a known field"),
        (b'{"command":"true"}', "command: is not a known field"),
        (b"\xef\xbb\xbf{}", "line 1, column 1"),
    ],
)
async def test_a_body_that_is_no_submission(site: Site, body: bytes, said: str) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", body=body)
    assert reply.status == 400, reply.body
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["type"] == "urn:retz:bad-request"
    assert said in reply.json["detail"] or said in json.dumps(reply.json), reply.json


async def test_more_jobs_than_a_request_may_have(site: Site) -> None:
    jobs = b",".join([b'{"command":"true"}'] * 100_001)
    reply = await site.ask("POST", "/api/v2/jobs", body=b'{"jobs":[' + jobs + b"]}")
    assert (reply.status, "100000" in reply.json["detail"]) == (400, True)


async def test_a_command_of_ten_megabytes(site: Site) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "x" * 10_000_000}])
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, "jobs[0].command")
    assert len(reply.body) < 2000


async def test_a_hundred_thousand_tags(site: Site) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "tags": [str(n) for n in range(100_000)]}])
    assert (reply.status, reply.json["errors"][0]["field"]) == (400, "jobs[0].tags")


async def test_names_in_other_scripts_are_welcome(site: Site) -> None:
    job_id = await site.submit("echo 日本語", name="名前/with slash 😀", tags=["тег"])
    job = (await site.get(f"/jobs/{job_id}")).json
    assert (job["command"], job["name"], job["tags"]) == ("echo 日本語", "名前/with slash 😀", ["тег"])
    assert (await site.ask("PUT", "/api/v2/applications/%E5%90%8D%E5%89%8D", enabled=True)).json["name"] == "名前"


@pytest.mark.parametrize("name", ["a%2Fb", "a%0Ab", "%20a", "x" * 201, "a%00b", "%F0%9F%98%80"])
async def test_application_names_that_are_refused(site: Site, name: str) -> None:
    reply = await site.ask("PUT", f"/api/v2/applications/{name}", enabled=True)
    assert reply.status in (400, 404), reply.json
    assert (await site.get("/applications")).json["applications"][1:] == []


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/jobs?unknown=1", "unknown"),
        ("/jobs?limit=0", "limit"),
        ("/jobs?limit=1001", "limit"),
        ("/jobs?limit=ten", "limit"),
        ("/jobs?limit=%D9%A1", "limit"),
        ("/jobs?limit=1&limit=2", "limit"),
        ("/jobs?offset=-1", "offset"),
        ("/jobs?state=RUNNING", "state"),
        ("/jobs?ids=9-3", "ids"),
        ("/jobs?ids=x", "ids"),
        ("/jobs?ids=" + "1," * 4001, "ids"),
        ("/jobs?sort=name", "sort"),
        ("/jobs?held=maybe", "held"),
        ("/jobs?since=yesterday", "since"),
        ("/jobs?at=99999-01-01", "at"),
        ("/jobs?cursor=AAAA", "cursor"),
        ("/jobs?name=a%00b", "name"),
        ("/jobs?tag=a%00b", "tag"),
        ("/jobs?tag=" + "x" * 1001, "tag"),
        ("/jobs/0", "id"),
        ("/jobs/-1", "id"),
        ("/jobs/first", "id"),
        ("/jobs/99999999999999999999999", "id"),
        ("/jobs/1_", "id"),
        ("/jobs/1/wait?timeout_s=61", "timeout_s"),
        ("/jobs/1/wait?timeout_s=nan", "timeout_s"),
        ("/jobs/1/files?attempt=x", "attempt"),
        ("/jobs/1/file?offset=-1", "offset"),
        ("/jobs/1/file?follow=1", "follow"),
        ("/aggregates?step_s=1", "step_s"),
        ("/aggregates?since=2000-01-01&step_s=60", "step_s"),
        ("/aggregates?since=2026-01-02&until=2026-01-01", "since"),
        ("/events?since=-1", "since"),
        ("/status?verbose=1", "verbose"),
    ],
)
async def test_parameters_that_are_wrong(site: Site, target: str, field: str) -> None:
    await site.running()
    reply = await site.get(target)
    assert (reply.status, reply.json["type"]) == (400, "urn:retz:bad-request"), reply.json
    assert [error["field"] for error in reply.json["errors"]] == [field]


@pytest.mark.parametrize(
    ("action", "body", "said"),
    [
        ("kill", {}, "either"),
        ("kill", {"ids": [1], "filter": {"tag": ["x"]}}, "either"),
        ("kill", {"ids": []}, "ids"),
        ("kill", {"ids": [0]}, "ids[0]"),
        ("kill", {"ids": ["1"]}, "ids[0]"),
        ("kill", {"ids": [10**30]}, "ids[0]"),
        ("kill", {"filter": {}}, "empty filter"),
        ("kill", {"filter": {"tag": "x"}}, "filter.tag"),
        ("kill", {"filter": {"state": ["RUNNING"]}}, "filter.state"),
        ("kill", {"filter": {"since": "yesterday"}}, "filter.since"),
        ("kill", {"filter": {"sort": "id"}}, "filter.sort"),
        ("kill", {"ids": [1], "priority": 1}, "priority"),
        ("kill", {"ids": [1], "key": "k"}, "key"),
        ("update", {"ids": [1]}, "priority"),
        ("update", {"ids": [1], "priority": 99}, "priority"),
    ],
)
async def test_bulk_actions_that_make_no_sense(site: Site, action: str, body: dict[str, Any], said: str) -> None:
    reply = await site.ask("POST", f"/api/v2/jobs/{action}", body=json.dumps(body).encode())
    assert reply.status == 400, reply.json
    assert said in reply.json["detail"]


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PATCH", "/jobs/1", {"priority": None}),
        ("PATCH", "/jobs/1", {"state": "FINISHED"}),
        ("PUT", "/applications/a", {"container": {"type": "docker"}}),
        ("PUT", "/applications/a", {"container": {"type": "podman"}}),
        ("PUT", "/applications/a", {"grace_period_s": -1}),
        ("PUT", "/applications/a", {"owner": "bob"}),
        ("PUT", "/queue", {"mode": "closed"}),
        ("PUT", "/queue", {}),
    ],
)
async def test_other_bodies_that_are_wrong(site: Site, method: str, target: str, body: dict[str, Any]) -> None:
    reply = await site.ask(method, f"/api/v2{target}", ROOT, json.dumps(body).encode())
    assert (reply.status, reply.json["type"]) == (400, "urn:retz:bad-request"), reply.json


async def test_any_content_type_will_do(site: Site) -> None:
    body = b'{"jobs":[{"command":"true"}]}'
    for kind in ("text/plain", "application/json; charset=latin-1", "nonsense"):
        reply = await site.ask("POST", "/api/v2/jobs", body=body, headers={"Content-Type": kind})
        assert reply.status == 201, kind


async def test_a_chunked_body_is_a_body(site: Site) -> None:
    body = b'{"jobs":[{"command":"true"}]}'

    async def pieces() -> Any:
        for byte in body:
            yield bytes([byte])

    headers = authorization(ANN.key, ANN.secret, "POST", "/api/v2/jobs", body, time.time())
    url = f"http://127.0.0.1:{site.port}/api/v2/jobs"
    async with site.session.post(url, data=pieces(), headers=headers) as response:
        assert response.status == 201
