"""Starts and ends over HTTP: from the queue's snapshot through the worker process to the answer."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from retz.model.agent import Agent
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler.forecast import Foreseen, Moment
from retz.server.forecasting import forecasts as forecasts_module
from retz.server.forecasting import gathering
from retz.server.forecasting.gathering import gather
from retz.server.forecasting.recent import MOST, PER_MINUTE, Recent
from retz.server.learning.past import Past

from .http_site import ANN, BOB, ROOT, PuppetEngine, Site, running_site

pytestmark = pytest.mark.anyio

HOUR: dict[str, Any] = {"timeout_s": 3600.0, "resources": {"cpus": 4.0, "mem": 100}}


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forecast is renewed with every change."""
    monkeypatch.setattr(forecasts_module, "PAUSE_S", 0.0)
    monkeypatch.setattr(forecasts_module, "DUTY", 0)


def after(text: str) -> float:
    """Seconds from now to a time of an answer."""
    return datetime.fromisoformat(text).timestamp() - time.time()


async def eta(site: Site, job_id: int, user: Any = ANN) -> Any:
    reply = await site.get(f"/jobs/{job_id}/eta", user)
    assert reply.status == 200, reply
    return reply.json


async def test_one_runs_one_waits_for_it(site: Site) -> None:
    runs = await site.running(name="first", **HOUR)
    waits = await site.submit(name="second", **HOUR)
    first, second = await eta(site, runs), await eta(site, waits)
    assert (first["state"], first["start"], first["source"], first["name"]) == ("STARTED", None, "limit", "first")
    assert 3500 < after(first["end"]["p50"]) < 3700
    assert second["state"] == "QUEUED"
    assert second["start"]["p50"] <= second["start"]["p90"]
    assert after(second["start"]["p50"]) > 3500 and after(second["start"]["p90"]) < 3700
    assert 7100 < after(second["end"]["p50"]) < 7300
    assert second["note"] is None and second["age_s"] >= 0
    listed = (await site.get("/eta")).json
    assert [each["id"] for each in listed["etas"]] == [runs, waits]
    assert listed["trouble"] is None
    assert len((await site.get(f"/eta?ids={waits}")).json["etas"]) == 1
    assert len((await site.get("/eta?limit=1")).json["etas"]) == 1


async def test_what_has_no_answer_says_why(site: Site) -> None:
    held = await site.submit(held=True)
    behind = await site.submit(after=[held])
    runs = await site.running()
    site.engine.ended(f"{runs}.1")
    await site.core.settled()
    assert "release" in (await eta(site, held))["note"]
    assert "cannot be foreseen" in (await eta(site, behind))["note"]
    assert "ended" in (await eta(site, runs))["note"]
    reply = await site.ask("PUT", "/api/v2/queue", ROOT, mode="paused")
    assert reply.status == 200
    waits = await site.submit()
    found = await eta(site, waits)
    assert "opens the queue" in found["note"] and found["start"] is None


async def test_nobody_asks_after_jobs_of_others(site: Site) -> None:
    bobs = await site.submit(user=BOB, name="secret")
    own = await site.submit()
    for path in (f"/jobs/{bobs}/eta", f"/eta?ids={bobs}", f"/eta?ids={own},{bobs}", "/jobs/999/eta"):
        reply = await site.get(path)
        assert reply.status == 404
        assert b"secret" not in reply.body
    assert [each["id"] for each in (await site.get("/eta")).json["etas"]] == [own]
    assert (await site.get(f"/jobs/{bobs}/eta", ROOT)).status == 200


async def test_bad_questions_are_refused(site: Site) -> None:
    for path in ("/eta?ids=x", "/eta?limit=0", "/eta?ids=1-5000", "/eta?nonsense=1"):
        assert (await site.get(path)).status == 400, path
    array = await site.ask("POST", "/api/v2/plan", job={"command": "true", "array": "9-1"})
    assert array.status == 422 and b"counts downwards" in array.body
    assert (await site.ask("POST", "/api/v2/plan", job={"command": ""})).status == 422
    assert (await site.ask("POST", "/api/v2/plan", jobs=[])).status == 400


async def plan(site: Site, **fields: Any) -> Any:
    reply = await site.ask("POST", "/api/v2/plan", job={"command": "true", **fields})
    assert reply.status == 200, reply
    return reply.json


