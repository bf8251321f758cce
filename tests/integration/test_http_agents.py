"""The machines by HTTP: windows, filters, sorts, sums, what is used, and what strangers may know."""

from __future__ import annotations

from typing import Any

import pytest

from retz.model.agent import Agent, Gpu, GpuProcess
from retz.model.resources import Resources
from retz.server.http.views import time_of

from .http_site import BOB, ROOT, Site

pytestmark = pytest.mark.anyio


def machines(count: int) -> list[Agent]:
    return [
        Agent(
            id=f"id-{number}",
            host=f"n{number}",
            total=Resources(4 + number, 1024 * (count - number), 100, number % 2, 0),
            attributes={"rack": f"r{number % 3}", "ssd": True},
            gpus=(Gpu(f"GPU-{number}"),) if number % 2 else (),
            state="unreachable" if number == 11 else "active",
        )
        for number in range(count)
    ]


async def hosts(site: Site, query: str) -> list[str]:
    return [agent["host"] for agent in (await site.get(f"/agents?{query}")).json["agents"]]


@pytest.fixture
def many(site: Site) -> Site:
    site.engine._agents = machines(12)
    return site


async def test_without_parameters_all_come_in_the_engine_s_order(many: Site) -> None:
    assert [agent["host"] for agent in (await many.get("/agents")).json["agents"]] == [f"n{n}" for n in range(12)]


async def test_a_window_of_a_sorted_list(many: Site) -> None:
    assert await hosts(many, "sort=-host&limit=3") == ["n11", "n10", "n9"]
    assert await hosts(many, "sort=mem&offset=1&limit=2") == ["n10", "n9"]
    assert await hosts(many, "sort=state&limit=1&offset=11") == ["n11"]
    assert await hosts(many, "offset=12") == []


async def test_filters_and_the_sums_of_what_matches(many: Site) -> None:
    assert await hosts(many, "text=RACK=r1&sort=host") == ["n1", "n4", "n7", "n10"]
    assert await hosts(many, "text=ssd&gpus=false&limit=2") == ["n0", "n2"]
    assert await hosts(many, "id=id-7") == ["n7"]
    assert await hosts(many, "id=id-7,id-9,gone") == ["n7", "n9"]
    found = (await many.get("/agents?gpus=true&limit=1")).json
    assert (found["total"], found["sum"]["total"]["gpus"], found["sum"]["largest"]["cpus"]) == (6, 6, 15)
    assert found["sum"]["states"] == {"active": 5, "unreachable": 1}


async def test_what_others_hold_is_not_free(site: Site) -> None:
    total = Resources(8, 4096, 100, 2, 10)
    site.engine._agents = [
        Agent(id="a", host="n1", total=total, others=Resources(6, 1024, 0, 2), offered=Resources(2, 3072)),
        Agent(id="b", host="n2", total=total, state="draining"),
        Agent(id="c", host="n3", total=total, others=Resources(9, 1), state="deactivated"),
    ]
    found = (await site.get("/agents?sort=-cpus")).json
    assert [(agent["host"], agent["state"]) for agent in found["agents"]] == [
        ("n2", "draining"),
        ("n1", "active"),
        ("n3", "deactivated"),
    ]
    shared = found["agents"][1]
    assert shared["free"] == {"cpus": 2.0, "mem": 3072, "disk": 100, "gpus": 0, "ports": 10}
    assert (shared["used"]["cpus"], shared["others"]["cpus"], shared["offered"]["mem"]) == (0, 6.0, 3072)
    assert found["agents"][2]["free"]["cpus"] == 0, "while something changes sums may disagree: never below zero"
    assert (found["sum"]["others"]["gpus"], found["sum"]["offered"]["cpus"]) == (2, 2.0)


async def test_a_job_waits_for_what_others_hold(site: Site) -> None:
    total = Resources(8, 4096)
    site.engine._agents = [Agent(id="a", host="n1", total=total, others=Resources(6, 1024))]
    (machine,) = site.core.machines()
    assert machine.free[:2] == (2000, 3072)


@pytest.mark.parametrize("query", ["sort=colour", "limit=0", "limit=1001", "offset=-1", "gpus=maybe", "nonsense=1"])
async def test_bad_parameters_are_refused(site: Site, query: str) -> None:
    assert (await site.get(f"/agents?{query}")).status == 400


async def test_what_jobs_use_is_told_when_asked_for(site: Site) -> None:
    (before,) = (await site.get("/agents?usage=true")).json["agents"]
    await site.running(resources={"cpus": 2})
    await site.running(resources={"cpus": 1})
    (after,) = (await site.get("/agents?usage=true")).json["agents"]
    (unasked,) = (await site.get("/agents")).json["agents"]
    assert (before["measured"], before["jobs"]) == ({"cpus": 0, "mem": 0}, 0)
    assert (after["measured"], after["jobs"]) == ({"cpus": 3.0, "mem": 40.0}, 2)
    assert unasked["measured"] is None


async def test_an_engine_that_measures_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(tasks: Any) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(site.engine, "usage", nothing)
    await site.running()
    (agent,) = (await site.get("/agents?usage=true")).json["agents"]
    assert agent["measured"] is None


async def test_gpus_say_whether_they_are_held_and_who_else_is_there(site: Site) -> None:
    gpu = Gpu("GPU-1", util=0.0, idle_since=1.5, strangers=(GpuProcess(77, "jupyter", 12),), note="why")
    site.engine._agents = [Agent(id="a1", host="h", total=Resources(4, 4096, 10, 1, 0), gpus=(gpu,))]
    (free,) = (await site.get("/agents")).json["agents"][0]["gpus"]
    await site.running(resources={"gpus": 1})
    (bob,) = (await site.get("/agents", BOB)).json["agents"][0]["gpus"]
    (root,) = (await site.get("/agents", ROOT)).json["agents"][0]["gpus"]
    assert (free["held"], free["note"], free["idle_since"]) == (False, "why", "1970-01-01T00:00:01.500Z")
    assert (bob["held"], bob["job"], bob["strangers"]) == (True, None, [{"pid": 77, "name": "", "mem_mb": 12}])
    assert (root["job"], root["strangers"][0]["name"]) == (1, "jupyter")


async def test_jobs_of_one_agent(site: Site) -> None:
    job_id = await site.running()
    await site.submit(resources={"cpus": 4})
    job = site.core.find(job_id)
    assert job is not None and job.started is not None
    # A little later: times in answers are cut to whole milliseconds.
    for at in ("", f"&at={time_of(job.started + 0.001)}"):
        found = (await site.get(f"/jobs?agent=a1{at}")).json["jobs"]
        assert [job["id"] for job in found] == [job_id]
        assert (await site.get(f"/jobs?agent=host1{at}")).json["jobs"] == found, "the host's name will do"
        assert (await site.get(f"/jobs?agent=elsewhere{at}")).json["jobs"] == []
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    assert (await site.get("/jobs?agent=a1&state=ENDED")).json["total"] == 1
