"""Promises of core and housekeeping at awkward moments: a request cancelled, a disk that fails, a clock that jumps."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from retz.config_server import load_server
from retz.model.job import Job
from retz.model.submission import JobSpec, ResourcesSpec
from retz.model.user import User
from retz.scheduler.scheduler import Scheduler
from retz.scheduler.work import Work
from retz.server import housekeeping, planning
from retz.server.core import Core
from retz.server.housekeeping import Housekeeping
from retz.server.problem import Problem
from retz.server.submitting import SLICE
from retz.store.aggregates import AggregateStore
from retz.store.archive import Archive
from retz.store.database import Database, StoreFailed
from tests.doubles.disk import Disk

from .http_site import ANN, PuppetEngine

pytestmark = pytest.mark.anyio
DAY_S = 86_400.0


class Place:
    """A core with a puppet engine, on a disk that the test has in its hand."""

    def __init__(self, core: Core, engine: PuppetEngine, disk: Disk) -> None:
        self.core, self.engine, self.disk = core, engine, disk

    async def submit(self, count: int = 1, key: str | None = None, **more: Any) -> tuple[list[int], bool]:
        specs = [JobSpec(command="true", **more) for _ in range(count)]
        ids, replayed = await self.core.submissions.submit(ANN, specs, key, "digest")
        return list(ids), replayed

    async def running(self, **more: Any) -> int:
        (number,), _ = await self.submit(**more)
        await self.until(lambda: any(task.id == f"{number}.1" for task in self.engine.launched))
        self.engine.started(f"{number}.1")
        await self.core.settled()
        return number

    def launched(self, number: int) -> bool:
        return any(task.id == f"{number}.1" for task in self.engine.launched)

    async def fail(self) -> None:
        """Let the disk fail under the next change."""
        self.disk.broken = True
        with pytest.raises(StoreFailed):
            await self.core.dispatcher.set_mode("open")

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 (no event exists for what tests look at)
                await asyncio.sleep(0.001)


@asynccontextmanager
async def place_in(directory: Path) -> AsyncIterator[Place]:
    disk = Disk()
    with Database.open(directory, files=disk) as db:
        db.attach(asyncio.get_running_loop())
        archive = Archive.open(directory / "archive")
        engine = PuppetEngine()
        core = Core(
            db=db,
            archive=archive,
            aggregates=AggregateStore(directory / "aggregates"),
            scheduler=Scheduler(),
            engine=engine,
            config=load_server({"retz.data-dir": str(directory)}),
        )
        await core.start()
        try:
            yield Place(core, engine, disk)
        finally:
            disk.open.set()
            await core.stop()
            archive.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in(tmp_path) as made:
        yield made


# -- submitting ------------------------------------------------------------------------------------------------


async def test_a_bulk_whose_client_goes_is_whole_and_answers_its_key(place: Place) -> None:
    count = 5 * SLICE
    place.disk.open.clear()
    request = asyncio.ensure_future(place.submit(count, "k"))
    await place.until(lambda: len(place.core.db.jobs) > 0)
    request.cancel()
    await asyncio.wait([request])
    place.disk.open.set()
    await place.until(lambda: len(place.core.db.jobs) == count)
    ids, replayed = await place.submit(count, "k")
    assert (ids, replayed) == (list(place.core.db.jobs.all_ids()), True)
    await place.until(lambda: place.core.db.published_seq == place.core.db.seq)  # events are not stuck behind it


async def test_a_repeated_key_is_answered_while_the_queue_drains(place: Place) -> None:
    first, _ = await place.submit(key="k")
    await place.core.set_mode("draining")
    assert await place.submit(key="k") == (first, True)
    with pytest.raises(Problem, match="draining"):
        await place.submit(key="another")
    with pytest.raises(Problem, match="draining"):
        await place.submit()


async def test_who_waits_for_the_same_key_does_not_slip_into_a_draining_queue(place: Place) -> None:
    place.core.submissions._submitting["ann/k"] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(place.submit(key="k"))
    await asyncio.sleep(0)
    await place.core.set_mode("draining")
    place.core.submissions._submitting.pop("ann/k").set_result(None)
    with pytest.raises(Problem, match="draining"):
        await waiting


async def test_resubmitting_many_lets_others_have_their_turn(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, _ = await place.submit(4 * SLICE, held=True)
    looked_at: list[int] = []
    visible = place.core.visible

    def look(user: User, job_id: int) -> Job:
        looked_at.append(job_id)
        return visible(user, job_id)

    monkeypatch.setattr(place.core, "visible", look)
    request = asyncio.ensure_future(place.core.actions.act(ANN, "resubmit", ids))
    await asyncio.sleep(0)
    assert 0 < len(looked_at) <= SLICE
    assert all(result.ok for result in await request)


# -- planning --------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_planner(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every pass is solved aside, and ends when the event is set."""
    go = threading.Event()
    solve = Work.solve

    def slow(self: Work) -> Any:
        assert go.wait(30)
        return solve(self)

    monkeypatch.setattr(planning, "INLINE_SHAPES", 0)
    monkeypatch.setattr(Work, "solve", slow)
    return go


