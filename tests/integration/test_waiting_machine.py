"""Arrays, dependencies and groups through crashes: what is on disk must be a whole state, and life goes on from it.

It is the machinery of test_core_machine.py (a real store on a disk that loses power, an engine that outlives the
server), with other steps and other laws: those that hold between jobs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retz.array_life import recorded
from retz.model.job import ENDED_STATES, LIVE_STATES, RUNNING_STATES, Job, parse_task_id
from retz.model.submission import JobSpec, ResourcesSpec
from retz.server.housekeeping import Housekeeping

from .test_core_machine import ANN, PowerLossMachine

NEED = ResourcesSpec(cpus=1, mem=1)
SLOTS = 3


class World(PowerLossMachine):
    """One queue, its machines and its disk; driven by :func:`test_laws_between_jobs`."""

    def __init__(self) -> None:
        super().__init__()
        self.singled_out: set[int] = set()
        """Arrays of which somebody changed a single task: their limits say nothing exact any more."""

    def records(self) -> dict[int, Job]:
        """All jobs there are, by id."""
        found = {number: self.archive.get(number) for number in range(1, 400)}
        return {number: job for number, job in found.items() if job is not None} | dict(self.db.jobs.records())

    def check_records(self, found: dict[int, Job]) -> None:
        """Right after a crash, before the server has done anything: batches are whole."""
        jobs = self.records()
        for task in self.world.launched:
            number, attempt = parse_task_id(task)
            assert len(jobs[number].attempts) >= attempt, f"{task} was launched before that was safe"
        for job in jobs.values():
            check_array(job, jobs)

    def check(self) -> None:
        """After every step."""
        jobs = self.records()
        for job in jobs.values():
            check_array(job, jobs)
            check_dependencies(job, jobs)
            self.check_group(job)
        running = {number for number, job in jobs.items() if job.state in RUNNING_STATES}
        assert set(self.core.dispatcher.ledger.running) == running
        assert {parse_task_id(task)[0] for task in self.world.live} == running
        if len(running) < SLOTS:
            idle = [job.id for job in jobs.values() if self.could_start(job, jobs)]
            assert not idle, f"there is room, and these wait: {idle}"

    def could_start(self, job: Job, jobs: dict[int, Job]) -> bool:
        if job.state != "QUEUED" or job.held or self.core.dispatcher.following.waiting.blocks(job.id):
            return False
        if job.array_id is not None:
            return not jobs[job.array_id].held
        array = job.array
        return array is None or (array.waiting > 0 and (not array.limit or array.active < array.limit))

    def check_group(self, job: Job) -> None:
        if job.group and job.state == "QUEUED":
            saved = self.db.meta.record(f"group ann/{job.group}") or {"fails": 0, "limit": 1}
            assert not 0 < saved["limit"] <= saved["fails"], f"{job.id} should have been dropped"
        if job.array is not None and job.array.limit and job.id not in self.singled_out:
            tasks = [task for task in self.world.live if job.id < parse_task_id(task)[0] <= job.id + job.array.size]
            assert len(tasks) <= job.array.limit

    # -- steps ---------------------------------------------------------------------------------------------

    def new(self, kind: str, which: int, size: int) -> list[JobSpec]:
        ids = [number for number, job in self.records().items() if job.array_id is None]
        target = ids[which % len(ids)] if ids else None
        if kind == "array":
            return [JobSpec(command="x", resources=NEED, array=f"1-{2 * size}", max_retries=1)]
        if kind == "limited":
            return [JobSpec(command="x", resources=NEED, array=f"1-{2 * size}%2", max_fails=2, max_retries=1)]
        if kind == "group":
            if self.core.dispatcher.following.groups.tripped(ANN.key, "g", 1 + which % 2):
                return []
            return [JobSpec(command="x", resources=NEED, group="g", max_fails=1 + which % 2, max_retries=0)] * (
                size + 3
            )
        if kind == "chain":
            return [JobSpec(command="x", resources=NEED, after=(f"#{n - 1}",) if n else None) for n in range(size)]
        after = None if target is None else (target if size % 2 else f"{target}:any",)
        return [JobSpec(command="x", resources=NEED, after=after)]

    async def begin(self, step: str, which: int, size: int) -> None:  # type: ignore[override]
        """Do something, as far as it comes before the end."""
        if step in ("array", "limited", "group", "chain", "after"):
            specs = self.new(step, which, size)
            if specs:
                await self.core.submissions.submit(ANN, specs, None, "")
        elif step in ("kill", "hold", "release"):
            await self.act(step, which)
        elif step == "archive":
            await Housekeeping(self.core).archive_ended()
        elif step in ("started", "lost", "ended", "failed"):
            await self.hear(which, "ended" if step == "failed" else step, int(step == "failed"))

    async def act(self, action: Any, which: int) -> None:
        jobs = self.db.jobs.records()
        live = [number for number, job in jobs.items() if job.state in LIVE_STATES]
        if which % 2:
            live = [number for number in live if jobs[number].array is not None] or live
        if not live:
            return
        job = jobs[live[which // 2 % len(live)]]
        number = job.id
        if job.array is not None and which % 4 > 1:
            number += 1 + which % job.array.size  # a task that may have no record yet
        if job.array_id is not None or number != job.id:
            self.singled_out.add(job.id if number != job.id else job.array_id or 0)
        await self.core.actions.act(ANN, action, [number])

    def power_loss(self, step: str, which: int, size: int, turns: int) -> None:
        """The end comes while something is on its way."""
        task = self.loop.create_task(self.begin(step, which, size))

        async def a_little() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(a_little())
        self.engine.dead = True
        if task.done():
            task.result()
        self.take_what_is_left("synced" if which % 2 else "all", (None, 40, 400, 800)[which % 4])
        self.bury()
        self.recover()
        self.run(asyncio.sleep(0))


def check_array(job: Job, jobs: dict[int, Job]) -> None:
    """The counts of an array are those of its tasks."""
    array = job.array
    if array is None:
        return
    tasks = {place: jobs[job.id + 1 + place] for place in range(array.size) if job.id + 1 + place in jobs}
    assert set(tasks) == {place for place in range(array.size) if recorded(array, place)}
    states = [task.state for task in tasks.values()]
    assert [array.finished, array.failed, array.killed] == [
        states.count(state) for state in ("FINISHED", "FAILED", "KILLED")
    ]
    assert (job.state in ENDED_STATES) == array.over
    if job.kill_requested is not None:
        assert all(task.state in ENDED_STATES or task.kill_requested for task in tasks.values())


def check_dependencies(job: Job, jobs: dict[int, Job]) -> None:
    """Nothing started before what it waits for had ended; nothing waits for what has ended badly."""
    ends = {number: jobs[number].state for number in (*job.after, *job.after_any)}
    begun = bool(job.attempts) or (job.array is not None and job.array.next > 0)
    if begun:
        assert all(state in ENDED_STATES for state in ends.values())
        assert all(ends[number] == "FINISHED" for number in job.after)
    if job.state == "QUEUED":
        assert not any(ends[number] in ("FAILED", "KILLED") for number in job.after)
    if job.reason == "dependency":
        assert not begun
        assert job.state == "FAILED"


SUBMITS = st.sampled_from(["array", "limited", "group", "chain", "after"])
CHANGES = st.sampled_from(["kill", "hold", "release", "archive"])
NEWS = st.sampled_from(["started", "lost", "failed", "failed", "ended", "ended"])
DOING = st.one_of(SUBMITS, CHANGES, NEWS, NEWS)
STEPS = st.lists(
    st.tuples(DOING, st.integers(0, 11), st.integers(1, 5), st.sampled_from([None, None, None, 0, 1, 2, 4])),
    min_size=20,
    max_size=40,
)


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_laws_between_jobs(steps: list[tuple[str, int, int, int | None]]) -> None:
    world = World()
    world.open()
    world.run(world.core.start())
    try:
        for step, which, size, turns in steps:
            if turns is None:
                world.run(world.begin(step, which, size))
            else:
                world.power_loss(step, which, size, turns)
            world.check()
    finally:
        world.teardown()
