"""Runs of pipelines become histories and predictions: real store, real HTTP, real workers of the estimator."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import pytest
from msgspec.structs import replace

from estimator.errors import WorkerFailed
from estimator.operations import Outcome
from retz.auth import content_md5
from retz.config import ConfigError
from retz.config_server import load_server
from retz.server.core import Core
from retz.server.housekeeping import Housekeeping
from retz.server.http.openapi import build
from retz.server.http.submission import MAX_BODY
from retz.server.http.table import ROUTES
from retz.server.skylines import packed, recorder, runs
from retz.store.database import Change

from .http_site import ANN, BOB, ROOT, Reply, Site, running_site

pytestmark = pytest.mark.anyio

DOCUMENT = build(ROUTES)
LOG = b"nightly 1 0 0 0 run7 1024:0| 2:0|4:5|\n"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are written as soon as they are over, and retried at once."""
    monkeypatch.setattr(runs, "QUIET_S", 0.05)
    monkeypatch.setattr(recorder, "PAUSE_S", 0.0)
    monkeypatch.setattr(recorder, "FIRST_RETRY_S", 0.01)


class FakeLanes:
    """Keeps what is to be recorded; fails while it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failure: Exception | None = None
        self.tries = 0

    async def call(self, place: Path, operation: str, /, **arguments: Any) -> Outcome:
        self.tries += 1
        if self.failure is not None:
            raise self.failure
        spans = [_unpacked(arguments[name]) for name in ("spans", "usages")]
        self.calls.append((place.name, {**arguments, "spans": spans[0], "usages": spans[1]}))
        return Outcome(b"{}")

    def states(self) -> list[Any]:
        return []

    async def close(self) -> None:
        return

    def runs(self) -> list[str]:
        return [arguments["run"] for _, arguments in self.calls]


def _unpacked(item: Any) -> Any:
    return pickle.loads(pickle.dumps(item))


@asynccontextmanager
async def estimating(
    directory: Path, lanes: FakeLanes | None = None, options: dict[str, object] | None = None
) -> AsyncIterator[Site]:
    """A site that keeps skylines, with real workers unless ``lanes`` are given."""
    async with running_site(directory, options) as site:
        if lanes is not None:
            site.core.skylines.lanes = lanes
        site.core.skylines.start()
        try:
            yield site
        finally:
            await site.core.skylines.stop()


async def run_job(site: Site, pipeline: str = "p", **fields: Any) -> int:
    """One job of a pipeline, started and ended."""
    job_id = await site.running(pipeline=pipeline, **fields)
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    return job_id


async def lasting_run(site: Site, pipeline: str = "p", seconds: float = 3.0, **fields: Any) -> int:
    """The same, as if it had taken some seconds."""
    job_id = await site.running(pipeline=pipeline, **fields)
    job = site.core.db.jobs.record(job_id)
    assert job is not None
    (attempt,) = job.attempts
    earlier = replace(attempt, started=(attempt.started or 0.0) - seconds)
    await site.core.db.apply([Change("jobs", job_id, replace(job, attempts=(earlier,)))])
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    return job_id


def validated(reply: Reply, path: str) -> Any:
    """The answer's JSON, which is as the OpenAPI document says."""
    assert reply.status == 200, reply
    schema = DOCUMENT["paths"][f"/api/v2{path}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(reply.json)
    return reply.json


async def job_view(site: Site, job_id: int) -> Any:
    return (await site.get(f"/jobs/{job_id}")).json


# -- runs ------------------------------------------------------------------------------------------------------------


async def test_all_jobs_of_a_request_are_one_fresh_run(site: Site) -> None:
    jobs = [{"command": "x", "pipeline": "p"}, {"command": "x"}, {"command": "x", "pipeline": "p", "run": "mine"}]
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[*jobs, jobs[0]])
    first, *_ = reply.json["ids"]
    runs = [(await job_view(site, job_id))["run"] for job_id in reply.json["ids"]]
    assert runs[0] == runs[3] and runs[1:3] == [None, "mine"]
    assert runs[0].endswith(f"-{first}")
    many = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "x", "pipeline": "p", "held": True}] * 450)
    ids = many.json["ids"]
    assert {(await job_view(site, job_id))["run"] for job_id in (ids[0], ids[250], ids[-1])} == {
        (await job_view(site, ids[1]))["run"]
    }


