"""Jobs over HTTP: submit, list, look at, change."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from retz.server.housekeeping import Housekeeping
from retz.server.http import submission

from .http_site import ANN, BOB, ROOT, Site

pytestmark = pytest.mark.anyio


async def test_a_job_as_it_is_shown(site: Site) -> None:
    before = time.time()
    full: dict[str, Any] = {
        "command": ["python", "train.py"],
        "name": "train",
        "tags": ["a", "b"],
        "priority": -3,
        "resources": {"cpus": 0.5, "mem": "1.5g", "disk": "10m", "gpus": 1, "ports": 2},
        "environment": {"K": "v"},
        "attributes": "",
        "directory": "/tmp",
        "timeout_s": 3600,
        "kill_grace_s": 1.5,
        "max_retries": 2,
        "pipeline": "p",
        "run": "r",
        "held": True,
    }
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[full])
    assert (reply.status, reply.json) == (201, {"ids": [1], "replayed": False})
    job = (await site.get("/jobs/1")).json
    for field in ("command", "name", "tags", "priority", "directory", "timeout_s", "max_retries", "pipeline", "run"):
        assert job[field] == full[field], field
    assert job["resources"] == {"cpus": 0.5, "mem": 1536, "disk": 10, "gpus": 1, "ports": 2}
    assert (job["state"], job["held"], job["owner"]) == ("QUEUED", True, "ann")
    assert "retz release 1" in job["why"]
    assert job["submitted"].endswith("Z") and len(job["submitted"]) == 24
    assert (await site.get(f"/jobs?since={job['submitted']}")).json["total"] == 1
    assert before - 1 < time.time()
    assert {"started", "ended", "reason", "exit_code", "agent", "usage"} <= job.keys()
    assert job["attempts"] == []


async def test_only_the_command_is_required(site: Site) -> None:
    job = (await site.get(f"/jobs/{await site.submit('echo hello')}")).json
    assert job["command"] == "echo hello"
    assert job["resources"] == {"cpus": 1.0, "mem": 1024, "disk": 0, "gpus": 0, "ports": 0}
    assert (job["application"], job["tags"], job["priority"]) == ("default", [], 0)


async def test_the_life_of_a_job(site: Site) -> None:
    job_id = await site.running(resources={"ports": 1, "gpus": 1})
    job = (await site.get(f"/jobs/{job_id}")).json
    assert (job["state"], job["agent"], job["ports"], job["gpus"]) == ("STARTED", "a1", [31000], ["GPU-1"])
    assert job["started"] == job["attempts"][0]["started"] and job["why"] is None
    live = (await site.get(f"/jobs/{job_id}/usage")).json
    assert live == {"interval_s": 1.0, "cpu_s": 1.5, "max_rss_mb": 20.0, "series": [[1.5, 20]], "attempt": 1}
    site.engine.ended(f"{job_id}.1", 3)
    job = (await site.get(f"/jobs/{job_id}")).json
    assert (job["state"], job["reason"], job["exit_code"]) == ("FAILED", "exit", 3)
    assert job["usage"] == {"cpu_s": 2.0, "max_rss_mb": 30.0, "gpu_util": None, "gpu_mem_mb": None}
    assert job["attempts"][0]["task"] == f"{job_id}.1"
    assert (await site.get(f"/jobs/{job_id}/usage")).json["series"] == [[1.0, 30], [0.5, 10]]
    assert (await site.get(f"/jobs/{job_id}/usage?attempt=1")).json["attempt"] == 1
    assert (await site.get(f"/jobs/{job_id}/usage?attempt=2")).status == 404


async def test_what_an_earlier_attempt_used(site: Site) -> None:
    job_id = await site.running()
    site.engine.lost(f"{job_id}.1")
    await site.until(lambda: any(task.id == f"{job_id}.2" for task in site.engine.launched))
    site.engine.started(f"{job_id}.2")
    await site.core.settled()
    assert (await site.get(f"/jobs/{job_id}/usage?attempt=1")).json["series"] == []  # nobody could tell any more
    assert (await site.get(f"/jobs/{job_id}/usage")).json["series"] == [[1.5, 20]]


async def test_a_repeated_key_gives_the_same_jobs(site: Site) -> None:
    body = json.dumps({"key": "k", "jobs": [{"command": "true"}, {"command": "false"}]}).encode()
    first = await site.ask("POST", "/api/v2/jobs", body=body)
    again = await site.ask("POST", "/api/v2/jobs", body=body)
    assert (first.status, first.json) == (201, {"ids": [1, 2], "replayed": False})
    assert (again.status, again.json) == (200, {"ids": [1, 2], "replayed": True})
    other = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true"}], key="k")
    assert (other.status, other.json["type"]) == (409, "urn:retz:conflict")
    assert (await site.ask("POST", "/api/v2/jobs", BOB, body=body)).status == 201


async def test_all_jobs_of_a_request_or_none(site: Site) -> None:
    reply = await site.ask(
        "POST", "/api/v2/jobs", jobs=[{"command": "true"}, {"command": "true", "application": "none"}]
    )
    assert reply.status == 422
    assert reply.json["errors"][0]["field"] == "jobs[1].application"
    assert (await site.get("/jobs?state=ALL")).json["total"] == 0


async def test_a_bulk_large_enough_to_be_split(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "PIECE", 10_000)
    jobs = [{"command": f'echo "{n}" }}, {{"', "held": True} for n in range(3000)]
    reply = await site.ask("POST", "/api/v2/jobs", jobs=jobs, key="bulk")
    assert reply.status == 201
    assert reply.json["ids"] == list(range(1, 3001))
    assert (await site.get("/jobs/3000")).json["command"] == jobs[2999]["command"]
    assert (await site.get("/jobs?limit=1")).json["counts"]["QUEUED"] == 3000


async def test_secrets_in_environments_are_masked_everywhere(site: Site) -> None:
    names = ["MY_TOKEN", "Secret", "db_password", "API_KEY", "keychain"]
    job_id = await site.submit(environment={**dict.fromkeys(names, "hidden-value"), "PLAIN": "shown"})
    for target in (f"/jobs/{job_id}", "/jobs", f"/jobs/{job_id}/wait?timeout_s=0"):
        reply = await site.get(target)
        assert b"hidden-value" not in reply.body and reply.body.count(b"<masked>") == len(names)
        assert b'"PLAIN":"shown"' in reply.body
    reply = await site.ask("PATCH", f"/api/v2/jobs/{job_id}", held=True)
    assert b"hidden-value" not in reply.body
    reply = await site.ask("DELETE", f"/api/v2/jobs/{job_id}")
    assert b"hidden-value" not in reply.body
    assert site.core.visible(ANN, job_id).environment["MY_TOKEN"] == "hidden-value"


async def test_lists_filter_sort_and_page(site: Site) -> None:
    first = await site.submit("echo Alpha", tags=["x", "y"], name="n1", pipeline="p", held=True, priority=5)
    second = await site.submit("echo beta", tags=["x"], held=True)
    third = await site.submit("echo gamma", name="alphabet", held=False, resources={"cpus": 4})
    assert await _ids(site, "limit=9") == [third, second, first]
    assert await _ids(site, "tag=x") == [second, first]
    assert await _ids(site, "tag=x&tag=y") == [first]
    assert await _ids(site, "text=ALPHA&sort=id") == [first, third]
    assert await _ids(site, "name=n1") == await _ids(site, "pipeline=p") == [first]
    assert await _ids(site, "held=true") == [second, first]
    assert await _ids(site, f"ids={first}-{second}&sort=id") == [first, second]
    assert await _ids(site, "sort=-priority&limit=1") == [first]
    assert await _ids(site, "application=other") == []
    assert await _ids(site, "state=ENDED") == []
    assert await _ids(site, "offset=1&limit=1") == [second]
    page = (await site.get("/jobs?limit=2")).json
    assert (page["total"], page["total_exact"]) == (3, True)
    rest = (await site.get(f"/jobs?limit=2&cursor={page['next']}")).json
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([first], None)


async def _ids(site: Site, query: str) -> list[int]:
    return [job["id"] for job in (await site.get(f"/jobs?{query}")).json["jobs"]]


async def test_counts_are_of_ones_own_live_jobs(site: Site) -> None:
    running = await site.running()
    await site.submit(held=True)
    await site.submit(user=BOB, held=True)
    ended = await site.running()
    site.engine.ended(f"{ended}.1")
    assert (await site.get("/jobs")).json["counts"] == {"QUEUED": 1, "STARTING": 0, "STARTED": 1}
    assert (await site.get("/jobs?user=*", ROOT)).json["counts"] == {"QUEUED": 2, "STARTING": 0, "STARTED": 1}
    assert (await site.get("/jobs?user=bob", ROOT)).json["counts"]["QUEUED"] == 1
    assert running != ended


async def test_archived_jobs_are_still_there(site: Site) -> None:
    job_id = await site.running(name="old")
    site.engine.ended(f"{job_id}.1")
    await Housekeeping(site.core).archive_ended()
    await site.core.settled()
    assert site.core.db.jobs.record(job_id) is None
    assert (await site.get(f"/jobs/{job_id}")).json["state"] == "FINISHED"
    assert (await site.get("/jobs/last")).json["id"] == job_id
    assert await _ids(site, "state=ENDED") == [job_id]
    assert (await site.get(f"/jobs/{job_id}", BOB)).status == 404
    at = (await site.get(f"/jobs/{job_id}")).json["submitted"]
    past = (await site.get(f"/jobs?at={at}")).json["jobs"]
    assert [(job["id"], job["state"]) for job in past] in ([(job_id, "QUEUED")], [(job_id, "STARTING")], [])


async def test_the_newest_is_last(site: Site) -> None:
    assert (await site.get("/jobs/last")).status == 404
    await site.submit()
    newest = await site.submit()
    await site.submit(user=BOB)
    assert (await site.get("/jobs/last")).json["id"] == newest


async def test_why_a_job_waits(site: Site) -> None:
    await site.running(resources={"cpus": 3})
    job_id = await site.submit(resources={"cpus": 2})
    line = (await site.get(f"/jobs/{job_id}")).json["why"]
    why = (await site.get(f"/jobs/{job_id}/why")).json
    assert "2 cpus" in line and why["summary"] == line
    assert (why["blocked_by"], why["agents"]["total"], why["agents"]["fail"]["cpus"]) == ("room", 1, 1)
    assert why["need"]["cpus"] == 2.0 and why["details"][0]["agent"] == "a1"


class Clock:
    """A server's clock that stands until it is moved."""

    def __init__(self, site: Site) -> None:
        self.now = float(int(time.time()))
        site.core.clock = site.core.dispatcher.live.clock = site.core.dispatcher._clock = lambda: self.now


