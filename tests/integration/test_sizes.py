"""How much? Past runs size the next, a kill for memory is made good once, and the book survives what befalls it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from msgspec.structs import replace

from retz.engine.base import Update
from retz.model.agent import Agent
from retz.model.job import Job, Usage
from retz.model.resources import Resources
from retz.server.housekeeping import Housekeeping
from retz.server.http.openapi import build
from retz.server.http.table import ROUTES
from retz.server.learning.loading import load
from retz.store.database import Change

from .http_site import BOB, ROOT, PuppetEngine, Site, running_site

pytestmark = pytest.mark.anyio

DOCUMENT = build(ROUTES)
ASKED = {"cpus": 4, "mem": 2000}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path) as running:
        await running.core.learner.loaded()
        yield running


async def started(site: Site, attempt: int = 1, **fields: Any) -> int:
    """A job of pipeline p that runs, since ten seconds ago."""
    whole = {"pipeline": "p", "name": "train", "resources": ASKED, **fields}
    job_id = await site.running(**whole) if attempt == 1 else int(fields["job_id"])
    job = record(site, job_id)
    *before, last = job.attempts
    earlier = replace(last, launched=last.launched - 10, started=(last.started or 0.0) - 10)
    await site.core.db.apply([Change("jobs", job_id, replace(job, attempts=(*before, earlier)))])
    return job_id


async def end(site: Site, job_id: int, peak: float, attempt: int = 1, cpu_s: float = 5.0, **result: Any) -> None:
    """Its attempt ends, having used that much."""
    usage = Usage(cpu_s=cpu_s, max_rss_mb=peak, interval_s=1.0)
    task = f"{job_id}.{attempt}"
    site.engine.held.pop(task, None)
    site.engine._tell(Update(seq=0, task=task, kind="ended", **{"exit_code": 0, "usage": usage, "at": 0.0, **result}))
    await site.core.settled()


async def ran(site: Site, peak: float, **fields: Any) -> int:
    job_id = await started(site, **fields)
    await end(site, job_id, peak)
    return job_id


def record(site: Site, job_id: int) -> Job:
    job = site.core.find(job_id)
    assert job is not None
    return job


async def view(site: Site, job_id: int) -> Any:
    return (await site.get(f"/jobs/{job_id}")).json


async def sizes(site: Site, **options: Any) -> Any:
    reply = await site.get("/pipelines/p/sizes", **options)
    assert reply.status == 200, reply
    operation = DOCUMENT["paths"]["/api/v2/pipelines/{name}/sizes"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(reply.json)
    return reply.json["steps"]


async def test_a_guess_becomes_a_size(site: Site) -> None:
    first = await site.submit(pipeline="p", name="train", resources=ASKED, predicted=True, held=True)
    told = await view(site, first)
    assert told["resources"]["mem"] == 2000
    asked = {"cpus": 4.0, "mem": 2000, "disk": 0, "gpus": 0, "ports": 0}
    assert told["sized"] == {"asked": asked, "runs": 0, "mem": None, "outgrew": None}
    for peak in (500.0, 520.0, 490.0):
        await ran(site, peak)
    told = await view(site, await site.submit(pipeline="p", name="train", resources=ASKED, predicted=True))
    assert 520 < told["resources"]["mem"] < 800
    assert told["resources"]["cpus"] == 1  # half a cpu was busy
    assert told["sized"] == {"asked": asked, "runs": 3, "mem": told["resources"]["mem"], "outgrew": None}
    plain = await view(site, await site.submit(pipeline="p", name="train", resources=ASKED))
    assert (plain["resources"]["mem"], plain["sized"]) == (2000, None)
    [step] = await sizes(site)
    assert (step["step"], step["measured"], step["needed"]) == ("train", 3, 2)
    assert (step["asked"], step["given"]["mem"]) == ({"mem": 2000, "cpus": 4}, told["resources"]["mem"])
    assert [past["limit_mb"] is None for past in step["past"]] == [True, True, False]


async def test_what_is_far_above_the_rest_in_few_runs_is_covered_and_what_recurs_is_told(site: Site) -> None:
    for peak in (500.0, 520.0, 490.0, 1500.0, 510.0, 495.0):
        await ran(site, peak)
    [step] = await sizes(site)
    assert step["given"]["mem"] > 1500 and step["covered"] == 1 and "period" not in step
    for number in range(20):
        await ran(site, 1500.0 if number % 3 == 2 else 500.0)
    [step] = await sizes(site)
    assert step["period"] == 3 and step["expected_mb"] == pytest.approx(1500, rel=0.1)


async def test_who_outgrows_a_size_gets_what_was_asked_for_once_and_loses_no_retry(site: Site) -> None:
    for peak in (500.0, 520.0, 490.0):
        await ran(site, peak)
    job_id = await started(site, predicted=True, max_retries=0)
    given = record(site, job_id).resources.mem
    await end(site, job_id, given - 1.0, exit_code=None, signal=9, reason="oom")
    await site.until(lambda: f"{job_id}.2" in [task.id for task in site.engine.launched])
    assert site.engine.launched[-1].mem_limit_mb == 2000
    told = await view(site, job_id)
    assert (told["resources"]["mem"], told["losses"]) == (2000, 0)
    assert told["sized"]["outgrew"] == 1 and told["sized"]["mem"] == given
    assert [attempt["reason"] for attempt in told["attempts"]] == ["oom", None]
    site.engine.started(f"{job_id}.2")
    await end(site, job_id, 900.0, attempt=2)
    assert (await view(site, job_id))["state"] == "FINISHED"
    run = site.core.learner.past.runs("ann", "p", "train")[-1]
    assert (run.peak_mb, run.asked_mb, run.given_mb, run.outcome, run.partial) == (900.0, 2000, 2000, "finished", False)
    assert (await sizes(site))[0]["given"]["mem"] > 900


async def test_what_outgrew_its_size_before_a_restart_has_its_new_one_after_it(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        for peak in (500.0, 520.0):
            await ran(site, peak)
        job_id = await started(site, predicted=True)
        await site.core.set_mode("paused")
        await end(site, job_id, 1.0, exit_code=None, signal=9, reason="oom")
        before = record(site, job_id)
    async with running_site(tmp_path) as site:
        assert record(site, job_id) == before
        assert (before.state, before.reason, before.resources.mem) == ("QUEUED", "oom", 2000)
        assert "once more with 2000 MiB" in (before.message or "")
        why = (await site.get(f"/jobs/{job_id}/why")).json["summary"]
        assert f"it outgrew the {before.sized.mem if before.sized else 0}M predicted for it, and gets 2G now" in why
        await site.core.set_mode("open")
        await site.until(lambda: f"{job_id}.2" in site.engine.held)
        assert site.engine.held[f"{job_id}.2"].mem == 2000


async def test_the_second_kill_for_memory_is_final(site: Site) -> None:
    for peak in (1990.0, 2000.0, 1995.0):
        await ran(site, peak)
    job_id = await started(site, predicted=True)
    given = record(site, job_id).resources.mem
    for attempt in (1, 2):
        await site.until(lambda: f"{job_id}.{attempt}" in site.engine.held)  # noqa: B023 (called at once)
        site.engine.started(f"{job_id}.{attempt}")
        await end(site, job_id, 1.0, attempt, exit_code=None, signal=9, reason="oom")
    job = record(site, job_id)
    assert (job.state, job.reason) == ("FAILED", "oom")
    assert job.resources.mem == min(4096, 2 * given)  # what was asked for is no more than what was too little
    assert len(job.attempts) == 2


async def test_a_kill_by_its_owner_is_no_reason_to_go_on(site: Site) -> None:
    for peak in (500.0, 520.0):
        await ran(site, peak)
    job_id = await started(site, predicted=True)
    await site.ask("POST", "/api/v2/jobs/kill", ids=[job_id])
    await end(site, job_id, 1.0, exit_code=None, signal=9, reason="oom")
    assert record(site, job_id).state == "KILLED"
    assert len(site.core.learner.past.runs("ann", "p", "train")) == 2


async def test_who_is_sized_is_resubmitted_as_asked_and_sized_anew(site: Site) -> None:
    for peak in (500.0, 520.0):
        await ran(site, peak)
    job_id = await ran(site, 510.0, predicted=True)
    reply = await site.ask("POST", "/api/v2/jobs/resubmit", ids=[job_id])
    again = await view(site, reply.json["results"][0]["new_id"])
    assert again["sized"]["asked"]["mem"] == 2000 and again["sized"]["runs"] == 3


async def test_arrays_have_one_size(site: Site) -> None:
    for peak in (500.0, 520.0):
        await ran(site, peak)
    array = await site.submit(pipeline="p", name="train", resources=ASKED, predicted=True, array="1-3")
    await site.until(lambda: f"{array + 1}.1" in site.engine.held)
    assert record(site, array + 1).resources == record(site, array).resources
    site.engine.started(f"{array + 1}.1")
    await end(site, array + 1, 1.0, exit_code=None, signal=9, reason="oom")
    assert record(site, array + 1).resources.mem == 2000
    assert record(site, array + 2).resources.mem < 1000


async def test_an_application_may_say_so_for_all_its_jobs(site: Site) -> None:
    reply = await site.ask("PUT", "/api/v2/applications/etl", predict="auto", predict_floor="1g")
    assert (reply.json["predict"], reply.json["predict_floor"]) == ("auto", 1024)
    for peak in (500.0, 520.0):
        await ran(site, peak)
    common: dict[str, Any] = {"application": "etl", "name": "train", "resources": ASKED, "held": True}
    mems = [
        (await view(site, await site.submit(**common, **fields)))["resources"]["mem"]
        for fields in ({"pipeline": "p"}, {"pipeline": "p", "predicted": False}, {})
    ]
    assert mems == [1024, 2000, 2000]
    bad = await site.ask("PUT", "/api/v2/applications/etl", predict_floor="much")
    assert bad.status == 400 and "predict_floor" in bad.json["detail"]


async def test_sizes_are_kept_between_floor_and_what_there_is(tmp_path: Path) -> None:
    small = PuppetEngine([Agent(id="a", host="h", total=Resources(2, 1000, 1000))])
    async with running_site(tmp_path, {"retz.predicted.floor": "64m"}, engine=small) as site:
        for peak in (1e-3, 1e-3, 2e-3):
            await ran(site, peak, resources={"mem": 500})
        for peak in (1e12, 1e12, 2e12):
            await ran(site, peak, resources={"mem": 500}, name="huge")
        ids = [await site.submit(pipeline="p", name=name, predicted=True, held=True) for name in ("train", "huge")]
        jobs = [record(site, job_id) for job_id in ids]
        assert [job.resources.mem for job in jobs] == [64, 1000]
        assert [job.sized.again_mem for job in jobs if job.sized] == [500, 0]


async def test_past_runs_are_those_of_a_pipeline(site: Site) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "x", "predicted": True}])
    assert reply.status == 422 and reply.json["errors"][0]["field"] == "jobs[0].predicted"
    assert "--pipeline" in reply.json["detail"]


async def test_nobody_learns_from_or_about_others(site: Site) -> None:
    for peak in (500.0, 520.0):
        await ran(site, peak)
    theirs = await view_as_bob(
        site, await site.submit(user=BOB, pipeline="p", name="train", resources=ASKED, predicted=True)
    )
    assert theirs["resources"]["mem"] == 2000 and theirs["sized"]["runs"] == 0
    hidden = await site.get("/pipelines/p/sizes", BOB)
    unknown = await site.get("/pipelines/q/sizes", BOB)
    assert hidden.status == unknown.status == 404
    assert hidden.json["detail"].replace("'p'", "'q'").removesuffix("p") == unknown.json["detail"].removesuffix("q")
    assert (await site.get("/pipelines/p/sizes?user=ann", BOB)).status == 403
    assert (await site.get("/pipelines/p/sizes?user=ann", ROOT)).json["steps"][0]["measured"] == 2


async def view_as_bob(site: Site, job_id: int) -> Any:
    return (await site.get(f"/jobs/{job_id}", BOB)).json


async def test_the_book_is_made_again_from_the_archive(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        for peak in (500.0, 520.0, 490.0):
            await ran(site, peak)
        await ran(site, 100.0, name="other", run="bad")
        await ran(site, 100.0, name="other", run="good")
        await ran(site, 100.0, pipeline="gone")
        site.core.learner.forget("ann", "gone")
        await site.core.learner.forget("ann", "p", "bad")
        await Housekeeping(site.core).archive_ended()
        await ran(site, 505.0)  # still hot
        before = book(site)
    for segment in (tmp_path / "archive").glob("*.idx"):
        segment.write_bytes(b"damaged")
    async with running_site(tmp_path) as site:
        await site.core.learner.loaded()
        assert book(site) == before
        assert [run.run for run in site.core.learner.past.runs("ann", "p", "other")] == ["good"]
        assert site.core.learner.past.steps("ann", "gone") == []
        assert len(site.core.learner.past.runs("ann", "p", "train")) == 4


def book(site: Site) -> dict[str, Any]:
    past = site.core.learner.past
    return {step: sorted(past.runs("ann", "p", step)) for step in past.steps("ann", "p")}


async def test_a_book_that_cannot_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr("retz.server.learning.learner.load", broken)
    async with running_site(tmp_path) as site:
        await site.core.learner.loaded()
        assert "the disk is gone" in caplog.text
        for peak in (500.0, 520.0):
            await ran(site, peak)
        monkeypatch.setattr(site.core.learner.past, "add", broken)
        monkeypatch.setattr(site.core.learner.sizes, "of", broken)
        job_id = await ran(site, 500.0, predicted=True)
        job = record(site, job_id)
        assert (job.state, job.resources.mem) == ("FINISHED", 2000)


async def test_runs_that_end_while_the_book_is_read_are_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def slow(*arguments: Any) -> Any:
        assert go.wait(30)
        return load(*arguments)

    monkeypatch.setattr("retz.server.learning.learner.load", slow)
    monkeypatch.setattr("retz.server.learning.learner.PATIENCE_S", 0.0)
    async with running_site(tmp_path) as site:
        for peak in (500.0, 520.0):
            await ran(site, peak)
        await Housekeeping(site.core).archive_ended()
        await ran(site, 530.0)
        early = await site.submit(pipeline="p", name="train", resources=ASKED, predicted=True, held=True)
        assert record(site, early).resources.mem < 2000, "what has ended since the start is known all the same"
        go.set()
        await site.core.learner.loaded()
        assert site.core.learner.ready
        assert [run.peak_mb for run in site.core.learner.past.runs("ann", "p", "train")] == [500.0, 520.0, 530.0]


async def test_a_picture_of_sizes_needs_measured_runs_of_ones_own(site: Site) -> None:
    for form in ("png", "txt"):
        assert (await site.get(f"/pipelines/p/sizes.{form}")).status == 404
    await ran(site, 500.0)
    for form in ("png", "txt"):
        reply = await site.get(f"/pipelines/p/sizes.{form}")
        assert reply.status == 422 and "1 measured run so far; 2 are needed" in reply.json["detail"]
        assert (await site.get(f"/pipelines/p/sizes.{form}", BOB)).status == 404
        assert (await site.get(f"/pipelines/p/sizes.{form}?user=ann", BOB)).status == 403