async def test_what_comes_while_a_plan_is_made_aside_is_planned_after_it(
    place: Place, slow_planner: threading.Event
) -> None:
    slow_planner.set()
    await place.running(resources=ResourcesSpec(cpus=2.0, mem=100))
    slow_planner.clear()
    await place.submit(resources=ResourcesSpec(cpus=4.0, mem=100))  # its pass will place nothing
    assert place.core.dispatcher.planning._solving is not None
    (small,), _ = await place.submit(resources=ResourcesSpec(cpus=1.0, mem=100))
    slow_planner.set()
    await place.until(lambda: place.launched(small))


async def test_a_plan_made_before_the_pause_is_not_believed_after_it(
    place: Place, slow_planner: threading.Event
) -> None:
    (number,), _ = await place.submit()
    await place.core.set_mode("paused")
    slow_planner.set()
    await place.until(lambda: place.core.dispatcher.planning._solving is None)
    await place.core.settled()
    await asyncio.sleep(0)
    job = place.core.find(number)
    assert job is not None and (job.state, place.launched(number)) == ("QUEUED", False)
    await place.core.set_mode("open")
    await place.until(lambda: place.launched(number))


# -- a disk that fails -----------------------------------------------------------------------------------------


async def test_an_end_that_is_not_on_disk_does_not_get_into_the_archive(place: Place) -> None:
    first, second = await place.running(), await place.running()
    place.engine.ended(f"{first}.1")
    await place.core.settled()
    place.disk.broken = True
    place.engine.ended(f"{second}.1")
    await place.until(lambda: place.core.read_only)
    with pytest.raises(StoreFailed):
        await Housekeeping(place.core).archive_ended()
    assert place.core.archive.get(second) is None


async def test_refused_changes_leave_queue_and_ledger_as_the_records_say(place: Place) -> None:
    runs = await place.running(resources=ResourcesSpec(cpus=4.0, mem=100))
    (waits,), _ = await place.submit()
    await place.fail()
    place.engine.ended(f"{runs}.1")
    job = place.core.find(waits)
    assert job is not None
    with pytest.raises(StoreFailed):
        place.core.actions._act_on(ANN, "kill", [waits], None, [])
    assert place.core.find(waits) == job
    assert waits in place.core.scheduler
    assert place.core.running() == 1
    assert not place.core.dispatcher.ended
    with pytest.raises(Problem, match="read-only"):
        await place.core.actions.act(ANN, "kill", [waits])


async def test_nobody_is_told_of_an_end_that_a_restart_may_not_know(place: Place) -> None:
    (number,), _ = await place.submit(held=True)
    place.disk.broken = True
    with pytest.raises(StoreFailed):
        await place.core.actions.act(ANN, "kill", [number])
    with pytest.raises(StoreFailed):
        await place.core.ended(number, 0.0)