async def test_a_plan_submits_nothing_and_says_when_and_where(site: Site) -> None:
    found = await plan(site, resources={"cpus": 2, "mem": 50})
    assert (found["where"], found["could"], found["agents"]["fit"]) == ("host1", 1, 1)
    assert after(found["start"]["p90"]) < 5
    assert found["ahead"]["jobs"] == 0
    assert (found["source"], found["resources"]["cpus"]) == ("guess", 2.0)
    await site.running(user=BOB, name="secret", **HOUR)
    own = await site.submit(**HOUR)
    reply = await site.ask("POST", "/api/v2/plan", job={"command": "true", **HOUR})
    found = reply.json
    assert found["agents"]["fit"] == 0
    assert after(found["start"]["p50"]) > 3500
    assert found["ahead"]["jobs"] == 1 and found["ahead"]["resources"]["cpus"] == 4.0
    assert b"secret" not in reply.body and b"bob" not in reply.body
    assert (await site.get("/jobs?user=*&state=ALL", ROOT)).json["total"] == own


async def test_a_plan_that_no_agent_can_take(site: Site) -> None:
    found = await plan(site, attributes="rack=r9")
    assert (found["could"], found["start"], found["where"]) == (0, None, None)
    assert found["note"] == "no agent here could ever take it: needs rack=r9: no agent has it"


async def test_a_plan_of_an_array(site: Site) -> None:
    await site.running(user=BOB, name="secret", **HOUR)
    each = {"resources": {"cpus": 2.0, "mem": 100}, "timeout_s": 3600.0}
    found = await plan(site, array="1-90%2", **each)
    assert (found["tasks"], found["at_once"], found["hosts"], found["where"]) == (90, 2, 1, "host1")
    assert found["resources"]["cpus"] == 2.0, "each"
    assert 3500 < after(found["start"]["p50"]) < 3700
    assert 3600 * 45 < after(found["end"]["p50"]) < 3600 * 47.5
    assert (found["not_before"], found["end_not_before"], found["note"]) == (None, None, None)
    assert (await site.get("/jobs?user=*&state=ALL", ROOT)).json["total"] == 1, "nothing is submitted"


async def test_a_plan_of_the_largest_array_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "__defaults__", (None, 100))
    found = await plan(site, array="1-1000000%1", **HOUR)
    assert (found["tasks"], found["end"], found["at_once"]) == (1_000_000, None, 1)
    assert found["start"] is not None
    assert after(found["end_not_before"]) == pytest.approx(3600e6, rel=1e-3)
    assert "one by one" in found["note"]
    long = await plan(site, array="1-1000000%1", timeout_s=1e9)
    assert long["end_not_before"].startswith("9999-"), "later than any date"


async def test_a_plan_waits_for_what_the_job_waits_for(site: Site) -> None:
    first = await site.running(**HOUR)
    small = {"resources": {"cpus": 0.1, "mem": 10}}
    assert after((await plan(site, array="1-3", after=[first], **small))["start"]["p50"]) > 3500
    later = datetime.fromtimestamp(time.time() + 9000).astimezone().isoformat()
    assert after((await plan(site, start_at=later, **small))["start"]["p50"]) > 8900
    reply = await site.ask("POST", "/api/v2/plan", job={"command": "true", "after": [999]})
    assert reply.status == 422 and b"no such job: 999" in reply.body
    site.engine.ended(f"{first}.1")
    await site.core.settled()
    assert after((await plan(site, after=[first], **small))["start"]["p50"]) < 5