async def test_resubmitted_jobs_are_a_fresh_run_of_their_pipeline(site: Site) -> None:
    job_id = await run_job(site, run="mine")
    reply = await site.ask("POST", "/api/v2/jobs/resubmit", ids=[job_id])
    again = await job_view(site, reply.json["results"][0]["new_id"])
    assert again["pipeline"] == "p" and again["run"].endswith(f"-{again['id']}")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"run": "r"}, "jobs[0].run"),
        ({"pipeline": "*"}, "jobs[0].pipeline"),
        ({"pipeline": ".."}, "jobs[0].pipeline"),
        ({"pipeline": " "}, "jobs[0].pipeline"),
        ({"pipeline": "p", "run": "*"}, "jobs[0].run"),
        ({"pipeline": "p", "run": ""}, "jobs[0].run"),
        ({"pipeline": "p\n"}, "jobs[0].pipeline"),
    ],
)
async def test_runs_and_pipelines_have_names(site: Site, fields: dict[str, str], field: str) -> None:
    reply = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "x", **fields}])
    assert reply.status == 422 and reply.json["errors"][0]["field"] == field


# -- from runs to predictions ------------------------------------------------------------------------------------------


async def test_from_runs_to_predictions(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        assert validated(await site.get("/pipelines"), "/pipelines") == {"pipelines": []}
        name = "night/ly é"
        path = "/pipelines/night%2Fly%20%C3%A9"
        unknown = await site.get(f"{path}/prediction")
        assert unknown.status == 404 and "--pipeline" in unknown.json["detail"]
        await lasting_run(site, name, resources={"mem": 1000, "cpus": 2, "gpus": 1})
        thin = await site.get(f"{path}/prediction")
        assert thin.status == 422 and "1 run so far" in thin.json["detail"] and "2 are needed" in thin.json["detail"]
        await lasting_run(site, name, run="second", resources={"mem": 1000, "cpus": 2, "gpus": 1})
        history = validated(await site.get(path), "/pipelines/{name}")
        assert history["name"] == name and history["runs"][1]["run"] == "second"
        for run in history["runs"]:
            assert run["allocated"] == {"memory": 1000, "vcores": 2, "gpus": 1}
            assert run["used"] == {"memory": 30, "vcores": 1} and 3 <= run["duration_s"] < 30
        prediction = validated(await site.get(f"{path}/prediction"), "/pipelines/{name}/prediction")
        assert prediction["skyline"]["resourceAllocation"]["0"] == {"memory": 1000, "vcores": 2, "gpus": 1}
        again = await site.get(f"{path}/prediction?solver=peak&kind=used&alpha=0.2&beta=0.3&interval=2")
        assert validated(again, "/pipelines/{name}/prediction")["kind"] == "used"
        for format, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
            drawn = await site.get(f"{path}/prediction.{format}?resource=gpus")
            assert drawn.status == 200 and drawn.body.startswith(magic)
        text = await site.get(f"{path}/prediction.txt?width=60&height=10&colour=true&resource=vcores")
        assert text.status == 200 and b"vcores" in text.body and b"\x1b[" in text.body
        listed = validated(await site.get("/pipelines"), "/pipelines")
        assert listed == {"pipelines": [{"name": name, "runs": 2, "predicted": True}]}
        assert (await site.ask("DELETE", f"/api/v2{path}/runs/second")).status == 204
        assert (await site.ask("DELETE", f"/api/v2{path}/runs/second")).status == 404
        assert len((await site.get(path)).json["runs"]) == 1
        assert (await site.ask("DELETE", f"/api/v2{path}")).status == 204
        assert (await site.get(path)).status == (await site.ask("DELETE", f"/api/v2{path}")).status == 404


@pytest.mark.parametrize(
    "query",
    [
        "solver=mine.Solver", "solver=", "alpha=1.1", "alpha=nan", "beta=x", "interval=0", "interval=1.5", "kind=both",
        "nonsense=1", "user=", "resource=memory",
    ],
)  # fmt: skip
async def test_wrong_wishes_are_refused_at_once(site: Site, query: str) -> None:
    reply = await site.get(f"/pipelines/p/prediction?{query}")
    assert reply.status == 400 and reply.json["detail"].startswith(query.split("=")[0])


async def test_the_newest_runs_come_with_their_skylines(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        await lasting_run(site, "p", run="first", resources={"mem": 1000, "cpus": 2})
        await lasting_run(site, "p", run="second", resources={"mem": 500, "cpus": 1})
        plain = validated(await site.get("/pipelines/p"), "/pipelines/{name}")
        assert [run["skylines"] for run in plain["runs"]] == [None, None]
        first, second = validated(await site.get("/pipelines/p?skylines=1"), "/pipelines/{name}")["runs"]
        assert first["skylines"] is None
        allocated = second["skylines"]["allocated"]["resourceAllocation"]
        assert allocated["0"] == {"memory": 500, "vcores": 1}
        assert list(allocated.values())[-1] == {"memory": 0, "vcores": 0}
        assert second["skylines"]["used"]["resourceAllocation"]["0"]["memory"] == 30
        for wrong in ("101", "-1", "x", ""):
            assert (await site.get(f"/pipelines/p?skylines={wrong}")).status == 400


async def test_histories_belong_to_their_users(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        await run_job(site, user=ANN)
        assert len((await site.get("/pipelines/p")).json["runs"]) == 1
        assert (await site.get("/pipelines", BOB)).json == {"pipelines": []}
        assert (await site.get("/pipelines/p", BOB)).status == 404
        assert (await site.get("/pipelines/p/prediction", BOB)).status == 404
        assert (await site.ask("DELETE", "/api/v2/pipelines/p", BOB)).status == 404
        for path in ("", "/p", "/p/prediction"):
            assert (await site.get(f"/pipelines{path}?user=ann", BOB)).status == 403
            assert (await site.get(f"/pipelines{path}?user=nobody", ROOT)).status == 404
        assert (await site.get("/pipelines/p", ROOT)).status == 404
        assert len((await site.get("/pipelines/p?user=ann", ROOT)).json["runs"]) == 1
        # The same names in two histories are two pipelines.
        await run_job(site, user=BOB, run="bobs")
        assert [run["run"] for run in (await site.get("/pipelines/p", BOB)).json["runs"]] == ["bobs"]
        assert "bobs" not in (await site.get("/pipelines/p")).body.decode()


async def test_a_damaged_history_is_made_again_from_the_records(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        await run_job(site, run="archived")
        assert (await site.get("/pipelines/p")).status == 200
        await Housekeeping(site.core).archive_ended()
        await run_job(site, run="hot")
        assert len((await site.get("/pipelines/p")).json["runs"]) == 2
        (file,) = (tmp_path / "skylines").rglob("p.json")
        file.write_text("{")
        refused = await site.get("/pipelines/p")
        assert refused.status == 503 and "being made again" in refused.json["detail"]
        skylines = site.core.skylines
        await site.until(lambda: skylines.recorded == 4 and not skylines.runs.waiting)
        assert [run["run"] for run in (await site.get("/pipelines/p")).json["runs"]] == ["archived", "hot"]


async def test_a_lost_history_is_made_again_from_the_records(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        site.core.learner.start()
        await run_job(site, run="archived")
        assert (await site.get("/pipelines/p")).status == 200
        await Housekeeping(site.core).archive_ended()
        (file,) = (tmp_path / "skylines").rglob("p.json")
        file.unlink()
        refused = await site.get("/pipelines/p")
        assert refused.status == 503 and "was lost and is being made again" in refused.json["detail"]
        skylines = site.core.skylines
        await site.until(lambda: skylines.recorded == 2 and not skylines.runs.waiting)
        assert [run["run"] for run in (await site.get("/pipelines/p")).json["runs"]] == ["archived"]
        shutil.rmtree(tmp_path / "skylines")
        await run_job(site, "other", run="new")
        await site.until(lambda: skylines.recorded >= 4 and not skylines.runs.waiting)
        assert {each["name"] for each in (await site.get("/pipelines")).json["pipelines"]} == {"p", "other"}
        site.engine.ended(f"{await site.running(pipeline='mixed', run='1', name='a')}.1")
        await site.running(pipeline="mixed", run="1", name="b")
        assert (await site.get("/pipelines/mixed")).status == 404
        await site.core.learner.stop()


async def test_what_was_forgotten_does_not_come_back_with_the_rest(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        site.core.learner.start()
        for run in ("1", "2", "3"):
            await run_job(site, run=run)
        assert (await site.ask("DELETE", "/api/v2/pipelines/p/runs/2")).status == 204
        await Housekeeping(site.core).archive_ended()
        (file,) = (tmp_path / "skylines").rglob("p.json")
        file.unlink()
        assert (await site.get("/pipelines/p")).status == 503
        await site.until(lambda: site.core.skylines.recorded == 5 and not site.core.skylines.runs.waiting)
        assert [run["run"] for run in (await site.get("/pipelines/p")).json["runs"]] == ["1", "3"]
        await site.core.learner.stop()


# -- the estimator's own routes ----------------------------------------------------------------------------------------


async def test_the_estimators_own_routes_are_signed(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site:
        prefix = "/resourceestimator"
        for method, path, body in [
            ("GET", "/pipelines", b""),
            ("GET", "/estimator/nightly", b""),
            ("GET", "/skylinestore/history/*/*", b""),
            ("DELETE", "/skylinestore/history/nightly/run7", b""),
            ("POST", "/translator", LOG),
            ("POST", "/translator/x", b""),
        ]:
            reply = await site.ask(method, prefix + path, None, body)
            assert reply.status == 401 and reply.headers["WWW-Authenticate"] == "Retz-auth-v1", path
            assert reply.json["type"] == "urn:retz:unauthorized"
        added = await site.ask("POST", f"{prefix}/translator", body=LOG)
        assert added.status == 200, added
        assert (await site.get("/pipelines/nightly")).json["runs"][0]["run"] == "run7"
        assert (await site.ask("GET", f"{prefix}/skylinestore/history/*/*")).json[0][0]["runId"] == "run7"
        assert (await site.ask("GET", f"{prefix}/skylinestore/history/*/*", BOB)).json == {}
        assert (await site.ask("POST", f"{prefix}/translator/etc%2Fpasswd")).status == 403
        changed = await site.ask("POST", f"{prefix}/translator", body=LOG, headers={"Content-MD5": content_md5(b"x")})
        assert changed.status == 401
        large = await site.ask("POST", f"{prefix}/translator", body=b"x" * (MAX_BODY + 1))
        assert large.status == 413 and "64 MiB" in large.json["detail"]
        assert (await site.ask("GET", "/nowhere")).json["type"] == "urn:retz:not-found"


# -- trouble -----------------------------------------------------------------------------------------------------------


async def test_a_failing_estimator_stops_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lanes = FakeLanes()
    lanes.failure = WorkerFailed("no worker today")
    async with estimating(tmp_path, lanes) as site:
        await run_job(site, run="a")
        await site.until(lambda: lanes.tries >= 3)
        await run_job(site, run="b")
        skylines = site.core.skylines
        assert (await site.get("/status", ROOT)).json["estimator_failure"] == "no worker today"
        assert (await site.get("/status", ANN)).json["estimator_failure"] is None
        while True:  # one that is being tried does not wait at that moment
            metrics = (await site.ask("GET", "/metrics", None)).body.decode()
            if "retz_skylines_waiting 2" in metrics:
                break
        assert "retz_skylines_recorded_total 0" in metrics
        assert sum("no worker today" in record.message for record in caplog.records) == 1
        (tmp_path / "skylines" / "ann").mkdir()
        unavailable = await site.get("/pipelines/p")
        assert unavailable.status == 503 and "no worker today" in unavailable.json["detail"]
        assert (await site.ask("GET", "/healthz", None)).status == 200
        lanes.failure = None
        await site.until(lambda: sorted(lanes.runs()) == ["a", "b"])
        await site.until(lambda: skylines.failure is None)


def test_what_is_sent_to_workers_is_packed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickling in one piece would hold the event loop, in whichever thread it happens."""
    sizes: list[int] = []

    def watched(items: list[int], protocol: int) -> bytes:
        sizes.append(len(items))
        return pickle.dumps(items, protocol=protocol)

    with monkeypatch.context() as patched:
        patched.setattr(packed, "pickle", SimpleNamespace(dumps=watched, loads=pickle.loads))
        patched.setattr(packed, "PACKED_AT_ONCE", 3)
        parts = packed.Packed(list(range(7)))
        assert pickle.loads(pickle.dumps(parts)) == list(range(7))
    assert sizes == [3, 3, 1]
    assert _unpacked(packed.Packed([])) == []


async def test_one_run_that_cannot_be_written_is_not_in_the_way_of_others(tmp_path: Path) -> None:
    class Picky(FakeLanes):
        async def call(self, place: Path, operation: str, /, **arguments: Any) -> Outcome:
            if arguments["run"] == "bad":
                self.tries += 1
                raise RuntimeError("not this one")
            return await super().call(place, operation, **arguments)

    lanes = Picky()
    async with estimating(tmp_path, lanes) as site:
        for name in ("bad", "good"):
            await run_job(site, run=name)
        await site.until(lambda: lanes.runs() == ["good"] and lanes.tries > 4)


async def test_who_keeps_no_skylines_has_none(tmp_path: Path) -> None:
    async with estimating(tmp_path, options={"retz.estimator.enabled": "false"}) as site:
        await run_job(site)
        reply = await site.get("/pipelines/p")
        assert reply.status == 409 and "retz.estimator.enabled" in reply.json["detail"]
        assert (await site.ask("GET", "/resourceestimator/pipelines")).status == 404
        assert site.core.skylines.runs.waiting == 0
    assert not (tmp_path / "skylines").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retz.estimator.alpha": "1.5"}, "alpha"),
        ({"retz.estimator.solver": "best"}, "no solver 'best'"),
        ({"retz.estimator.interval": "1.5s"}, "whole seconds"),
        ({"retz.estimator.min-runs": "0"}, "minJobRuns"),
        ({"retz.estimator.keep-runs": "0"}, "keep-runs"),
    ],
)
def test_wrong_settings_are_told_at_the_start(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recorder.estimator_config(load_server({"retz.data-dir": str(tmp_path), **options}, environ={"HOME": "/nobody"}))


# -- nothing is lost, nothing is done twice for nothing ----------------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is moved at once, and what was written is on the disk at once."""
    monkeypatch.setattr(recorder, "MARK_EVERY_S", 0.0)
    monkeypatch.setattr(recorder, "ON_DISK_AFTER_S", 0.0)


def mark_of(core: Core) -> float:
    saved = core.db.meta.record("skylines")
    return -1.0 if saved is None else float(saved["recorded_until"])


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("archived", [True, False])
async def test_what_a_crash_left_unwritten_is_written_at_the_next_start(tmp_path: Path, archived: bool) -> None:
    async with running_site(tmp_path) as site:  # its recorder never comes to it
        job_id = await run_job(site, run="left")
        if archived:
            await Housekeeping(site.core).archive_ended()
    lanes = FakeLanes()
    async with estimating(tmp_path, lanes) as site:
        await site.until(lambda: lanes.runs() == ["left"])
        (place, arguments) = lanes.calls[0]
        assert (place, arguments["pipeline"], len(arguments["spans"]), len(arguments["usages"])) == ("ann", "p", 1, 1)
        await site.until(lambda: mark_of(site.core) > 0 and not site.core.skylines.runs.waiting)
        if not archived:
            await Housekeeping(site.core).archive_ended()
        assert site.core.find(job_id) is not None
    third = FakeLanes()
    async with estimating(tmp_path, third) as site:
        await run_job(site, run="new")
        await site.until(lambda: "new" in third.runs())
        assert third.runs() == ["new"], "what was written is not written again"


async def test_what_was_written_just_before_is_written_again_for_a_power_cut_may_have_taken_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MARK_EVERY_S", 0.0)
    first, second = FakeLanes(), FakeLanes()
    async with estimating(tmp_path, first) as site:
        await run_job(site, run="young")
        await site.until(lambda: first.runs() == ["young"] and mark_of(site.core) > 0)
        await Housekeeping(site.core).archive_ended()
    async with estimating(tmp_path, second) as site:
        await site.until(lambda: second.runs() == ["young"])


@pytest.mark.usefixtures("often")
async def test_the_mark_never_passes_what_is_not_written(tmp_path: Path) -> None:
    lanes = FakeLanes()
    async with estimating(tmp_path, lanes) as site:
        await run_job(site, run="first")
        await site.until(lambda: lanes.runs() == ["first"] and mark_of(site.core) > 0)
        lanes.failure = WorkerFailed("not now")
        job_id = await run_job(site, run="second")
        await Housekeeping(site.core).archive_ended()
        await site.until(lambda: lanes.tries > 5)
        job = site.core.find(job_id)
        assert job is not None and job.ended is not None and mark_of(site.core) <= job.ended
    again = FakeLanes()
    async with estimating(tmp_path, again) as site:
        await site.until(lambda: again.runs() == ["second"])


@pytest.mark.usefixtures("often")
async def test_news_of_an_end_long_ago_takes_the_mark_back(tmp_path: Path) -> None:
    lanes = FakeLanes()
    async with estimating(tmp_path, lanes) as site:
        await run_job(site, run="first")
        await site.until(lambda: lanes.runs() == ["first"] and mark_of(site.core) > 0)
        job_id = await site.running(pipeline="p", run="late")
        job = site.core.db.jobs.record(job_id)
        assert job is not None
        past = mark_of(site.core) - 50.0
        site.core.skylines.runs.left(replace(job, state="FINISHED", ended=past))
        assert mark_of(site.core) == past


async def test_a_run_that_goes_on_after_a_restart_is_written_as_a_whole(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await run_job(site, run="mine")
        await Housekeeping(site.core).archive_ended()
        await run_job(site, run="mine")
    lanes = FakeLanes()
    async with estimating(tmp_path, lanes) as site:
        await run_job(site, run="mine")
        await site.until(lambda: len(lanes.calls) > 0 and len(lanes.calls[-1][1]["spans"]) == 3)


async def test_without_its_directory_everything_is_written_again(tmp_path: Path) -> None:
    lanes = FakeLanes()
    async with estimating(tmp_path, lanes, {"retz.estimator.keep-runs": "2"}) as site:
        for name in ("a", "b", "c"):
            await run_job(site, run=name)
        await Housekeeping(site.core).archive_ended()
        await site.until(lambda: {"b", "c"} <= set(lanes.runs()))
    (tmp_path / "skylines").rmdir()
    again = FakeLanes()
    async with estimating(tmp_path, again, {"retz.estimator.keep-runs": "2"}) as site:
        await site.until(lambda: again.runs() == ["b", "c"])


async def test_a_run_of_many_jobs_one_after_the_other_costs_no_more_than_a_few_times_their_number(
    tmp_path: Path,
) -> None:
    lanes = FakeLanes()
    async with estimating(tmp_path, lanes) as site:
        housekeeping = Housekeeping(site.core)
        housekeeping.start()
        try:
            for _ in range(400):
                job_id = await site.submit(pipeline="p", run="long")
                await site.until(lambda task=f"{job_id}.1": site.engine.launched[-1].id == task)
                site.engine.started(f"{job_id}.1")
                site.engine.ended(f"{job_id}.1")
            await site.until(lambda: bool(lanes.calls) and len(lanes.calls[-1][1]["spans"]) == 400)
            assert sum(len(arguments["spans"]) for _, arguments in lanes.calls) <= 4 * 400
        finally:
            await housekeeping.stop()


async def test_a_client_that_hangs_up_ends_its_prediction(tmp_path: Path) -> None:
    class Slow(FakeLanes):
        def __init__(self) -> None:
            super().__init__()
            self.began, self.given_up = asyncio.Event(), asyncio.Event()

        async def call(self, place: Path, operation: str, /, **arguments: Any) -> Outcome:
            self.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.set()
            raise AssertionError

    lanes = Slow()
    (tmp_path / "skylines" / "ann").mkdir(parents=True)
    async with estimating(tmp_path, lanes) as site:
        asked = asyncio.ensure_future(site.get("/pipelines/p/prediction"))
        async with asyncio.timeout(30):
            await lanes.began.wait()
            asked.cancel()
            await lanes.given_up.wait()