async def test_what_a_job_waited_for_is_told_while_it_waits_runs_and_has_ended(site: Site) -> None:
    clock = Clock(site)
    first = await site.running(resources={"cpus": 3})
    job_id = await site.submit(resources={"cpus": 2}, held=True)
    await site.core.observer.look()
    clock.now += 10
    await site.ask("PATCH", f"/api/v2/jobs/{job_id}", held=False)
    clock.now += 20
    await site.core.observer.look()
    waiting = (await site.get(f"/jobs/{job_id}/why")).json
    assert [(part["cause"], part["resource"], part["seconds"]) for part in waiting["waited"]] == [
        ("room", "cpus", 20.0),
        ("held", None, 10.0),
    ]
    assert (waiting["waited_s"], waiting["unknown_s"], waiting["waited"][0]["text"]) == (30.0, 0.0, "20s for free cpus")
    site.engine.ended(f"{first}.1")
    await site.until(lambda: f"{job_id}.1" in site.engine.held)
    site.engine.started(f"{job_id}.1")
    clock.now += 5
    running = (await site.get(f"/jobs/{job_id}/why")).json
    assert running["waited"] == waiting["waited"]
    site.engine.ended(f"{job_id}.1", 3)
    ended = (await site.get(f"/jobs/{job_id}/wait")).json
    told = (await site.get(f"/jobs/{job_id}/why")).json
    assert ended["state"] == "FAILED" and told["waited"] == waiting["waited"]
    assert (
        told["summary"].startswith("failed (exit 3): its command gave up after") and "retz get-file" in told["summary"]
    )