async def test_the_past_is_believed(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        past: list[float] = [100.0, 104.0, 98.0, 101.0, 99.0, 102.0]
        site.core.forecasts._history = Known(past)
        runs = await site.running(pipeline="etl", name="load", resources={"cpus": 4.0, "mem": 100})
        found = await eta(site, runs)
        assert found["source"] == "pipeline"
        assert 80 < after(found["end"]["p50"]) < 120


class Known(Past):
    """A book in which every pipeline's steps took as long as the test says."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__()
        self._seconds = seconds

    def of(self, job: Job) -> Any:
        return [_Run(each) for each in self._seconds] if job.pipeline else ()


class _Run:
    outcome = "finished"

    def __init__(self, duration_s: float) -> None:
        self.duration_s = duration_s


async def test_a_plan_of_a_held_job_is_as_if_it_were_released(site: Site) -> None:
    reply = await site.ask("POST", "/api/v2/plan", job={"command": "true", "held": True})
    assert (reply.status, reply.json["start"] is not None) == (200, True)


async def test_a_killed_worker_is_replaced(site: Site) -> None:
    await plan(site)
    first = site.core.forecasts.worker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await site.until(lambda: not _lives(first))
    await plan_or_fault(site)
    assert (await plan(site))["start"] is not None
    assert site.core.forecasts.worker.pid not in (None, first)


async def plan_or_fault(site: Site) -> None:
    """The first question after a death may be the one that finds out."""
    reply = await site.ask("POST", "/api/v2/plan", job={"command": "true"})
    assert reply.status in (200, 503)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_worker_over_its_budget_is_killed_and_the_queue_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts_module, "BUDGET_S", 0.0)
    monkeypatch.setattr(forecasts_module, "FIRST_S", 0.5)
    job = await site.submit()
    found = await eta(site, job)
    assert "ask again" in found["note"]
    trouble = (await site.get("/eta")).json["trouble"]
    assert "longer than 0 s" in trouble
    assert site.core.forecasts.worker.pid is None
    assert (await site.ask("POST", "/api/v2/plan", job={"command": "true"})).status == 503
    assert await site.running() > job


async def test_an_error_in_the_snapshot_stops_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(forecasts_module, "gather", broken)
    job = await site.running()
    assert "ask again" in (await eta(site, job))["note"]
    assert "server's log" in (await site.get("/eta")).json["trouble"]


async def test_a_clock_that_is_set_makes_a_new_forecast(site: Site) -> None:
    job = await site.running(**HOUR)
    before = (await eta(site, job))["as_of"]
    site.core.dispatcher.live.clock = lambda: time.time() - 86_400
    await site.core.forecasts.want(0.0)
    await site.until(lambda: site.core.forecasts.latest.at < time.time() - 80_000)  # type: ignore[union-attr]
    assert (await site.get(f"/jobs/{job}/eta")).json["as_of"] < before


async def test_who_runs_longer_than_foreseen_is_looked_at_again(site: Site) -> None:
    job = await site.running(**HOUR)
    await eta(site, job)
    latest = site.core.forecasts.latest
    assert latest is not None
    over = time.time() - 5
    latest.jobs[job] = Foreseen(end=Moment(over, over))
    latest.at = over - 1
    assert (await site.get(f"/jobs/{job}")).json["eta"] is None, "nobody asked for a new one; the old one is wrong"
    assert after((await eta(site, job))["end"]["p50"]) > 3500


async def test_a_list_that_is_looked_at_for_the_first_time_says_when(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retz.server.http.eta.LIST_WAITS_S", 60.0)
    job = await site.running(**HOUR)
    assert (await site.get("/jobs")).json["jobs"][0]["eta"] is None
    assert after((await site.get("/jobs?foresee=true")).json["jobs"][0]["eta"]["end"]["p50"]) > 3500
    assert (await site.get(f"/jobs/{job}")).json["eta"] is not None


async def test_a_list_that_is_looked_at_all_the_time_does_not_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a new forecast is made, a window would be late."""
    monkeypatch.setattr("retz.server.http.eta.LIST_WAITS_S", 600.0)
    await eta(site, await site.running(**HOUR))
    worker, go = site.core.forecasts.worker, asyncio.Event()
    ask = worker.ask

    async def held_up(*question: Any) -> Any:
        await go.wait()
        return await ask(*question)

    monkeypatch.setattr(worker, "ask", held_up)
    new = await site.submit(**HOUR)
    async with asyncio.timeout(30):
        assert (await site.get("/jobs?foresee=true")).json["jobs"][0]["eta"] is None
    go.set()
    await site.until(lambda: site.core.forecasts.of(new) is not None)


async def test_lists_have_looked_anew_at_what_did_not_come_true(site: Site) -> None:
    job = await site.running(**HOUR)
    await eta(site, job)
    latest = site.core.forecasts.latest
    assert latest is not None
    now = time.time()
    waits = await site.submit(**HOUR)
    latest.jobs[job] = Foreseen(end=Moment(now - 50, now + 50))
    latest.jobs[waits] = Foreseen(start=Moment(now - 50, now + 50), end=Moment(now + 5, now + 60))
    latest.at = now - 100
    second, first = (await site.get("/jobs?foresee=true")).json["jobs"]
    assert 20 < after(first["eta"]["end"]["p50"]) < 30 and 40 < after(first["eta"]["end"]["p90"]) <= 50
    assert second["eta"]["start"]["p50"] == second["eta"]["end"]["p50"]
    await site.until(lambda: site.core.forecasts.latest is not latest)
    assert after((await site.get("/jobs?foresee=true")).json["jobs"][1]["eta"]["end"]["p50"]) > 3500


async def test_arrays_beyond_their_window_and_dependents(site: Site) -> None:
    array = await site.submit(array="1-900%3", **HOUR)
    behind = await site.submit(after=[array], **HOUR)
    found = await eta(site, array)
    assert after(found["end"]["p50"]) > 3600 * 890
    assert after((await eta(site, behind))["start"]["p50"]) > 3600 * 890
    task = (await site.get(f"/jobs/{array}_700/eta")).json
    assert after(task["start"]["p50"]) > 3600 * 650


async def test_an_array_of_which_as_many_run_as_may(site: Site) -> None:
    """Nothing of it is in the scheduler's queue, and much of it is still to come."""
    small: dict[str, Any] = {"resources": {"cpus": 0.5, "mem": 10}, "timeout_s": 3600.0}
    array = await site.submit(array="1-30%3", **small)
    behind = await site.submit(after=[array], **small)
    assert (await site.get(f"/jobs/{array}")).json["array"]["active"] == 3
    assert 3600 * 9 < after((await eta(site, array))["end"]["p50"]) < 3600 * 11
    assert 3600 * 9 < after((await eta(site, behind))["start"]["p50"]) < 3600 * 11
    assert after((await site.get(f"/jobs/{array}_30/eta")).json["start"]["p50"]) > 3600 * 8
    assert after((await plan(site, array="1-9", after=[array], **small))["start"]["p50"]) > 3600 * 9


async def test_of_an_array_of_which_as_many_run_as_may_not_all_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "__defaults__", (None, 10))
    small: dict[str, Any] = {"resources": {"cpus": 0.5, "mem": 10}, "timeout_s": 3600.0}
    array = await site.submit(array="1-900%3", **small)
    assert (await site.get(f"/jobs/{array}_5/eta")).json["start"] is not None
    assert (await eta(site, array))["end"] is None, "no more than ten of its tasks are run forward"
    live, config = site.core.dispatcher.live, site.core.config
    assert len((await gather(live, config, Past(), Recent(time.time()))).waiters) == 10
    assert (await site.ask("POST", "/api/v2/jobs/hold", ids=[array])).status == 200
    assert not (await gather(live, config, Past(), Recent(time.time()))).waiters


