"""The old routes against a client as strict as Java's: requests, answers, refusals, files; an engine that obeys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from retz.model.user import User
from retz.server.housekeeping import Housekeeping
from retz.server.http.protocol import files as protocol_files
from retz.server.http.protocol import jobs as protocol_jobs
from tests.doubles.old_client import OldClient, Refused, Reply, decode, job

from .http_site import ANN, BOB, ROOT, Site, running_site

pytestmark = pytest.mark.anyio

T = TypeVar("T")


def client_of(site: Site, user: User = ANN) -> OldClient:
    return OldClient("127.0.0.1", site.port, user.key, user.secret)


async def do(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Have a client that blocks do something while the server runs here."""
    return await asyncio.to_thread(call, *arguments, **options)


async def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        await do(call, *arguments, **options)
    return caught.value.code, caught.value.sentence


async def pause(site: Site) -> None:
    assert (await site.ask("PUT", "/api/v2/queue", ROOT, mode="paused")).status == 200


async def running(site: Site, user: User = ANN) -> tuple[OldClient, int]:
    """A client of a user with application ``t`` and one running job."""
    old = client_of(site, user)
    await do(old.load_app, "t")
    job_id = (await do(old.schedule, job("echo hoge")))["id"]
    await site.until(lambda: f"{job_id}.1" in site.engine.files)
    site.engine.started(f"{job_id}.1")
    await site.core.settled()
    return old, job_id


# -- H1 to H12: the API alone ----------------------------------------------------------------------------------


async def test_h1_ping(site: Site) -> None:
    reply = await do(client_of(site).ask, "GET", "/ping")
    assert (reply.code, reply.body) == (200, b'"OK"')


@pytest.mark.parametrize("state", ["QUEUED", "STARTING", "STARTED", "FINISHED", "KILLED", "CREATED"])
async def test_h2_lists_of_an_empty_server(site: Site, state: str) -> None:
    answer = await do(client_of(site).list, state)
    assert (answer["jobs"], answer["more"]) == ([], False)


async def test_h3_load_get_and_unload_an_application(site: Site) -> None:
    old = client_of(site)
    assert (await do(old.load_app, "foobar", files=["http://example.com/foobar.tgz"]))["command"] == "load-app"
    found = await do(old.get_app, "foobar")
    assert found == {
        "appid": "foobar", "largeFiles": [], "files": ["http://example.com/foobar.tgz"], "user": None, "owner": "ann",
        "gracePeriod": 0, "container": {"type": "mesos"}, "enabled": True,
    }  # fmt: skip
    assert [each["appid"] for each in await do(old.apps)] == ["foobar"]
    await do(old.unload_app, "foobar")
    assert await refused(old.get_app, "foobar") == (404, "No such application: foobar")
    await do(old.unload_app, "foobar")


