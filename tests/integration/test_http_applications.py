"""Applications: what is refused when they are registered, and what when their jobs are about to start."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from retz.store.database import Change

from .http_site import ANN, ROOT, PuppetEngine, Reply, Site, running_site

pytestmark = pytest.mark.anyio


class Choosing(PuppetEngine):
    """An engine that runs jobs as any Unix user, and fetches files."""

    honours = frozenset({"user", "files"})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path, {"retz.local.user": "nobody"}, Choosing()) as running:
        yield running


async def put(site: Site, fields: dict[str, object]) -> Reply:
    """Register ann's application a."""
    return await site.ask("PUT", "/api/v2/applications/a", body=json.dumps(fields).encode())


@pytest.mark.parametrize("field", ["files", "large_files"])
@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("hdfs://name/x", "http://, https://, file:// and absolute paths"),
        ("s3://bucket/x.tgz", "http://, https://, file:// and absolute paths"),
        ("data.txt", "absolute paths"),
        ("http:///x", "needs a host"),
        ("file://elsewhere/x", "of this machine"),
        ("http://[/x", "IPv6"),
    ],
)
async def test_files_that_this_machine_cannot_fetch(site: Site, field: str, uri: str, why: str) -> None:
    reply = await put(site, {field: ["/etc/hosts", uri]})
    assert reply.status == 422
    (error,) = reply.json["errors"]
    assert error["field"] == f"{field}[1]" and why in error["message"] and uri in reply.json["detail"]
    assert (await site.get("/applications/a")).status == 404


async def test_files_that_it_can(site: Site) -> None:
    uris = ["/etc/hosts", "file:///etc/hosts", "file://localhost/etc/hosts", "http://h/x", "HTTPS://h:1/x.tgz?y"]
    assert (await put(site, {"files": uris})).json["files"] == uris


async def test_agents_of_mesos_may_know_other_schemes(tmp_path: Path) -> None:
    options: dict[str, object] = {"retz.engine": "mesos", "retz.mesos.user": "batch"}
    async with running_site(tmp_path, options, Choosing()) as site:
        assert (await put(site, {"files": ["hdfs://name/x"]})).status == 200


async def test_a_job_whose_unix_user_is_not_its_owners_any_more_does_not_start(site: Site) -> None:
    await site.core.db.apply([Change("users", ANN.key, replace(ANN, unix_user="daemon"))])
    assert (await put(site, {"user": "daemon"})).status == 200
    queued = await site.submit(application="a", held=True)
    dependent = await site.submit(after=[str(queued)])
    other = await site.submit(held=True)
    await site.core.db.apply([Change("users", ANN.key, ANN)])
    await site.ask("POST", "/api/v2/jobs/release", ids=[queued, other])
    refused = (await site.get(f"/jobs/{queued}/wait?timeout_s=10")).json
    assert (refused["state"], refused["reason"], refused["attempts"]) == ("FAILED", "start", [])
    assert "'daemon' is not yours to use" in refused["message"] and "it was not started" in refused["message"]
    assert (await site.get(f"/jobs/{dependent}/wait?timeout_s=10")).json["reason"] == "dependency"
    assert (await site.get(f"/jobs/{other}", ROOT)).json["state"] in ("STARTING", "STARTED")
    assert [task.id for task in site.engine.launched] == [f"{other}.1"]
