"""Off its path: running jobs that are slower or hungrier than the runs of their pipeline before, real ones too."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from retz.engine.local.engine import LocalEngine
from retz.model.job import Attempt, Job, Usage
from retz.model.notice import Notice
from retz.model.resources import Resources
from retz.server.learning import paths
from retz.server.learning.watch import PATH_KEPT_S, Watch
from retz.server.notify.notifier import Notifier
from retz.server.notify.outbox import Outbox
from retz.store.database import Change

from .http_site import ANN, BOB, Site, running_site

pytestmark = pytest.mark.anyio

EAT = "import sys, time; held = b'x' * (int(sys.argv[1]) << 20); time.sleep(600)"


class Ticks:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path) as running:
        await running.core.learner.loaded()
        running.core.watch = Watch(running.core, Ticks())
        yield running


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Site]:
    engine = LocalEngine(
        tmp_path / "engine", total=Resources(4, 2000, 0, 0, 0), gpus=(), sample_interval_s=0.1, linger_s=0.0
    )
    async with running_site(tmp_path, engine=engine) as running:
        await running.core.learner.loaded()
        running.core.watch = Watch(running.core, Ticks())
        yield running
        await running.ask("POST", "/api/v2/jobs/kill", filter={"state": ["LIVE"]})
        await running.until(lambda: not running.core.dispatcher.ledger.running)


def tick(site: Site, seconds: float) -> None:
    ticks = site.core.watch._ticks
    assert isinstance(ticks, Ticks)
    ticks.now += seconds


def past(
    site: Site, owner: str = ANN.key, runs: int = 8, seconds: float = 60.0, peak: float = 60.0,
    held: tuple[float, ...] = (),
) -> None:  # fmt: skip
    """So many runs of step train of pipeline p, that differ by some per cent.

    Args:
        held: What they held in each part of their time, MiB; nobody knows, if empty.
    """
    for number in range(runs):
        more = 1 + (number % 5) / 50
        usage = Usage(
            cpu_s=1.0, max_rss_mb=peak * more, interval_s=seconds * more / max(1, len(held)),
            series=tuple((10, round(mib * more)) for mib in held),
        )  # fmt: skip
        attempt = Attempt(1, "a1", 100.0, started=100.0, ended=100.0 + seconds * more, exit_code=0, usage=usage)
        site.core.learner.past.add(
            Job(id=900_000 + number, owner=owner, command="x", name="train", resources=Resources(1, 500),
                submitted=100.0, state="FINISHED", ended=attempt.ended, attempts=(attempt,), pipeline="p",
                run=f"r{number}")
        )  # fmt: skip


async def begun(site: Site, **fields: Any) -> int:
    """A job of pipeline p that runs."""
    return await site.running(pipeline="p", name="train", resources={"cpus": 1, "mem": 500}, **fields)


async def flags(site: Site, job_id: int) -> dict[str, Any]:
    """The flags of a job, by kind."""
    found = (await site.get(f"/jobs/{job_id}")).json["off_path"]
    assert len({how["kind"] for how in found}) == len(found)
    return {how["kind"]: how for how in found}


async def eater(site: Site, megabytes: int) -> int:
    """A real job that holds so much."""
    fields = {"pipeline": "p", "name": "train", "resources": {"cpus": 1, "mem": 600}}
    reply = await site.ask(
        "POST", "/api/v2/jobs", jobs=[{"command": [sys.executable, "-c", EAT, str(megabytes)], **fields}]
    )
    job_id = int(reply.json["ids"][0])
    await site.until(lambda: (job := site.core.db.jobs.record(job_id)) is not None and job.state == "STARTED")
    return job_id


async def test_a_real_job_that_is_hungrier_or_slower_is_flagged_once_and_a_normal_one_is_not(
    real: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SLACK_MB", 5.0)
    past(real)
    normal, hungry = await eater(real, 40), await eater(real, 300)
    since = real.core.db.seq

    async with asyncio.timeout(20):
        while not await flags(real, hungry):
            await real.core.watch.look()  # each look asks the launcher, which samples them
    found = (await flags(real, hungry))["hungrier"]
    assert found["value"] > 66 and 60 < found["usual"] < 66 and (found["runs"], found["attempt"]) == (8, 1)
    assert await flags(real, normal) == {}
    tick(real, 90.0)
    await real.core.watch.look()
    assert set(await flags(real, hungry)) == {"hungrier", "slower"}
    assert (await flags(real, normal))["slower"]["value"] >= 90.0
    seq = real.core.db.seq
    await real.core.watch.look()
    assert real.core.db.seq == seq > since, "told once"
    why = (await real.get(f"/jobs/{hungry}/why")).json["summary"]
    assert "hungrier than usual: " in why and "; slower than usual: 1m3" in why


async def test_nothing_is_concluded_from_a_past_that_is_not_read_yet(site: Site) -> None:
    site.core.learner.ready = False
    job = await begun(site)
    await site.core.watch.look()
    past(site, seconds=6.0)
    site.core.learner.ready = True
    await site.core.watch.look()
    tick(site, PATH_KEPT_S / 2)  # an empty path would still be believed
    await site.core.watch.look()
    assert set(await flags(site, job)) == {"slower"}


async def test_runs_of_which_jobs_still_run_are_no_measure(site: Site) -> None:
    """Their short jobs have ended, their long ones have not: nobody knows yet how long such a run takes."""
    past(site, runs=6)
    long = [await begun(site, run=f"r{number}") for number in range(2)]
    await site.core.watch.look()
    tick(site, 600.0)
    await site.core.watch.look()
    assert [await flags(site, each) for each in long] == [{}, {}]
    site.engine.ended(f"{long[0]}.1")
    await site.until(lambda: (job := site.core.db.jobs.record(long[0])) is None or job.state == "FINISHED")
    for _ in range(2):
        tick(site, 600.0)
        await site.core.watch.look()
    assert set(await flags(site, long[1])) == {"slower"}, "the whole runs are five now"


async def test_a_real_job_that_is_hungrier_than_usual_at_its_time_is_flagged_below_the_peak_of_whole_runs(
    real: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SLACK_MB", 5.0)
    past(real, seconds=600.0, peak=900.0, held=(60.0, 60.0, 900.0, 60.0))
    normal, hungry = await eater(real, 40), await eater(real, 300)

    async with asyncio.timeout(20):
        while not await flags(real, hungry):
            await real.core.watch.look()
    found = (await flags(real, hungry))["hungrier"]
    assert found["value"] > 66 and 64 < found["usual"] < 70 and found["runs"] == 8 and found["after_s"] is not None
    assert await flags(real, normal) == {}
    why = (await real.get(f"/jobs/{hungry}/why")).json["summary"]
    assert "hungrier than usual: " in why and why.endswith(f", in 9 of 10 runs at most {found['usual']:.0f}M then"), why

    tick(real, 330.0)  # in their third quarter all the others held as much
    late = await eater(real, 300)
    real.core.clock = lambda: time.time() + 330
    real.core.watch = Watch(real.core, Ticks())
    async with asyncio.timeout(20):
        while not (await real.core.engine.usage([f"{late}.1"], series=False))[f"{late}.1"].series:
            pass  # each time the launcher samples it
    for _ in range(3):
        await real.core.watch.look()
    assert await flags(real, late) == {}


async def test_one_look_above_the_band_flags_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    past(site, seconds=600.0, peak=900.0, held=(60.0, 60.0, 900.0, 60.0))
    job_id = await begun(site)
    held = [500]

    async def usage(tasks: Any, *, series: bool = True) -> dict[str, Usage]:
        return {task: Usage(max_rss_mb=500.0, interval_s=5.0, series=((100, held[0]),)) for task in tasks}

    monkeypatch.setattr(site.engine, "usage", usage)
    for held[0] in (500, 60, 500, 60):
        await site.core.watch.look()
    assert await flags(site, job_id) == {}
    for held[0] in (500, 400):
        await site.core.watch.look()
    assert (await flags(site, job_id))["hungrier"]["value"] == 400


async def test_a_clock_that_leaps_makes_nobody_slow(site: Site) -> None:
    past(site)
    job_id = await begun(site)
    await site.core.watch.look()
    site.core.clock = lambda: time.time() + 86_400
    tick(site, 5.0)
    await site.core.watch.look()
    assert await flags(site, job_id) == {}
    site.core.clock = lambda: time.time() - 86_400
    tick(site, 90.0)
    await site.core.watch.look()
    assert set(await flags(site, job_id)) == {"slower"}


async def test_a_job_that_ran_before_the_server_came_back_is_as_old_as_its_record_says(site: Site) -> None:
    past(site)
    job_id = await begun(site)
    site.core.clock = lambda: time.time() + 300
    await site.core.watch.look()
    assert (await flags(site, job_id))["slower"]["value"] >= 300


async def test_others_pasts_and_unknown_steps_flag_nobody(site: Site) -> None:
    past(site, owner=BOB.key)
    past(site, runs=paths.MIN_RUNS - 1)
    known, alone = await begun(site), await site.running(name="train")
    tick(site, 9000.0)
    await site.core.watch.look()
    assert await flags(site, known) == {} == await flags(site, alone)


async def test_a_job_that_ended_while_the_engine_was_asked_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    past(site, peak=1.0)
    monkeypatch.setattr(paths, "SLACK_MB", 0.0)
    job_id = await begun(site)
    ask = site.engine.usage

    async def slowly(tasks: Any, *, series: bool = True) -> dict[str, Usage]:
        site.engine.ended(f"{job_id}.1")
        return await ask(tasks, series=series)

    monkeypatch.setattr(site.engine, "usage", slowly)
    await site.core.watch.look()
    assert await flags(site, job_id) == {}


class Sent:
    """Takes calls instead of a receiver."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def send(self, target: str, body: bytes, headers: dict[str, str]) -> None:
        self.bodies.append(json.loads(body))


