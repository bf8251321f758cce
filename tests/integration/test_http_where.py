"""Conditions in lists and bulk actions, by HTTP."""

from __future__ import annotations

import pytest

from .http_site import BOB, ROOT, Site

pytestmark = pytest.mark.anyio


async def listed(site: Site, query: str) -> list[int]:
    reply = await site.get(f"/jobs?sort=id&{query}")
    assert reply.status == 200, reply
    assert reply.json["total"] == len(reply.json["jobs"])
    return [job["id"] for job in reply.json["jobs"]]


async def test_lists(site: Site) -> None:
    small = await site.submit(name="small", resources={"cpus": 1, "mem": 64}, held=True)
    large = await site.submit(name="large", resources={"cpus": 3, "mem": 4000}, held=True, priority=5)
    assert await listed(site, "where=cpus>2") == [large]
    assert await listed(site, "where=!cpus>2") == [small]
    assert await listed(site, "where=mem<1g&where=name~SMALL") == [small]
    assert await listed(site, "where=priority=5&where=cpus<2") == []


async def test_ages_are_reckoned_from_now(site: Site) -> None:
    job = await site.submit(held=True)
    assert await listed(site, "where=wait<1h") == [job]
    assert await listed(site, "where=wait>1h") == []
    assert await listed(site, "where=run>=0") == []


async def test_ended_jobs_too(site: Site) -> None:
    job = await site.running(name="short")
    site.engine.ended(f"{job}.1", 3)
    await site.core.settled()
    assert await listed(site, "state=ENDED&where=exit=3") == [job]
    assert await listed(site, "state=ENDED&where=exit=4") == []


async def test_kill_by_condition(site: Site) -> None:
    small = await site.submit(resources={"cpus": 1}, held=True)
    large = await site.submit(resources={"cpus": 3}, held=True)
    foreign = await site.submit(user=BOB, resources={"cpus": 3}, held=True)
    reply = await site.ask("POST", "/api/v2/jobs/kill", filter={"where": ["cpus>=2"]})
    assert [(result["id"], result["ok"]) for result in reply.json["results"]] == [(large, True)]
    assert await listed(site, "") == [small]
    assert (await site.get(f"/jobs/{foreign}", BOB)).json["state"] == "QUEUED"


async def test_conditions_do_not_see_further_than_their_user(site: Site) -> None:
    await site.submit(user=BOB, held=True)
    assert await listed(site, "where=user=bob") == []
    assert (await site.get("/jobs?user=*&where=user=bob", ROOT)).json["total"] == 1


async def test_refusals_name_the_parameter(site: Site) -> None:
    for query, field in (("where=cpus", "where"), ("where=cpus>x", "where"), ("where=", "where")):
        reply = await site.get(f"/jobs?{query}")
        assert (reply.status, reply.json["errors"][0]["field"]) == (400, field)
    many = "&".join(f"where=cpus>{number}" for number in range(33))
    assert (await site.get(f"/jobs?{many}")).status == 400
    reply = await site.ask("POST", "/api/v2/jobs/kill", filter={"where": ["nothing"]})
    assert (reply.status, reply.json["errors"][0]["field"]) == (400, "filter.where")
