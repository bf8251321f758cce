"""Arrays over HTTP: one record until tasks start, and everything that can be done to the whole or to one task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retz.array_life import cut
from retz.lifecycle import Kill
from retz.model.agent import Agent
from retz.model.job import Job
from retz.model.resources import Resources
from retz.server.following import MOST
from retz.server.housekeeping import Housekeeping
from retz.store.database import Change, Ticket

from .http_site import BOB, ROOT, PuppetEngine, Reply, Site, running_site

pytestmark = pytest.mark.anyio
SMALL = {"cpus": 1, "mem": 1}


async def array(site: Site, text: str, **fields: Any) -> int:
    return await site.submit(array=text, resources=SMALL, **fields)


async def shown(site: Site, name: int | str) -> Any:
    reply = await site.get(f"/jobs/{name}")
    assert reply.status == 200, reply
    return reply.json


async def act(site: Site, action: str, *ids: int, **fields: Any) -> Reply:
    return await site.ask("POST", f"/api/v2/jobs/{action}", ids=list(ids), **fields)


def launched(site: Site) -> list[str]:
    return [task.id for task in site.engine.launched]


def running(site: Site) -> list[str]:
    return list(site.engine.held)


async def test_the_life_of_an_array(site: Site) -> None:
    whole = await array(site, "1-9:2", name="sweep", environment={"K": "v"})
    await site.until(lambda: len(launched(site)) == 4)
    assert launched(site) == [f"{whole + 1 + place}.1" for place in range(4)]
    variables = site.engine.launched[2].environment
    assert (variables["RETZ_ARRAY_ID"], variables["RETZ_ARRAY_INDEX"], variables["K"]) == (str(whole), "5", "v")
    assert variables["RETZ_JOB_ID"] == str(whole + 3)
    job = await shown(site, whole)
    assert job["state"] == "QUEUED"
    assert job["array"] == {
        "text": "1-9:2", "size": 5, "limit": None, "active": 4, "waiting": 1, "finished": 0, "failed": 0, "killed": 0,
    }  # fmt: skip
    assert job["why"].startswith("4 active, 1 waiting of 5; next: ")
    task = await shown(site, f"{whole}_5")
    assert (task["id"], task["array_id"], task["array_index"], task["name"]) == (whole + 3, whole, 5, "sweep")
    last = await shown(site, f"{whole}%5B9%5D")
    assert (last["id"], last["state"], last["attempts"]) == (whole + 5, "QUEUED", [])
    for task_id in launched(site):
        site.engine.ended(task_id)
    await site.until(lambda: len(launched(site)) == 5)
    site.engine.ended(f"{whole + 5}.1")
    ended = await shown(site, whole)
    assert (ended["state"], ended["reason"], ended["array"]["finished"]) == ("FINISHED", None, 5)
    assert await site.submit() > whole + 5


async def test_a_failure_of_one_is_a_failure_of_the_whole_at_the_end(site: Site) -> None:
    whole = await array(site, "0-2")
    waiting = await site.submit(after=[whole])
    await site.until(lambda: len(launched(site)) == 3)
    site.engine.ended(f"{whole + 1}.1", 7)
    site.engine.ended(f"{whole + 2}.1")
    assert (await shown(site, whole))["state"] == "STARTED"
    site.engine.ended(f"{whole + 3}.1")
    job = await shown(site, whole)
    assert (job["state"], job["reason"], job["message"]) == ("FAILED", "tasks", "of 3 tasks: 1 failed")
    assert (await shown(site, waiting))["reason"] == "dependency"


async def test_an_array_is_queued_while_some_of_it_waits_and_started_from_then_on(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        whole = await array(site, "1-6")
        await site.until(lambda: len(launched(site)) == 4)
        assert await found(site, "state=QUEUED") == [whole]
        assert (await site.get("/status")).json["queued"] == 1
        for task in launched(site)[:2]:
            site.engine.ended(task)
        await site.until(lambda: len(launched(site)) == 6)
        await check_all_started(site, whole)
    async with running_site(tmp_path) as site:
        await check_all_started(site, whole)
        await act(site, "kill", whole)
        for number in (3, 4, 5, 6):
            site.engine.ended(f"{whole + number}.1")
        assert (await shown(site, whole))["state"] == "KILLED"
        assert (await site.get("/status")).json["started"] == 0


async def check_all_started(site: Site, whole: int) -> None:
    job = await shown(site, whole)
    assert (job["state"], job["why"]) == ("STARTED", "4 active, 2 finished of 6")
    assert (await site.get(f"/jobs/{whole}/why")).json["state"] == "STARTED"
    assert await found(site, "state=QUEUED") == []
    for query in ("state=STARTED", "state=LIVE&where=state=STARTED"):
        assert whole in await found(site, query), query
    status = (await site.get("/status")).json
    # Its four tasks, of which the engine said nothing yet: no other job runs.
    assert (status["queued"], status["starting"], status["started"]) == (0, 4, 0)


async def found(site: Site, query: str) -> list[int]:
    return [job["id"] for job in (await site.get(f"/jobs?{query}")).json["jobs"]]


async def test_no_more_than_the_limit_at_a_time(site: Site) -> None:
    whole = await array(site, "1-100%2")
    await site.until(lambda: len(launched(site)) == 2)
    why = (await site.get(f"/jobs/{whole}/why")).json
    assert (why["id"], why["blocked_by"]) == (whole, "array")
    assert why["summary"] == "2 active, 98 waiting of 100; next: at most 2 at a time"
    assert (await shown(site, whole))["why"] == why["summary"]
    why = (await site.get(f"/jobs/{whole}_9/why")).json
    assert (why["blocked_by"], why["summary"]) == ("array", "of its array at most 2 at a time")
    for number in range(1, 21):
        assert len(running(site)) == 2
        site.engine.ended(running(site)[0])
        await site.until(lambda number=number: len(launched(site)) == 2 + number)
    assert len(set(launched(site))) == 22


async def test_a_task_waits_for_what_its_array_waits_for(site: Site) -> None:
    first = await site.running()
    whole = await array(site, "1-10%1", after=[first])
    why = (await site.get(f"/jobs/{whole}_9/why")).json
    assert (why["blocked_by"], why["summary"]) == ("dependency", f"waits for job {first}")
    await act(site, "hold", whole)
    assert (await site.get(f"/jobs/{whole}_9/why")).json["blocked_by"] == "held"


async def test_a_lost_task_is_tried_again(site: Site) -> None:
    whole = await array(site, "1-10%1")
    await site.until(lambda: launched(site) == [f"{whole + 1}.1"])
    site.engine.lost(f"{whole + 1}.1")
    await site.until(lambda: launched(site) == [f"{whole + 1}.1", f"{whole + 1}.2"])
    assert (await shown(site, whole))["array"]["active"] == 1


async def test_a_million_tasks_are_one_record_and_gone_at_once(site: Site) -> None:
    changes = site.core.db.seq
    whole = await array(site, "1-1000000")
    await site.until(lambda: len(launched(site)) == 4)
    # The array and what says that its ids are taken; then the array again and four tasks.
    assert site.core.db.seq - changes == 2 + 5
    assert len(site.core.scheduler) <= 512
    assert await site.submit(held=True) == whole + 1_000_001
    changes = site.core.db.seq
    assert (await act(site, "kill", whole)).json["ok"] == 1
    assert site.core.db.seq - changes == 1 + 4
    assert sorted(site.engine.killed) == sorted(launched(site))
    assert len(site.core.scheduler) == 0
    for task in launched(site):
        assert (await shown(site, whole))["state"] == "STARTED"
        site.engine.ended(task, 143)
    job = await shown(site, whole)
    assert (job["state"], job["reason"], job["array"]["killed"]) == ("KILLED", "user", 1_000_000)


MANY = 3 * MOST


def wide_engine() -> PuppetEngine:
    return PuppetEngine([Agent(id="a1", host="host1", total=Resources(MANY, MANY))])


async def test_killing_many_that_run_is_done_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_site(tmp_path, engine=wide_engine()) as site:
        whole = await array(site, f"1-{2 * MANY}")
        await site.until(lambda: len(launched(site)) == MANY)
        apply, steps = site.core.db.apply, []

        def counted(changes: Sequence[Change]) -> Ticket:
            steps.append(len(changes))
            return apply(changes)

        monkeypatch.setattr(site.core.db, "apply", counted)
        assert (await act(site, "kill", whole)).json["ok"] == 1
        await site.until(lambda: len(site.engine.killed) == MANY)
        assert sorted(site.engine.killed) == sorted(launched(site))
        assert max(steps) <= MOST + 1
        assert sum(steps) == MANY + 1


async def test_a_kill_goes_on_after_a_crash(tmp_path: Path) -> None:
    async with running_site(tmp_path, engine=wide_engine()) as site:
        whole = await array(site, f"1-{2 * MANY}")
        await site.until(lambda: len(launched(site)) == MANY)
        record = site.core.db.jobs.record(whole)
        assert record is not None
        await site.core.db.apply([Change("jobs", whole, cut(record, Kill(1.0, "enough")))])
    async with running_site(tmp_path, engine=wide_engine()) as site:
        await site.until(lambda: len(site.engine.killed) == MANY)
        assert (await shown(site, whole + 7))["message"] == "enough"
        assert launched(site) == []


async def test_a_lost_task_of_an_array_that_was_given_up_is_not_tried_again(site: Site) -> None:
    whole = await array(site, "1-10", max_fails=1)
    await site.until(lambda: len(launched(site)) == 4)
    site.engine.ended(f"{whole + 1}.1", 1)
    site.engine.lost(f"{whole + 2}.1")
    task = await shown(site, whole + 2)
    assert (task["state"], task["reason"], len(task["attempts"])) == ("KILLED", "max_fails", 1)
    for number in (3, 4):
        site.engine.ended(f"{whole + number}.1")
    job = await shown(site, whole)
    assert (job["state"], job["array"]["active"], job["array"]["killed"]) == ("FAILED", 0, 7)
    assert len(launched(site)) == 4
    assert len(site.core.scheduler) == 0


async def test_one_that_never_started_is_killed_at_once(site: Site) -> None:
    whole = await array(site, "1-1000000", held=True)
    assert (await site.get(f"/jobs/{whole}")).json["why"].endswith(f"held: retz release {whole}")
    reply = await site.ask("DELETE", f"/api/v2/jobs/{whole}")
    assert reply.json["state"] == "KILLED"
    assert (await site.get("/jobs")).json["total"] == 0


async def test_hold_release_and_priority_of_the_whole(site: Site) -> None:
    whole = await array(site, "1-100%3")
    await site.until(lambda: len(launched(site)) == 3)
    await act(site, "hold", whole)
    site.engine.lost(f"{whole + 1}.1")
    site.engine.ended(f"{whole + 2}.1")
    await site.core.settled()
    assert len(site.core.scheduler) == 0
    await act(site, "update", whole, priority=-4)
    assert (await shown(site, whole))["priority"] == -4
    await act(site, "release", whole)
    await site.until(lambda: len(launched(site)) == 5)
    assert sorted(launched(site)[3:]) == [f"{whole + 1}.2", f"{whole + 4}.1"]
    assert (await shown(site, whole + 4))["priority"] == -4


async def test_a_single_task_far_ahead_is_killed_and_held(site: Site) -> None:
    whole = await array(site, "0-7", max_fails=5)
    await site.until(lambda: len(launched(site)) == 4)
    assert (await act(site, "kill", whole + 1 + 6)).json["ok"] == 1
    assert (await act(site, "hold", whole + 1 + 4)).json["ok"] == 1
    killed = await shown(site, f"{whole}_6")
    assert (killed["state"], killed["reason"]) == ("KILLED", "user")
    for task in launched(site):
        site.engine.ended(task)
    await site.until(lambda: len(launched(site)) == 6)
    assert launched(site)[4:] == [f"{whole + 1 + 5}.1", f"{whole + 1 + 7}.1"]
    for task in launched(site)[4:]:
        site.engine.ended(task)
    assert (await shown(site, whole))["array"]["active"] == 1
    await act(site, "release", whole + 1 + 4)
    await site.until(lambda: len(launched(site)) == 7)
    site.engine.ended(launched(site)[-1])
    job = await shown(site, whole)
    assert (job["state"], job["message"]) == ("KILLED", "of 8 tasks: 1 killed")


async def test_after_so_many_failures_nothing_more_is_started(site: Site) -> None:
    whole = await array(site, "1-1000", max_fails=2)
    await site.until(lambda: len(launched(site)) == 4)
    site.engine.ended(f"{whole + 1}.1", 1)
    await site.until(lambda: len(launched(site)) == 5)
    site.engine.ended(f"{whole + 2}.1", 1)
    await site.core.settled()
    for task in running(site):
        site.engine.ended(task)
    job = await shown(site, whole)
    assert len(launched(site)) == 5
    assert (job["state"], job["reason"], job["array"]["killed"]) == ("FAILED", "max_fails", 995)
    assert "2 tasks of array" in job["message"] and "no more were started" in job["message"]
    reply = await site.get(f"/jobs/{whole}/file")
    assert (reply.status, reply.json["detail"]) == (
        404, f"job {whole} is an array: its tasks have the files, 'retz get-file {whole}_1'"
    )  # fmt: skip


async def test_an_array_waits_as_a_job_does(site: Site) -> None:
    first = await site.submit(held=True)
    whole = await array(site, "1-5", after=[first])
    later = await array(site, "1-5", start_at=time.time() + 3600)
    assert (await shown(site, whole))["why"] == f"waits for job {first}"
    assert (await shown(site, later))["why"].startswith("not before")
    await act(site, "kill", first)
    job = await shown(site, whole)
    assert (job["state"], job["reason"], launched(site)) == ("FAILED", "dependency", [])


async def test_a_task_is_no_job_to_wait_for(site: Site) -> None:
    whole = await array(site, "1-5", held=True)
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "after": [whole + 2]}])
    assert reply.status == 422
    assert f"array {whole}" in reply.json["detail"]


async def test_last_is_the_array_and_not_the_task_that_started_last(site: Site) -> None:
    whole = await array(site, "1-3")
    await site.until(lambda: len(launched(site)) == 3)
    assert (await site.get("/jobs/last")).json["id"] == whole
    site.engine.ended(f"{whole + 3}.1")
    await site.until(lambda: len(running(site)) == 2)
    assert (await site.get("/jobs/last")).json["id"] == whole


async def test_what_waits_in_an_array_hides_nothing_that_is_held(site: Site) -> None:
    await array(site, "1-1000")
    (first,) = (await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "held": True}])).json["ids"]
    await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "after": [first]}])
    status = (await site.get("/status")).json
    assert (status["queued"], status["held"]) == (3, 1)
    assert (await act(site, "release", first)).json["ok"] == 1
    assert (await site.get("/status")).json["held"] == 0
    assert (await act(site, "hold", first)).json["ok"] == 1
    assert (await act(site, "kill", first)).json["ok"] == 1
    assert (await site.get("/status")).json["held"] == 0


async def test_nobody_else_sees_it(site: Site) -> None:
    whole = await array(site, "1-5", held=True)
    for name in (whole, whole + 1, f"{whole}_1", f"{whole}_1000"):
        reply = await site.get(f"/jobs/{name}", BOB)
        assert reply.status == 404
    assert (await site.get(f"/jobs/{whole}_6")).status == 404


async def test_a_repetition_gives_the_same_ids(site: Site) -> None:
    jobs = [{"command": "true", "array": "1-3", "held": True}, {"command": "true", "held": True}]
    answers = [(await site.ask("POST", "/api/v2/jobs", key="k", jobs=jobs)).json for _ in range(2)]
    assert answers[0]["ids"] == answers[1]["ids"] == [1, 5]
    assert answers[1]["replayed"]
    again = (await act(site, "resubmit", 1)).json["results"][0]["new_id"]
    assert (await shown(site, again))["array"]["text"] == "1-3"


async def test_resubmitting_one_task_makes_a_job_that_knows_its_index(site: Site) -> None:
    whole = await array(site, "1-3")
    await site.until(lambda: len(launched(site)) == 3)
    again = (await act(site, "resubmit", whole + 2)).json["results"][0]["new_id"]
    await site.until(lambda: f"{again}.1" in launched(site))
    assert site.engine.launched[-1].environment["RETZ_ARRAY_INDEX"] == "2"
    assert (await shown(site, again))["array_id"] is None


@pytest.mark.parametrize(
    "text", ["", "5", "1-", "3-1", "1-3:0", "1-3%0", "1-3%1%2", "1-1000001", "-1-3", "1-9999999999"]
)
async def test_what_is_no_array_is_refused(site: Site, text: str) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "array": text}])
    assert reply.status in (400, 422)
    assert "array" in reply.json["errors"][0]["field"]


async def test_tasks_and_arrays_are_archived(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        whole = await array(site, "1-4")
        await site.until(lambda: len(launched(site)) == 4)
        for task in launched(site)[:3]:
            site.engine.ended(task)
        keeper = Housekeeping(site.core)
        assert await keeper.archive_ended() == 3
    async with running_site(tmp_path) as site:
        assert (await shown(site, f"{whole}_1"))["state"] == "FINISHED"
        assert (await shown(site, whole))["array"]["finished"] == 3
        site.engine.ended(f"{whole + 4}.1")
        assert await Housekeeping(site.core).archive_ended() == 2
        assert isinstance(site.core.archive.get(whole), Job)
        assert (await shown(site, whole))["state"] == "FINISHED"
        assert (await shown(site, f"{whole}_4"))["state"] == "FINISHED"


async def test_ids_of_tasks_are_never_given_again(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        whole = await array(site, "1-50", held=True)
        await act(site, "kill", whole)
        await Housekeeping(site.core).archive_ended()
    async with running_site(tmp_path) as site:
        assert await site.submit() == whole + 51


async def test_an_array_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        whole = await array(site, "1-8%3")
        await site.until(lambda: len(launched(site)) == 3)
        site.engine.ended(f"{whole + 2}.1")
        await site.until(lambda: len(launched(site)) == 4)
    async with running_site(tmp_path) as site:
        for number in (1, 3, 4):
            site.engine.ended(f"{whole + number}.1")
        await site.until(lambda: len(launched(site)) == 3)
        assert launched(site) == [f"{whole + number}.1" for number in (5, 6, 7)]


async def test_lists_find_an_array_with_its_tasks_and_a_group(site: Site) -> None:
    whole = await array(site, "1-3")
    await site.until(lambda: len(launched(site)) == 3)
    grouped = await site.submit(group="g", held=True)
    for task in launched(site)[:2]:
        site.engine.ended(task)
    await Housekeeping(site.core).archive_ended()
    answer = (await site.get(f"/jobs?state=ALL&where=array={whole}&sort=id")).json
    assert [job["id"] for job in answer["jobs"]] == [whole, whole + 1, whole + 2, whole + 3]
    assert [job["id"] for job in (await site.get("/jobs?where=group=g")).json["jobs"]] == [grouped]
    assert [job["id"] for job in (await site.get("/jobs?where=group!=g")).json["jobs"]] == [whole + 3, whole]


async def test_usage_counts_tasks_and_not_the_array_beside_them(site: Site) -> None:
    await array(site, "1-3")
    await site.until(lambda: len(launched(site)) == 3)
    for task in launched(site):
        site.engine.ended(task)

    async def counted() -> list[tuple[str, int]]:
        await site.core.settled()
        rows = (await site.get("/usage?since=2001-01-01T00:00:00Z&user=*", ROOT)).json["rows"]
        return [(row["user"], row["finished"]) for row in rows]

    assert await counted() == [("ann", 3)]
    assert await Housekeeping(site.core).archive_ended() == 4
    assert await counted() == [("ann", 3)]