async def test_deep_jobs_get_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "__defaults__", (None, 10))
    first = await site.submit(**HOUR)
    await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", **HOUR}] * 40)
    deep = await site.submit(**HOUR)
    assert (await eta(site, first + 5))["start"] is not None
    found = await eta(site, deep)
    assert found["start"] is None and "too far behind" in found["note"]
    assert 3600 * 20 < after(found["not_before"]) < 3600 * 42


async def test_a_snapshot_holds_the_loop_only_briefly_while_many_are_submitted(site: Site) -> None:
    """Every few hundred jobs the loop takes a turn: a counter of turns sees it."""
    bulk = asyncio.ensure_future(
        site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", "resources": {"mem": 9}}] * 20_000)
    )
    await site.until(lambda: len(site.core.db.jobs.records()) > 3000)
    turns, live = 0, site.core.dispatcher.live
    gathering_task = asyncio.ensure_future(gather(live, site.core.config, Past(), Recent(time.time())))
    while not gathering_task.done():
        await asyncio.sleep(0)
        turns += 1
    situation = await gathering_task
    count = len(situation.waiters)
    assert count >= 2900
    assert turns >= count // gathering.SLICE - 1
    assert (await bulk).status == 201
    assert len({waiter.id for waiter in situation.waiters}) == count


async def test_agents_that_vanish(tmp_path: Path) -> None:
    agents = [Agent(id="a1", host="host1", total=Resources(4, 4096))]
    engine = PuppetEngine(agents)
    async with running_site(tmp_path, engine=engine) as site:
        runs = await site.running(**HOUR)
        waits = await site.submit(**HOUR)
        engine._agents = []
        found = await eta(site, waits)
        assert found["start"] is None and "could ever take it" in found["note"]
        assert (await eta(site, runs))["end"] is not None


async def test_what_came_lately_is_expected_again(site: Site) -> None:
    recent = site.core.forecasts.recent
    hour_ago = Recent(time.time() - 7200)
    assert recent.seen(time.time()) == ([], 0.0), "seen for a few seconds only: too short"
    await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true"}] * 500)
    await site.submit(array="1-9999")
    await site.submit(user=BOB)
    site.core.forecasts.recent = hour_ago
    hour_ago.add(list(site.core.db.jobs.records().values())[:200])
    jobs, seconds = hour_ago.seen(time.time() + 1)
    assert len(jobs) == PER_MINUTE and 7000 < seconds < 7300
    situation = await gather(site.core.dispatcher.live, site.core.config, Past(), hour_ago)
    assert len(situation.arrivals) == PER_MINUTE
    assert hour_ago.seen(time.time() + 200_000)[0] == []


def test_of_recent_jobs_a_bounded_number_is_kept() -> None:
    recent = Recent(0.0)
    for number in range(3 * MOST):
        recent.add([Job(id=number, owner="ann", command="", resources=Resources(), submitted=number * 10.0)])
    jobs, seconds = recent.seen(30.0 * MOST)
    assert len(jobs) <= MOST and jobs[-1].id == 3 * MOST - 1
    assert seconds <= 10.0 * (MOST + 1)
