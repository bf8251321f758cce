"""Jobs that wait for jobs or a time, groups that fail too often, over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from .http_site import ANN, BOB, Reply, Site, running_site

pytestmark = pytest.mark.anyio


async def submit(site: Site, *jobs: dict[str, Any], user: Any = ANN) -> Reply:
    return await site.ask("POST", "/api/v2/jobs", user, jobs=[{"command": "true", **job} for job in jobs])


async def state(site: Site, job_id: int) -> tuple[str, str | None]:
    job = (await site.get(f"/jobs/{job_id}")).json
    return job["state"], job["reason"]


def launched(site: Site) -> list[str]:
    return [task.id for task in site.engine.launched]


async def test_a_job_waits_until_the_other_has_ended_well(site: Site) -> None:
    first = await site.running()
    second = await site.submit(after=[first])
    shown = (await site.get(f"/jobs/{second}")).json
    assert (shown["state"], shown["why"], shown["after"]) == ("QUEUED", f"waits for job {first}", [str(first)])
    why = (await site.get(f"/jobs/{second}/why")).json
    assert (why["blocked_by"], why["summary"]) == ("dependency", f"waits for job {first}")
    assert launched(site) == [f"{first}.1"]
    site.engine.ended(f"{first}.1")
    await site.until(lambda: launched(site) == [f"{first}.1", f"{second}.1"])


@pytest.mark.parametrize("word", ["", ":ok"])
async def test_what_waited_for_a_failure_never_starts_nor_does_what_waited_for_that(site: Site, word: str) -> None:
    first = await site.running()
    second = await site.submit(after=[f"{first}{word}"])
    third = await site.submit(after=[str(second)])
    whatever = await site.submit(after=[f"{second}:any", f"{first}:any"])
    site.engine.ended(f"{first}.1", 3)
    assert await state(site, second) == ("FAILED", "dependency")
    assert await state(site, third) == ("FAILED", "dependency")
    assert f"job {first}" in (await site.get(f"/jobs/{second}")).json["message"]
    assert (await site.get(f"/jobs/{second}")).json["attempts"] == []
    await site.until(lambda: launched(site) == [f"{first}.1", f"{whatever}.1"])


async def test_a_kill_of_the_awaited_job_is_no_good_end(site: Site) -> None:
    first = await site.submit(held=True)
    second = await site.submit(after=[first], held=True)
    third = await site.submit(after=[second])
    await site.ask("DELETE", f"/api/v2/jobs/{first}")
    assert await state(site, second) == ("FAILED", "dependency")
    assert await state(site, third) == ("FAILED", "dependency")


async def test_who_waits_for_something_ended_need_not_wait(site: Site) -> None:
    good, bad = await site.running(), await site.running()
    site.engine.ended(f"{good}.1")
    site.engine.ended(f"{bad}.1", 1)
    ready = await site.submit(after=[good, f"{bad}:any"])
    doomed = await site.submit(after=[good, bad])
    assert await state(site, doomed) == ("FAILED", "dependency")
    await site.until(lambda: f"{ready}.1" in launched(site))


async def test_a_held_job_is_not_started_by_the_end_it_waited_for(site: Site) -> None:
    first = await site.running()
    second = await site.submit(after=[first], held=True)
    await site.ask("PATCH", f"/api/v2/jobs/{second}", held=False)
    await site.ask("PATCH", f"/api/v2/jobs/{second}", held=True)
    site.engine.ended(f"{first}.1")
    assert "retz release" in (await site.get(f"/jobs/{second}")).json["why"]
    await site.ask("PATCH", f"/api/v2/jobs/{second}", held=False)
    await site.until(lambda: f"{second}.1" in launched(site))


async def test_strangers_jobs_and_missing_ones_are_refused_alike(site: Site) -> None:
    hers = await site.submit(user=BOB)
    missing = hers + 1000
    answers = [await submit(site, {"after": [job_id]}) for job_id in (hers, missing)]
    texts = {
        reply.body.replace(str(job_id).encode(), b"N") for reply, job_id in zip(answers, (hers, missing), strict=True)
    }
    assert [reply.status for reply in answers] == [422, 422]
    assert len(texts) == 1
    assert "no such job" in answers[0].json["detail"]


async def test_jobs_of_one_request_name_each_other_by_place(site: Site) -> None:
    reply = await submit(site, {"held": True}, {"after": ["#0"]}, {"after": ["#0:any", "#1"]})
    first, second, third = reply.json["ids"]
    assert (await site.get(f"/jobs/{third}")).json["after"] == [str(second), f"{first}:any"]
    await site.ask("DELETE", f"/api/v2/jobs/{first}")
    assert [await state(site, job_id) for job_id in (second, third)] == [("FAILED", "dependency")] * 2


@pytest.mark.parametrize("text", ["#0", "#1", "#7"])
async def test_circles_are_refused(site: Site, text: str) -> None:
    reply = await submit(site, {"after": [text]}, {"after": ["#0"]})
    assert reply.status == 422
    assert reply.json["errors"][0]["field"] == "jobs[0].after[0]"
    assert (await site.get("/jobs")).json["total"] == 0


@pytest.mark.parametrize("text", ["", "x", "-1", "1:bad", "#", "1,2", "0"])
async def test_what_names_no_job_is_refused(site: Site, text: str) -> None:
    assert (await submit(site, {"after": [text]})).status == 422


async def test_many_in_one_request(site: Site) -> None:
    reply = await submit(site, {"held": True}, *[{"after": ["#0"]}] * 450)
    ids = reply.json["ids"]
    await site.ask("DELETE", f"/api/v2/jobs/{ids[0]}")
    await site.until(lambda: len(site.core.db.jobs.ids("state", "FAILED")) == 450)
    await submit(site, *[{"after": [ids[0]]}] * 450)
    await site.until(lambda: len(site.core.db.jobs.ids("state", "FAILED")) == 900)
    assert launched(site) == []


async def test_many_are_freed_by_one_end(site: Site) -> None:
    first = await site.running()
    await submit(site, *[{"after": [first], "resources": {"cpus": 1, "mem": 1}}] * 450)
    assert len(site.core.scheduler) == 0
    site.engine.ended(f"{first}.1")
    await site.until(lambda: len(site.core.scheduler) == 450 - 4)


async def test_not_before_its_time(site: Site) -> None:
    later = await site.submit(start_at=time.time() + 3600)
    soon = await site.submit(start_at=time.time() + 0.05)
    past = await site.submit(start_at="2001-01-01T00:00:00Z")
    why = (await site.get(f"/jobs/{later}/why")).json
    assert (why["blocked_by"], why["summary"]) == (
        "time",
        f"not before {(await site.get(f'/jobs/{later}')).json['start_at']}",
    )
    await site.until(lambda: sorted(launched(site)) == [f"{soon}.1", f"{past}.1"])
    await site.ask("DELETE", f"/api/v2/jobs/{later}")
    assert await state(site, later) == ("KILLED", "user")


@pytest.mark.parametrize("value", ["tomorrow", "", "2026-13-01", 1e300])
async def test_no_time(site: Site, value: Any) -> None:
    assert (await submit(site, {"start_at": value})).status == 422


async def test_a_lost_job_of_a_group_that_was_given_up_is_not_tried_again(site: Site) -> None:
    bad, lost, good = [await site.running(group="g", max_fails=1) for _ in range(3)]
    site.engine.ended(f"{bad}.1", 1)
    site.engine.lost(f"{lost}.1")
    job = (await site.get(f"/jobs/{lost}")).json
    assert (job["state"], job["reason"], len(job["attempts"])) == ("KILLED", "max_fails", 1)
    site.engine.ended(f"{good}.1")
    assert site.core.counters.killed == 1
    assert await site.running(group="g") > good  # the group is over: a new one may have its name


async def test_a_group_that_fails_too_often_is_ended(site: Site) -> None:
    runs = [await site.running(group="g", max_fails=2) for _ in range(3)]
    rest = (await submit(site, *[{"group": "g", "max_fails": 2, "held": True}] * 250)).json["ids"]
    stranger = await site.submit(group="g", held=True, user=BOB)
    site.engine.ended(f"{runs[0]}.1", 1)
    assert await state(site, rest[0]) == ("QUEUED", None)
    site.engine.ended(f"{runs[1]}.1", 1)
    await site.until(lambda: len(site.core.db.jobs.ids("state", "KILLED")) == 250)
    assert await state(site, rest[-1]) == ("KILLED", "max_fails")
    assert "2 jobs of group g failed" in (await site.get(f"/jobs/{rest[-1]}")).json["message"]
    assert await state(site, runs[2]) == ("STARTED", None)
    assert (await site.get(f"/jobs/{stranger}", BOB)).json["state"] == "QUEUED"
    assert (await submit(site, {"group": "g"})).status == 409
    site.engine.ended(f"{runs[2]}.1")
    fresh = await site.submit(group="g", max_fails=1)
    await site.until(lambda: f"{fresh}.1" in launched(site))
    assert site.core.db.meta.record("group ann/g") is None


async def test_a_bound_that_is_reached_already_is_refused(site: Site) -> None:
    first = await site.running(group="g", max_fails=3)
    await site.running(group="g", max_fails=3)
    site.engine.ended(f"{first}.1", 1)
    refused = await submit(site, {"group": "g", "max_fails": 1})
    assert refused.status == 409 and "max-fails" in refused.json["detail"]
    assert (await submit(site, {"group": "g", "max_fails": 2, "held": True})).status == 201


async def test_a_restart_remembers_what_waits(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        first = await site.running(group="g", max_fails=2)
        bad = await site.running(group="g", max_fails=2)
        second = await site.submit(after=[first])
        third = await site.submit(after=[bad], start_at=time.time() + 3600)
        fourth = await site.submit(group="g", held=True)
        site.engine.ended(f"{bad}.1", 1)
        assert await state(site, third) == ("FAILED", "dependency")
    async with running_site(tmp_path) as site:
        assert (await site.get(f"/jobs/{second}")).json["why"] == f"waits for job {first}"
        site.engine.ended(f"{first}.1", 1)
        assert await state(site, second) == ("FAILED", "dependency")
        assert await state(site, fourth) == ("KILLED", "max_fails")


async def test_max_fails_needs_something_to_count(site: Site) -> None:
    assert (await submit(site, {"max_fails": 3})).status == 422
    assert (await submit(site, {"max_fails": 3, "group": "g", "array": "1-3"})).status == 422


async def test_a_plan_of_what_would_end_unstarted_says_so(site: Site) -> None:
    failed = await site.running()
    site.engine.ended(f"{failed}.1", 3)
    await site.core.settled()
    found = await plan(site, after=[failed])
    assert (found["start"], found["end"], found["where"], found["could"]) == (None, None, None, 1)
    assert found["note"] == f"it would never start: job {failed} did not end well; see 'retz why {failed}'"
    assert (await plan(site, after=[f"{failed}:any"]))["start"] is not None


async def plan(site: Site, **fields: Any) -> Any:
    reply = await site.ask("POST", "/api/v2/plan", job={"command": "true", **fields})
    assert reply.status == 200, reply
    return reply.json