async def test_h4_schedule(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    assert await refused(old.schedule, job("uname -a", "foobar")) == (404, "No such application: foobar")
    assert await refused(old.schedule, job("uname -a", None)) == (404, "No such application: null")
    assert await do(old.get_job, 235561234) is None
    await do(old.load_app, "foobar")
    accepted = await do(old.schedule, job("uname -a", "foobar", 1, 200, 32, props=None))
    assert accepted["scheduled"] is not None and accepted["id"] >= 0 and accepted["state"] == "QUEUED"
    assert (await do(old.call, "GET", "/status"))["queueLength"] == 1
    found = await do(old.get_job, accepted["id"])
    assert found == accepted and found["cmd"] == "uname -a"
    assert (await do(old.list_files, accepted["id"]))["entries"] == []
    assert (await do(old.get_file, accepted["id"], "stdout"))["file"] is None
    assert await refused(old.get_app, "no such app") == (404, "No such application: no such app")
    assert await refused(old.get_app, "no such/app") == (404, "No such application: no such/app")


async def test_h5_nothing_runs_without_its_application(site: Site) -> None:
    old = client_of(site)
    assert (await refused(old.run, job("true", "nowhere")))[0] == 404
    assert (await do(old.list, "QUEUED"))["jobs"] == []


async def test_h6_kill(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    assert await refused(old.kill, 0) == (404, "No such job: 0")
    await do(old.load_app, "t")
    queued = await do(old.schedule, job("sleep 1000", mem=64, disk=0))
    await do(old.kill, queued["id"])
    found = await do(old.get_job, queued["id"])
    assert found is not None and (found["state"], found["reason"]) == ("KILLED", "Canceled by user")
    await do(old.kill, queued["id"])


async def test_h7_status(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t")
    await do(old.schedule, job("true", cpu=4))
    status = await do(old.call, "GET", "/status")
    assert (status["queueLength"], status["runningLength"]) == (1, 0)
    assert status["totalOffered"] == {
        "cpu": 4, "memMB": 4096, "gpu": 1, "ports": 10, "diskMB": 10_000, "nodes": 1
    }  # fmt: skip
    unsigned = await do(old.ask, "GET", "/status", headers={"Authorization": None, "Date": None})
    assert unsigned.code == 200 and decode(unsigned.body)["command"] == "status"


async def test_status_counts_what_runs(site: Site) -> None:
    old, _ = await running(site)
    status = await do(old.call, "GET", "/status")
    assert (status["queueLength"], status["runningLength"], status["numSlaves"]) == (0, 1, 1)
    assert status["totalUsed"] == {"cpu": 1, "memMB": 32, "gpu": 0, "ports": 0, "diskMB": 32, "nodes": 1}
    assert status["totalOffered"]["cpu"] == 3


async def test_h8_users_see_nothing_of_each_other(site: Site) -> None:
    await pause(site)
    alice, charlie, admin = client_of(site), client_of(site, BOB), client_of(site, ROOT)
    await do(alice.load_app, "app1")
    mine = await do(alice.schedule, job("true", "app1", props={"LANG": "C"}))
    for other in (charlie, admin):
        assert await do(other.apps) == []
        assert (await refused(other.get_app, "app1"))[0] == 404
        for state in ("QUEUED", "STARTING", "STARTED", "FINISHED", "KILLED"):
            assert (await do(other.list, state))["jobs"] == []
        assert await do(other.get_job, mine["id"]) is None
        assert await refused(other.kill, mine["id"]) == (404, f"No such job: {mine['id']}")
        answer = await do(other.get_file, mine["id"], "stdout")
        assert (answer["job"], answer["file"]) == (None, None)
        answer = await do(other.list_files, mine["id"])
        assert (answer["job"], answer["entries"]) == (None, [])
        assert (await do(other.download, mine["id"], "stdout")).code == 404
        assert await refused(other.load_app, "app2", owner="ann") == (
            400, "Invalid request: requester and owner does not match",
        )  # fmt: skip
        assert (await refused(other.schedule, job("true", "app1")))[0] == 404
        await do(other.unload_app, "app1")
    found = await do(alice.get_job, mine["id"])
    assert found is not None and found["state"] == "QUEUED"
    assert (await do(alice.get_app, "app1"))["owner"] == "ann"


async def test_h8_the_same_name_may_belong_to_two_users(site: Site) -> None:
    alice, charlie = client_of(site), client_of(site, BOB)
    await do(alice.load_app, "app1", files=["http://a/"])
    await do(charlie.load_app, "app1", files=["http://c/"])
    assert (await do(alice.get_app, "app1"))["files"] == ["http://a/"]
    assert (await do(charlie.get_app, "app1"))["files"] == ["http://c/"]


async def test_h9_a_disabled_user_is_refused_until_enabled(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.shared-uid": True}) as site:
        await _disable_and_enable(site)


async def _disable_and_enable(site: Site) -> None:
    old = client_of(site)
    await do(old.load_app, "t")
    job_id = (await do(old.schedule, job("ls")))["id"]
    for _ in range(2):
        assert (await site.ask("PATCH", "/api/v2/users/ann", ROOT, enabled=False)).status == 200
        for call in (lambda: old.get_job(job_id), lambda: old.load_app("t2"), lambda: old.schedule(job("ls"))):
            code, sentence = await refused(call)
            assert code == 403 and "disabled" in sentence
        assert (await site.ask("PATCH", "/api/v2/users/ann", ROOT, enabled=True)).status == 200
        assert await do(old.get_job, job_id) is not None
        await do(old.load_app, "t2")
        await do(old.schedule, job("ls"))


async def test_h10_download_of_what_never_started(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    assert (await do(old.download, 0, "hoge +%/")).code == 404
    await do(old.load_app, "t")
    queued = await do(old.schedule, job("true"))
    reply = await do(old.download, queued["id"], "hoge +%/")
    assert (reply.code, reply.body) == (404, b"")


async def test_h11_versions(site: Site) -> None:
    for method, target in (("GET", "/status"), ("GET", "/job/x"), ("GET", "/nowhere"), ("PATCH", "/job"), ("GET", "/")):
        reply = await do(client_of(site).ask, method, target)
        assert reply.headers["server"].startswith("retz-server-0.5.0 (")
    status = await do(client_of(site).call, "GET", "/status")
    assert status["serverVersion"] == reply.headers["server"]


# -- jobs --------------------------------------------------------------------------------------------------------


async def test_what_was_asked_is_what_is_shown(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t")
    accepted = await do(
        old.schedule,
        job("echo 1", cpu=2, mem=256, ports=1, gpu=1, name="n", tags=["b", "a"], priority=-3, props={"LANG": "C"}),
    )
    origin = {"cmd", "scheduled", "id"}
    assert {key: value for key, value in accepted.items() if key not in origin} == {
        "started": None, "finished": None, "result": -1, "url": None, "reason": None, "retry": 0, "priority": -3,
        "appid": "t", "name": "n", "tags": ["b", "a"], "attributes": None, "taskId": None, "slaveId": None,
        "resources": {"cpu": 2, "memMB": 256, "gpu": 1, "ports": 1, "diskMB": 32, "nodes": 1},
        "state": "QUEUED", "props": {"LANG": "C"},
    }  # fmt: skip


async def test_the_life_of_a_job(site: Site) -> None:
    old, job_id = await running(site)
    found = await do(old.get_job, job_id)
    assert found is not None
    assert (found["state"], found["taskId"], found["slaveId"]) == ("STARTED", f"{job_id}.1", "a1")
    assert found["started"] is not None and found["finished"] is None and found["result"] == -1
    assert found["url"] == f"http://127.0.0.1:{site.port}/job/{job_id}/dir?path=%24MESOS_SANDBOX"
    assert [each["id"] for each in (await do(old.list, "STARTED"))["jobs"]] == [job_id]
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    found = await do(old.get_job, job_id)
    assert found is not None
    assert (found["state"], found["result"], found["reason"], found["retry"]) == ("FINISHED", 0, None, 0)
    assert found["finished"] is not None
    assert await refused(old.kill, job_id) == (500, "Can't kill job - due to unknown reason")


async def test_a_failed_job_is_shown_as_killed_with_its_reason(site: Site) -> None:
    old, job_id = await running(site)
    site.engine.ended(f"{job_id}.1", 3)
    await site.core.settled()
    found = await do(old.get_job, job_id)
    assert found is not None
    assert (found["state"], found["result"]) == ("KILLED", -1)
    assert found["reason"] == "Command exited with status 3"
    assert [each["id"] for each in (await do(old.list, "KILLED"))["jobs"]] == [job_id]
    assert (await do(old.list, "FINISHED"))["jobs"] == []
    await do(old.kill, job_id)


async def test_a_lost_machine_counts_as_a_retry(site: Site) -> None:
    old, job_id = await running(site)
    site.engine.lost(f"{job_id}.1")
    await site.until(lambda: f"{job_id}.2" in site.engine.files)
    await site.core.settled()
    found = await do(old.get_job, job_id)
    assert found is not None and (found["retry"], found["taskId"], found["reason"]) == (1, f"{job_id}.2", None)


async def test_a_running_job_is_killed_when_the_engine_says_so(site: Site) -> None:
    old, job_id = await running(site)
    await do(old.kill, job_id)
    assert site.engine.killed == [f"{job_id}.1"]
    found = await do(old.get_job, job_id)
    assert found is not None and found["state"] == "STARTED"
    site.engine.ended(f"{job_id}.1", 143)
    await site.core.settled()
    found = await do(old.get_job, job_id)
    assert found is not None
    assert (found["state"], found["reason"], found["taskId"]) == ("KILLED", "Canceled by user", f"{job_id}.1")


async def test_lists_are_newest_first_by_tag_and_reach_into_the_archive(site: Site) -> None:
    old = client_of(site)
    await do(old.load_app, "t")
    ids = [(await do(old.schedule, job(f"echo {n}", tags=["odd"] if n % 2 else [])))["id"] for n in range(4)]
    await site.until(lambda: all(f"{each}.1" in site.engine.files for each in ids))
    for each in ids:
        site.engine.ended(f"{each}.1")
    await site.core.settled()
    for _ in range(2):
        assert [each["id"] for each in (await do(old.list, "FINISHED"))["jobs"]] == ids[::-1]
        assert [each["id"] for each in (await do(old.list, "FINISHED", "odd"))["jobs"]] == [ids[3], ids[1]]
        await Housekeeping(site.core).archive_ended()


async def test_more_is_told_when_there_are_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t")
    ids = [(await do(old.schedule, job("true")))["id"] for _ in range(5)]
    monkeypatch.setattr(protocol_jobs, "MAX_LIMIT", 2)
    answer = await do(old.list, "QUEUED")
    assert ([each["id"] for each in answer["jobs"]], answer["more"]) == (ids[::-1], False)
    monkeypatch.setattr(protocol_jobs, "MAX_LISTED", 2)
    answer = await do(old.list, "QUEUED")
    assert ([each["id"] for each in answer["jobs"]], answer["more"]) == (ids[:2:-1], True)
    monkeypatch.setattr(protocol_jobs, "MAX_LISTED", 3)
    answer = await do(old.list, "QUEUED")
    assert ([each["id"] for each in answer["jobs"]], answer["more"]) == (ids[:1:-1], True)


async def test_what_a_client_may_not_decide_is_not_taken_from_it(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t")
    forged = job(
        "true", url="http://10.0.0.1/admin", taskId="1.1", slaveId="a1", retry=7, result=0, reason="no", id=99,
        started="2017-09-26T03:40:15.573+09:00", finished="2017-09-26T03:40:15.573+09:00", state="FINISHED",
    )  # fmt: skip
    accepted = await do(old.schedule, forged)
    assert (accepted["id"], accepted["state"], accepted["retry"], accepted["result"]) == (1, "QUEUED", 0, -1)
    for name in ("url", "taskId", "slaveId", "reason", "started", "finished"):
        assert accepted[name] is None


async def test_absent_and_null_fields_of_a_job(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t")
    least = {"cmd": "true", "id": 0, "appid": "t", "resources": {"cpu": 1, "memMB": 32}, "state": "CREATED"}
    accepted = await do(old.schedule, least)
    assert (accepted["props"], accepted["name"], accepted["tags"], accepted["resources"]["diskMB"]) == ({}, None, [], 0)
    accepted = await do(old.schedule, {**least, "env": {"A": "b"}})
    assert accepted["props"] == {"A": "b"}
    nulls = dict.fromkeys(("props", "name", "tags", "attributes", "priority", "scheduled", "url"))
    accepted = await do(old.schedule, {**least, **nulls})
    assert (accepted["props"], accepted["name"], accepted["tags"], accepted["priority"]) == ({}, None, [], 0)
    for name in least:
        cut = {key: value for key, value in least.items() if key != name}
        assert (await refused(old.schedule, cut))[0] == 400


async def test_a_fraction_is_kept_and_shown_rounded_up(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t")
    accepted = await do(old.schedule, job("true", cpu=1.9))  # type: ignore[arg-type]
    assert accepted["resources"]["cpu"] == 2
    assert (await site.get(f"/jobs/{accepted['id']}")).json["resources"]["cpus"] == 1.9


@pytest.mark.parametrize(
    ("described", "code", "said"),
    [
        (job("true", cpu=0), 400, "resources.cpus"),
        (job("true", mem=0), 400, "resources.mem"),
        (job("echo 42", cpu=1024), 400, "Job does not fit system limit"),
        (job("echo 42", mem=10**9), 400, "Job does not fit system limit"),
        (job("true", cpu=-1), 400, "job.resources.cpu"),
        (job(""), 400, "command"),
        (job("true", priority=20), 400, "priority"),
        (job("true", name="x" * 300), 400, "name"),
        (job("true", tags=[1]), 400, "tags"),
        (job("true", props={"A": None}), 400, "props"),
        (job("true", attributes=">1"), 400, "attributes"),
        (job("true", surprise=1), 400, "surprise"),
        (job("true", state="FAILED"), 400, "state"),
    ],
)
async def test_jobs_that_cannot_be(site: Site, described: Any, code: int, said: str) -> None:
    old = client_of(site)
    await do(old.load_app, "t")
    answered, sentence = await refused(old.schedule, described)
    assert answered == code and said in sentence
    assert (await do(old.list, "QUEUED"))["jobs"] == []


async def test_a_disabled_application_takes_no_jobs_and_the_client_can_say_so(site: Site) -> None:
    old = client_of(site)
    await do(old.load_app, "t", enabled=False)
    assert await refused(old.schedule, job("true")) == (403, "Application t is disabled")


async def test_a_draining_queue_says_so(site: Site) -> None:
    old = client_of(site)
    await do(old.load_app, "t")
    assert (await site.ask("PUT", "/api/v2/queue", ROOT, mode="draining")).status == 200
    code, sentence = await refused(old.schedule, job("true"))
    assert code == 503 and "draining" in sentence


# -- every shape of refusal ----------------------------------------------------------------------------------------

LIST = {"command": "list", "state": "QUEUED", "tag": None, "version": "0.2.1"}


@pytest.mark.parametrize(
    ("method", "target", "body", "said"),
    [
        ("POST", "/jobs", b"{", "JSON"),
        ("POST", "/jobs", b"", "JSON"),
        ("POST", "/jobs", b"\xff", ""),
        ("POST", "/jobs", json.dumps({"state": "QUEUED"}).encode(), "command"),
        ("POST", "/jobs", json.dumps(LIST | {"command": "schedule"}).encode(), "command"),
        ("POST", "/jobs", json.dumps(LIST | {"state": "FAILED"}).encode(), "state"),
        ("POST", "/jobs", json.dumps(LIST | {"state": None}).encode(), "state"),
        ("POST", "/jobs", json.dumps(LIST | {"surprise": 1}).encode(), "surprise"),
        ("POST", "/job", b"[]", "object"),
        ("PUT", "/app/t", json.dumps({"command": "load-app"}).encode(), "application"),
        ("GET", "/job/one", b"", "id"),
        ("GET", "/job/1.5", b"", "id"),
        ("GET", "/job/last", b"", "id"),
        ("DELETE", "/job/99999999999999999999", b"", "id"),
        ("GET", "/job/1/file", b"", "path"),
        ("GET", "/job/1/file?path=stdout", b"", "offset"),
        ("GET", "/job/1/file?path=stdout&offset=0", b"", "length"),
        ("GET", "/job/1/file?path=stdout&offset=x&length=1", b"", "offset"),
        ("GET", "/job/1/file?path=stdout&offset=0&length=-2", b"", "length"),
        ("GET", "/job/1/file?path=a%00b&offset=0&length=1", b"", "path"),
        ("GET", "/job/1/download", b"", "path"),
        ("GET", "/job/1/dir", b"", "path"),
    ],
)
async def test_requests_that_are_wrong_are_told_what_is_wrong(
    site: Site, method: str, target: str, body: bytes, said: str
) -> None:
    code, sentence = await refused(client_of(site).call, method, target, body=body)
    assert code == 400 and said in sentence


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/jobs", 405),
        ("PATCH", "/job/1", 405),
        ("POST", "/app/t", 405),
        ("DELETE", "/job/", 404),
        ("GET", "/app/", 404),
        ("GET", "/app/a%0Ab", 404),
        ("GET", "/job/1/files", 404),
    ],
)
async def test_old_addresses_that_are_no_routes_refuse_as_old_clients_read_it(
    site: Site, method: str, target: str, code: int
) -> None:
    assert (await refused(client_of(site).call, method, target))[0] == code
    reply = await do(client_of(site).ask, method, "/jobsite")
    assert reply.headers["content-type"] == "application/problem+json"


async def test_a_body_without_version_is_accepted(site: Site) -> None:
    assert (await do(client_of(site).call, "POST", "/jobs", {"command": "list", "state": "QUEUED"}))["jobs"] == []


async def test_too_large_a_body(site: Site) -> None:
    assert (await refused(client_of(site).call, "POST", "/job", body=b" " * (1 << 21)))[0] == 413


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"appid": ""}, "name"),
        ({"appid": "a/b"}, "name"),
        ({"gracePeriod": 1025}, "gracePeriod"),
        ({"container": {"type": "appc"}}, "appc"),
        ({"container": {"type": "docker"}}, "image"),
        ({"container": {"type": "mesos", "image": "x"}}, "image"),
        ({"user": "root"}, "root user is only allowed with Docker container"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_applications_that_cannot_be(site: Site, fields: dict[str, Any], said: str) -> None:
    code, sentence = await refused(client_of(site).load_app, "t", **fields)
    assert code == 400 and said in sentence


async def test_a_docker_application_comes_back_as_it_went(site: Site) -> None:
    old = client_of(site)
    volume = {
        "driver": "nfs",
        "containerPath": "my-nfs",
        "mode": "RW",
        "name": "192.168.0.1/",
        "options": {"user": "u"},
    }
    container = {"type": "docker", "image": "ubuntu:16.04", "volumes": [volume]}
    sent = {key: value for key, value in volume.items() if key != "mode"}
    await do(
        old.load_app,
        "echo app",
        container={**container, "volumes": [sent]},
        gracePeriod=30,
        largeFiles=["http://h/l.tgz"],
    )
    found = await do(old.get_app, "echo app")
    assert (found["container"], found["gracePeriod"], found["largeFiles"]) == (container, 30, ["http://h/l.tgz"])


async def test_the_body_of_an_application_names_it_and_absent_enabled_is_false(site: Site) -> None:
    old = client_of(site)
    application = {"appid": "inside", "owner": "ann"}
    await do(old.call, "PUT", "/app/outside", {"command": "load-app", "application": application})
    assert [(each["appid"], each["enabled"]) for each in await do(old.apps)] == [("inside", False)]


async def test_null_flags_and_empty_tags_are_as_absent_ones(site: Site) -> None:
    await pause(site)
    old = client_of(site)
    await do(old.load_app, "t", enabled=None, container=None, gracePeriod=None, files=None)
    assert (await do(old.get_app, "t"))["enabled"] is False
    await do(old.load_app, "t")
    assert (await do(old.schedule, job("true", tags=["", "a"])))["tags"] == ["a"]


async def test_an_application_in_use_stays(site: Site) -> None:
    old, _ = await running(site)
    code, sentence = await refused(old.unload_app, "t")
    assert code == 409 and "is used by job" in sentence
    assert (await do(old.get_app, "t"))["appid"] == "t"


# -- files ---------------------------------------------------------------------------------------------------------


async def test_files_are_text_cut_between_characters(site: Site) -> None:
    old, job_id = await running(site)
    text = "aε◟𝄞" * 3
    data = site.engine.files[f"{job_id}.1"]["stdout"]
    data += text.encode()
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    for length in range(1, 12):
        read, offset = "", 0
        while (part := (await do(old.get_file, job_id, "stdout", offset, length))["file"])["data"]:
            assert part["offset"] == offset
            read += part["data"]
            offset += len(part["data"].encode())
        assert (read, offset) == (text, len(data))


async def test_bytes_that_are_no_text_keep_the_clients_offset_right(site: Site) -> None:
    old, job_id = await running(site)
    site.engine.files[f"{job_id}.1"]["stdout"] += b"a\xff\xfeb\xe2\x82c\xe2\x82"
    part = (await do(old.get_file, job_id, "stdout", 0, -1))["file"]
    assert part["data"] == "a??b??c"
    # The last two may become a character yet.
    assert (await do(old.get_file, job_id, "stdout", 7, -1))["file"]["data"] == ""
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    assert (await do(old.get_file, job_id, "stdout", 7, -1))["file"]["data"] == "??"
    assert (await do(old.get_file, job_id, "stdout", 9, -1))["file"] == {"data": "", "offset": 9}
    assert (await do(old.get_file, job_id, "stdout", 2**40, 10))["file"] == {"data": "", "offset": 2**40}
    assert (await do(old.get_file, job_id, "stdout", 0, 0))["file"]["data"] == ""


async def test_one_answer_holds_so_much_and_the_client_asks_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    old, job_id = await running(site)
    site.engine.files[f"{job_id}.1"]["stdout"] += b"x" * 100
    monkeypatch.setattr(protocol_files, "MOST", 64)
    assert len((await do(old.get_file, job_id, "stdout", 0, -1))["file"]["data"]) == 64
    assert len(await do(old.whole_file, job_id, "stdout")) == 100


async def test_files_that_are_not_there_or_not_to_be_read(site: Site) -> None:
    old, job_id = await running(site)
    for path in ("missing", "link", "../secret", "/etc/passwd"):
        assert (await do(old.get_file, job_id, path))["file"] is None
    assert await refused(old.list_files, job_id, "missing") == (404, "missing not found")
    assert (await refused(old.list_files, job_id, ".."))[0] == 403
    assert (await do(old.list_files, job_id, "stdout"))["entries"] == []
    missing = await do(old.download, job_id, "missing")
    assert (missing.code, decode(missing.body)["status"]) == (404, "missing not found")
    assert (await do(old.download, job_id, "..")).code == 403
    assert site.engine.open_readers == 0


async def test_a_sandbox_that_is_not_there_yet_is_empty_and_one_that_is_gone_is_not_found(site: Site) -> None:
    old, job_id = await running(site)
    await do(old.load_app, "slow")
    begins = (await do(old.schedule, job("true", "slow")))["id"]
    await site.until(lambda: f"{begins}.1" in site.engine.files)
    await site.core.settled()
    for number in (job_id, begins):
        del site.engine.files[f"{number}.1"]
    answer = await do(old.list_files, begins)
    assert (answer["job"]["state"], answer["entries"]) == ("STARTING", [])
    assert await refused(old.list_files, begins, "d") == (404, "d not found")
    assert await refused(old.list_files, job_id) == (404, "$MESOS_SANDBOX not found")


async def test_a_directory(site: Site) -> None:
    old, job_id = await running(site)
    site.engine.files[f"{job_id}.1"]["out ε+.txt"] = bytearray(b"12345")
    listing = await do(old.list_files, job_id)
    assert listing["entries"][0] == {
        "gid": "users", "mode": "-rw-r--r--", "mtime": 1, "nlink": 1, "path": f"/{job_id}.1/out ε+.txt", "size": 5,
        "uid": "ann",
    }  # fmt: skip
    assert [each["path"].rpartition("/")[2] for each in listing["entries"]] == ["out ε+.txt", "stderr", "stdout"]


async def test_a_download(site: Site) -> None:
    old, job_id = await running(site)
    site.engine.files[f"{job_id}.1"]["a + b%.bin"] = bytearray(range(256))
    reply: Reply = await do(old.download, job_id, "a + b%.bin")
    assert (reply.code, reply.body, reply.headers["content-length"]) == (200, bytes(range(256)), "256")
    assert reply.headers["content-type"] == "application/octet-stream"