async def test_what_can_never_run_is_warned_of_and_refused_if_strict(site: Site) -> None:
    jobs = [{"command": "x", "attributes": "rack=r9"}, {"command": "y"}]
    answer = await site.ask("POST", "/api/v2/jobs", jobs=jobs)
    assert answer.status == 201
    (warning,) = answer.json["warnings"]
    assert warning == {"first": answer.json["ids"][0], "jobs": 1, "message": "needs rack=r9: no agent has it"}
    assert "warnings" not in (await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "y"}])).json
    strict = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "x", "attributes": "rack=r9", "strict": True}])
    assert (strict.status, strict.json["errors"][0]["field"]) == (422, "jobs[0].strict")


async def test_waiting_for_the_end(site: Site) -> None:
    job_id = await site.running()
    assert (await site.get(f"/jobs/{job_id}/wait?timeout_s=0.01")).json["state"] == "STARTED"
    waiting = asyncio.ensure_future(site.get(f"/jobs/{job_id}/wait"))
    await site.until(lambda: site.core.dispatcher.live._waiters)
    site.engine.ended(f"{job_id}.1")
    assert (await waiting).json["state"] == "FINISHED"
    assert (await site.get(f"/jobs/{job_id}/wait")).json["state"] == "FINISHED"


async def test_changing_a_queued_job(site: Site) -> None:
    job_id = await site.submit(resources={"cpus": 4}, held=True)
    job = (await site.ask("PATCH", f"/api/v2/jobs/{job_id}", priority=7)).json
    assert (job["priority"], job["held"]) == (7, True)
    job = (await site.ask("PATCH", f"/api/v2/jobs/{job_id}", held=False, priority=-7)).json
    assert (job["priority"], job["held"]) == (-7, False)
    await site.until(lambda: site.engine.launched)
    reply = await site.ask("PATCH", f"/api/v2/jobs/{job_id}", priority=1)
    assert (reply.status, reply.json["type"]) == (409, "urn:retz:conflict")