async def test_what_is_no_array_in_a_large_request_is_refused_with_its_place(place: Place) -> None:
    specs = [JobSpec(command="true") for _ in range(SLICE + 1)]
    specs[SLICE] = JobSpec(command="true", array="9-1")
    with pytest.raises(Problem, match=rf"jobs\[{SLICE}\]\.array"):
        await place.core.submissions.submit(ANN, specs, None, "digest")
    assert not place.core.db.jobs.records()


async def test_killed_in_the_queue_counts_as_killed(place: Place) -> None:
    (number,), _ = await place.submit(held=True)
    await place.core.actions.act(ANN, "kill", [number])
    assert place.core.counters.killed == 1


# -- the background --------------------------------------------------------------------------------------------


async def test_background_work_outlives_what_nobody_expected(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "ARCHIVE_AFTER_S", 0.001)
    append, tries = place.core.archive.append, []

    def damaged(jobs: Any) -> None:
        tries.append(len(jobs))
        if len(tries) == 1:
            raise KeyError("surprise")
        append(jobs)

    monkeypatch.setattr(place.core.archive, "append", damaged)
    number = await place.running()
    work = Housekeeping(place.core)
    work.start()
    with caplog.at_level(logging.ERROR):
        place.engine.ended(f"{number}.1")
        await place.until(lambda: place.core.archive.get(number) is not None)
    await work.stop()
    assert "surprise" in caplog.text


@pytest.mark.parametrize("turns", range(5))
async def test_background_work_stops_also_while_a_full_batch_is_told(place: Place, turns: int) -> None:
    """A cancellation that comes in the same turns of the loop as the end of a wait must not get lost."""
    work = Housekeeping(place.core)
    work.start()
    work._some_ended.set()
    for _ in range(3):
        await asyncio.sleep(0)
    work._batch_full.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await work.stop()


async def test_a_turn_that_fails_is_followed_by_another(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []
    done = asyncio.Event()

    async def work() -> None:
        turns.append(1)
        if len(turns) == 1:
            raise ZeroDivisionError("surprise")
        done.set()

    task = asyncio.ensure_future(housekeeping._every(0.0, work))
    async with asyncio.timeout(30):
        await done.wait()
    task.cancel()
    await asyncio.wait([task])
    assert "surprise" in caplog.text


# -- sandboxes -------------------------------------------------------------------------------------------------


def later(place: Place, days: float) -> None:
    place.core.clock = lambda: time.time() + days * DAY_S


async def ended(place: Place) -> str:
    number = await place.running()
    place.engine.ended(f"{number}.1")
    await place.core.settled()
    return f"{number}.1"


async def test_the_sandbox_of_what_ended_while_the_server_was_away_is_removed_too(place: Place) -> None:
    """The first turn comes before the archive has the job."""
    task = await ended(place)
    work = Housekeeping(place.core)
    later(place, 8)
    await work.sweep()
    await work.archive_ended()
    await work.sweep()
    assert task not in place.engine.files


async def test_what_was_handed_over_just_before_a_stop_is_handed_over_again(place: Place) -> None:
    task = await ended(place)
    await Housekeeping(place.core).archive_ended()
    later(place, 8)
    await Housekeeping(place.core).sweep()
    place.engine.files[task] = {}  # the engine stopped before it came to it
    later(place, 8.1)
    await Housekeeping(place.core).sweep()
    assert task not in place.engine.files


async def test_a_clock_that_was_ahead_does_not_keep_sandboxes_for_ever(place: Place) -> None:
    work = Housekeeping(place.core)
    for days in (4000, 4001):
        later(place, days)
        await work.sweep()
    task = await ended(place)
    await work.archive_ended()
    for days in (0, 8):
        later(place, days)
        await Housekeeping(place.core).sweep()
    assert task not in place.engine.files


async def test_sandboxes_do_not_outlive_the_records_that_name_them(place: Place) -> None:
    place.core.config = load_server({"retz.data-dir": "/x", "retz.archive.keep": "2d", "retz.sandbox.keep": "7d"})
    task = await ended(place)
    await Housekeeping(place.core).archive_ended()
    later(place, 3)
    await Housekeeping(place.core).sweep()
    assert place.core.find(int(task.partition(".")[0])) is None
    assert task not in place.engine.files