LOOPBACK: dict[str, object] = {"retz.notify.allow": "127.0.0.0/8"}
HOOK = "http://127.0.0.1:9/hook"


def holds(site: Site, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every job holds so much."""

    async def usage(tasks: Any, *, series: bool = True) -> dict[str, Usage]:
        return {task: Usage(max_rss_mb=float(megabytes)) for task in tasks}

    monkeypatch.setattr(site.engine, "usage", usage)


async def test_its_url_is_told_of_each_kind_once_and_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_site(tmp_path, LOOPBACK) as site:
        await site.core.learner.loaded()
        past(site)
        sent = Sent()
        notifier = Notifier(site.core, sent)
        await notifier.start()
        job_id = await begun(site, on_end=HOOK)
        site.core.clock = lambda: time.time() + 300
        await site.core.watch.look()
        await site.until(lambda: sent.bodies)
        holds(site, 500, monkeypatch)
        for _ in range(3):
            await site.core.watch.look()
        await site.until(lambda: len(sent.bodies) == 2)
        await site.until(lambda: not site.core.outbox.waiting)
        told = (await site.get(f"/jobs/{job_id}")).json["news"]
        assert [(news["event"], news["kind"], news["state"]) for news in told] == [
            ("off_path", "slower", "delivered"),
            ("off_path", "hungrier", "delivered"),
        ]
        site.engine.ended(f"{job_id}.1")
        await site.until(lambda: len(sent.bodies) == 3)
        await notifier.stop()
    assert [(body["event"], body.get("kind"), body["id"]) for body in sent.bodies] == [
        ("off_path", "slower", f"{job_id}/off_path/slower"),
        ("off_path", "hungrier", f"{job_id}/off_path/hungrier"),
        ("ended", None, f"{job_id}/ended"),
    ]
    assert [[how["kind"] for how in body["job"]["off_path"]] for body in sent.bodies[:2]] == [
        ["slower"],
        ["slower", "hungrier"],
    ]


async def test_both_kinds_survive_a_restart_and_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_site(tmp_path, LOOPBACK) as site:
        await site.core.learner.loaded()
        past(site)
        job_id = await begun(site, on_end=HOOK)
        site.core.clock = lambda: time.time() + 300
        holds(site, 500, monkeypatch)
        await site.core.watch.look()
        await site.core.settled()
        names = [f"{job_id}/off_path/slower", f"{job_id}/off_path/hungrier"]
        assert list(site.core.outbox.waiting) == names
    for expected in (names, []):
        async with running_site(tmp_path, LOOPBACK) as site:
            assert set(await flags(site, job_id)) == {"slower", "hungrier"}
            sent = Sent()
            notifier = Notifier(site.core, sent)
            await notifier.start()
            await site.until(lambda: not site.core.outbox.waiting)
            await site.core.settled()
            await notifier.stop()
        assert sorted(body["id"] for body in sent.bodies) == sorted(expected)
        assert all(body["id"].endswith(body["kind"]) for body in sent.bodies)


async def test_what_an_older_server_left_to_be_told_keeps_its_id(site: Site) -> None:
    job_id = await begun(site, on_end="https://hook.test/")
    old = Notice(id=f"{job_id}/off_path", event="off_path", owner=ANN.key, receiver="https://hook.test:443", at=1.0)
    await site.core.db.apply([Change("notices", old.id, old)])
    outbox = site.core.outbox = Outbox(site.core.db, time.time)
    assert list(outbox.waiting) == [old.id]
    assert [(n["event"], n["kind"]) for n in (await site.get(f"/jobs/{job_id}")).json["news"]] == [("off_path", None)]
    sent = Sent()
    notifier = Notifier(site.core, sent)
    await notifier.start()
    await site.until(lambda: not outbox.waiting)
    await notifier.stop()
    assert [(body["id"], body.get("kind")) for body in sent.bodies] == [(old.id, None)]


async def test_of_ten_thousand_pipelines_just_those_off_their_path_are_flagged(site: Site) -> None:
    now = time.time()
    changes = []
    for number in range(10_000):
        for run in range(paths.MIN_RUNS):
            site.core.learner.past.add(ended(number, run))
        late = 500.0 if number % 100 == 0 else 10.0
        running = Attempt(1, "a1", now - late, started=now - late)
        changes.append(Change("jobs", 10_000 + number, ended(number, 9, 10_000 + number, running)))
    await site.core.db.apply(changes)
    site.core.dispatcher.ledger.running.update(range(10_000, 20_000))
    await site.core.watch.look()
    flagged = [job.id for job in site.core.db.jobs.records().values() if job.off_path]
    assert flagged == list(range(10_000, 20_000, 100))
    site.core.dispatcher.ledger.running.clear()
    await site.core.watch.look()
    assert len(site.core.watch._paths) == 10_000
    tick(site, PATH_KEPT_S)
    await site.core.watch.look()
    assert not site.core.watch._paths, "those of what does not run any more are forgotten"


def ended(pipeline: int, run: int, job_id: int = 1, running: Attempt | None = None) -> Job:
    """A job of some pipeline, that took 100 seconds or still runs."""
    attempt = running or Attempt(1, "a1", 0.0, started=0.0, ended=100.0)
    return Job(
        id=job_id, owner=ANN.key, command="x", name="train", resources=Resources(1, 500), submitted=0.0,
        state="FINISHED" if running is None else "STARTED", ended=attempt.ended, attempts=(attempt,),
        pipeline=f"p{pipeline}", run=f"r{run}",
    )  # fmt: skip