async def test_killing_a_job(site: Site) -> None:
    queued = await site.submit(held=True)
    reply = await site.ask("DELETE", f"/api/v2/jobs/{queued}")
    assert (reply.status, reply.json["state"], reply.json["reason"]) == (202, "KILLED", "user")
    running = await site.running()
    reply = await site.ask("DELETE", f"/api/v2/jobs/{running}")
    assert (reply.status, reply.json["state"]) == (202, "STARTED")
    assert reply.json["kill_requested"] is not None
    assert site.engine.killed == [f"{running}.1"]
    site.engine.ended(f"{running}.1", 143)
    assert (await site.get(f"/jobs/{running}")).json["state"] == "KILLED"
    again = await site.ask("DELETE", f"/api/v2/jobs/{queued}")
    assert (again.status, again.json["type"]) == (409, "urn:retz:conflict")


async def test_many_jobs_at_once(site: Site) -> None:
    ids = [await site.submit(tags=["group"], held=True) for _ in range(3)]
    released = (await site.ask("POST", "/api/v2/jobs/update", ids=ids, priority=4)).json
    assert (released["ok"], released["failed"]) == (3, 0)
    killed = (await site.ask("POST", "/api/v2/jobs/kill", filter={"tag": ["group"]})).json
    assert [(r["id"], r["ok"], r["state"]) for r in killed["results"]] == [(i, True, "KILLED") for i in ids]
    again = (await site.ask("POST", "/api/v2/jobs/kill", ids=[*ids, 99])).json
    assert (again["ok"], again["failed"]) == (0, 4)
    assert "ended already" in again["results"][0]["error"] and "no such job" in again["results"][3]["error"]


async def test_resubmitting(site: Site) -> None:
    job_id = await site.running("train", name="n", environment={"MY_TOKEN": "hidden"})
    site.engine.ended(f"{job_id}.1", 1)
    reply = await site.ask("POST", "/api/v2/jobs/resubmit", ids=[job_id], key="again")
    new_id = reply.json["results"][0]["new_id"]
    assert new_id > job_id
    job = (await site.get(f"/jobs/{new_id}")).json
    assert (job["name"], job["environment"]) == ("n", {"MY_TOKEN": "<masked>"})
    assert site.core.visible(ANN, new_id).environment == {"MY_TOKEN": "hidden"}
    reply = await site.ask("POST", "/api/v2/jobs/resubmit", ids=[job_id], key="again")
    assert reply.json["results"][0]["new_id"] == new_id
    by_filter = await site.ask("POST", "/api/v2/jobs/resubmit", filter={"name": "n"})
    assert [result["id"] for result in by_filter.json["results"]] == [job_id]


async def test_applications(site: Site) -> None:
    reply = await site.ask("PUT", "/api/v2/applications/my-app", grace_period_s=2.5, enabled=False)
    assert (reply.status, reply.json["name"], reply.json["grace_period_s"]) == (200, "my-app", 2.5)
    assert reply.json["container"] == {"type": "none", "image": None, "volumes": []}
    assert (await site.get("/applications/my-app")).json == reply.json
    names = [record["name"] for record in (await site.get("/applications")).json["applications"]]
    assert names == ["default", "my-app"]
    refused = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "application": "my-app"}])
    assert (refused.status, "disabled" in refused.json["detail"]) == (422, True)
    assert (await site.ask("PUT", "/api/v2/applications/my-app", body=b"{}")).json["enabled"] is True
    job_id = await site.submit(application="my-app", held=True)
    assert (await site.ask("DELETE", "/api/v2/applications/my-app")).status == 409
    await site.ask("DELETE", f"/api/v2/jobs/{job_id}")
    gone = await site.ask("DELETE", "/api/v2/applications/my-app")
    assert (gone.status, gone.body) == (204, b"")
    assert (await site.get("/applications/my-app")).status == 404
    assert (await site.get("/applications/default")).status == 200


async def test_status(site: Site) -> None:
    await site.running()
    await site.submit(held=True)
    await site.submit(resources={"cpus": 4})
    status = (await site.get("/status")).json
    assert (status["queued"], status["held"], status["starting"], status["started"]) == (2, 1, 0, 1)
    assert (status["engine"], status["mode"], status["agents"], status["planner"]) == ("puppet", "open", 1, "fair")
    assert status["user"] == {"key": "ann", "admin": False, "info": ""}
    assert status["limits"]["largest_agent"]["cpus"] == 4.0 and len(status["same_host_token"]) == 32
    assert status["used"]["cpus"] == 1.0 and status["seq"] > 0


async def test_the_history_holds_what_others_used_back(site: Site) -> None:
    from retz.model.resources import Resources
    from retz.store.aggregates import AggregatePoint

    minute = int(time.time()) // 60 * 60 - 60
    amounts = {"ann": Resources(cpus=1), "bob": Resources(cpus=2)}
    site.core.aggregates.append(AggregatePoint(time=minute, queued=3.0, running=2.0, by_user=amounts))
    (point,) = (await site.get("/aggregates")).json["points"]
    assert (point["queued"], list(point["by_user"])) == (3.0, ["ann"])
    (point,) = (await site.get("/aggregates", ROOT)).json["points"]
    assert list(point["by_user"]) == ["ann", "bob"]
    assert (await site.get("/aggregates?since=2020-01-01&until=2020-01-02")).json["points"] == []
    assert (await site.get("/aggregates?since=2020-01-01")).status == 400
