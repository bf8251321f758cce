"""What follows from a change for other jobs: dependents, groups, arrays and their tasks.

A :class:`Batch` takes the steps of some jobs, adds every step that they bring about, and gives the whole as one list
of changes: one line of the journal. What would be more than :data:`MOST` steps for one end goes to a backlog instead,
which is worked off in later turns of the loop, and found again in the records after a crash.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from retz import array_life
from retz.lifecycle import Drop, Effect, Event, Kill, advance
from retz.model.job import LIVE_STATES, Job
from retz.store.database import Change, Database

from .groups import Groups, key_of
from .skylines.runs import Runs
from .waiting import Waiting
from .windows import Windows

MOST = 200
"""Jobs killed, dropped or freed in one turn of the loop: about 4 ms."""

Cause = Kill | Drop | Job
Todo = tuple[Iterator[int], Cause]
"""Jobs to kill, jobs to drop if they are queued, or jobs that waited for one that has ended."""


class Outcome(NamedTuple):
    """One step of one job."""

    before: Job
    after: Job
    effects: tuple[Effect, ...]


class Following:
    """Indexes over live jobs, kept by the dispatcher's steps and made anew at every start.

    Args:
        archived: Looks up an ended job that is not in the store any more.
        runs: Told of tasks that get a record.

    Attributes:
        news: What must be recorded with the end of a job so that others are told of it.
    """

    def __init__(self, db: Database, archived: Callable[[int], Job | None], runs: Runs | None) -> None:
        self.db = db
        self.runs = runs
        self._record = db.jobs.records().get
        self._archived = archived
        self.waiting = Waiting(lambda job_id: db.jobs.record(job_id) or archived(job_id))
        self.groups = Groups(lambda key: db.meta.record(key))
        self.windows = Windows(db.jobs.record)
        self.backlog: deque[Todo] = deque()
        self.news: Callable[[Job], Change | None] = lambda job: None

    def load(self, jobs: Iterable[Job], now: float) -> None:
        """Take the live jobs that are there at the start, and what a crash left undone."""
        for job in jobs:
            if job.state in LIVE_STATES:
                self.arrive(job, now)
                if job.array is not None and (cause := _cause_of(job, now)) is not None:
                    self.put_off(self.recorded_tasks(job), cause)
        for message, ids in self.groups.all_tripped():
            self.put_off(ids, Drop(now, "max_fails", message))

    def arrive(self, job: Job, now: float) -> None:
        """A job is live from now on."""
        if job.array is not None:
            self.windows.enter(job)
        if job.group:
            stopped, message = self.groups.enter(job)
            if stopped:  # a bound lower than those of before, reached between its check and now
                self.put_off(stopped, Drop(now, "max_fails", message))
        if job.state == "QUEUED" and (job.after or job.after_any or job.start_at is not None):
            doom = self.waiting.enter(job, now)
            if doom is not None:
                self.put_off((job.id,), Drop(now, "dependency", _doom(doom)))

    def recorded_tasks(self, array: Job) -> Iterator[int]:
        """Ids of an array's tasks that have a record. Looked up bit by bit: records may come and go meanwhile."""
        ids: Any = self.db.jobs.all_ids()
        first, last = array.id + 1, array.id + array_life.array_of(array).size
        while part := list(islice(ids.irange(first, last), MOST)):
            yield from part
            first = part[-1] + 1

    def doom(self, job: Job, array: Job | None, now: float) -> Kill | Drop | None:
        """What must become of a queued job that must not be started any more; None for others.

        Args:
            array: Its array, if it is a task of one.
        """
        if job.group and self.groups.tripped(job.owner, job.group):
            return Drop(now, "max_fails", self.groups.message(job.owner, job.group))
        return None if array is None else _cause_of(array, now)

    def stillborn(self, job: Job) -> str | None:
        """Why a job that is not submitted yet would end at once, unstarted; None if it would not."""
        awaited = self.waiting.doomed(job)
        return None if awaited is None else f"job {awaited} did not end well; see 'retz why {awaited}'"

    def stopped(self, job: Job) -> bool:
        """Whether :meth:`doom` has something for it: it may wait in the backlog for that."""
        if job.array_id is not None:
            array = self._record(job.array_id)
            return array is None or (array.array is not None and array.array.cut is not None)
        return bool(job.group) and self.groups.tripped(job.owner, job.group)

    def put_off(self, ids: Iterable[int], cause: Cause) -> None:
        """See to these in later batches; see :meth:`Batch.catch_up`."""
        self.backlog.append((iter(ids), cause))

    def startable(self, job: Job) -> Sequence[Job]:
        """What of a queued job may be started: itself, some tasks of an array, or nothing yet."""
        if job.held or self.waiting.blocks(job.id) or self.stopped(job):
            return ()
        if job.array is not None:
            return self.windows.widen(job)
        if job.array_id is not None:
            array = self.db.jobs.record(job.array_id)
            return () if array is None or array.held else (job,)
        return (job,)

    def unqueued(self, job: Job) -> Sequence[int]:
        """Ids under which the scheduler may know it."""
        return (job.id,) if job.array is None else self.windows.close(job)

    def find(self, job_id: int) -> Job | None:
        """A live job, or a task that has no record yet."""
        return self._record(job_id) or self.windows.find(job_id)

    def gone(self, job: Job) -> None:
        """It has ended, and that is in memory."""
        if job.array is not None:
            self.windows.leave(job)

    def batch(self, now: float) -> Batch:
        """Begin a step."""
        return Batch(self, now)

    def started(self, launched: Sequence[Job]) -> tuple[list[Change], list[int]]:
        """Changes that must go with these launches: of arrays whose tasks got records by them. And the arrays' ids."""
        places: dict[int, list[int]] = {}
        for job in launched:
            if job.array_id is not None:
                places.setdefault(job.array_id, []).append(job.id - job.array_id - 1)
        changes: list[Change] = []
        for array_id, started in places.items():
            array = self.db.jobs.record(array_id)
            if array is None or array.array is None:
                continue
            fresh = {place for place in started if not array_life.recorded(array.array, place)}
            if not fresh:
                continue
            after, skipped = array_life.with_records(array, fresh)
            new = [array_life.task_at(array, place) for place in skipped]
            changes += [Change("jobs", job.id, job) for job in (after, *new)]
            self._enter_runs([*new, *(job for job in launched if job.array_id == array_id and _fresh(job, fresh))])
        return changes, list(places)

    def _enter_runs(self, tasks: Iterable[Job]) -> None:
        if self.runs is not None:
            for task in tasks:
                if task.pipeline is not None:
                    self.runs.entered(task)


class Batch:
    """Steps of one atomic batch. Take or cause them, then ask for :meth:`changes` once.

    Attributes:
        outcomes: All steps that have effects, in order.
        ready: Jobs that waited for others and need not any more.
        arrays: Arrays of which something may be started now.
    """

    def __init__(self, following: Following, now: float) -> None:
        self._following = following
        self._find = following.find
        self._now = now
        self.outcomes: list[Outcome] = []
        self.ready: list[int] = []
        self.arrays: dict[int, None] = {}
        self._changed: dict[int, Job] = {}
        self._meta: dict[str, dict[str, Any] | None] = {}
        self._news: list[Change] = []
        self._ended: deque[Job] = deque()
        self._again: list[Job] = []
        self._left = MOST

    def record(self, job_id: int) -> Job | None:
        """The job as this batch has it."""
        return self._changed.get(job_id) or self._find(job_id)

    def event(self, job: Job, event: Event) -> None:
        """Apply an event to a job, or to an array and its tasks."""
        if job.array is not None:
            self._array_event(job, event)
            return
        after, effects = advance(job, event)
        if after is not job or effects:
            self.take(job, after, effects)

    def take(self, before: Job, after: Job, effects: tuple[Effect, ...]) -> None:
        """Take a step that was made elsewhere."""
        if after is not before:
            if before.array_id is not None:
                self._give_record(before)
            self._changed[after.id] = after
        if effects:
            self.outcomes.append(Outcome(before, after, effects))
            if "end" in effects:
                self._ended.append(after)
            elif "enqueue" in effects and (after.array_id is not None or after.group):
                self._again.append(after)

    def changes(self) -> list[Change]:
        """Everything that follows included."""
        for job in self._again:
            array = None if job.array_id is None else self.record(job.array_id)
            doom = self._following.doom(job, array, self._now)
            if doom is not None and self.record(job.id) is job:
                self.event(job, doom)
        while self._ended or self._settle():
            while self._ended:
                self._after_end(self._ended.popleft())
        jobs = [Change("jobs", job.id, job) for job in self._changed.values()]
        return [*jobs, *(Change("meta", key, record) for key, record in self._meta.items()), *self._news]

    def catch_up(self) -> None:
        """Do some of what earlier batches put off."""
        backlog = self._following.backlog
        while backlog and self._left:
            ids, cause = backlog[0]
            if self._go_on(ids, cause):
                backlog.popleft()

    def _begin(self, ids: Iterable[int], cause: Cause) -> None:
        left = iter(ids)
        if not self._go_on(left, cause):
            self._following.put_off(left, cause)

    def _go_on(self, ids: Iterator[int], cause: Cause) -> bool:
        """Do it to as many jobs as this batch may hold. Returns whether those were all."""
        while self._left:
            job_id = next(ids, None)
            if job_id is None:
                return True
            self._left -= 1
            if isinstance(cause, Job):
                self._resolve(job_id, cause)
            else:
                self._stop(job_id, cause)
        return False

    def _stop(self, job_id: int, cause: Kill | Drop) -> None:
        job = self.record(job_id)
        if job is not None and (job.state == "QUEUED" or isinstance(cause, Kill)):
            self.event(job, cause)

    def _resolve(self, waiting: int, ended: Job) -> None:
        verdict = self._following.waiting.resolve(waiting, ended)
        if verdict == "ready":
            self.ready.append(waiting)
        elif verdict == "doomed":
            self._stop(waiting, Drop(self._now, "dependency", _doom(ended.id)))

    # -- arrays --------------------------------------------------------------------------------------------

    def _give_record(self, task: Job) -> None:
        """Somebody changes a task that had no record: its array must know that it has one now."""
        array_id = task.array_id
        if array_id is None or task.id in self._changed or self._following.db.jobs.record(task.id) is not None:
            return
        array = self.record(array_id)
        if array is not None:
            self._changed[array_id] = array_life.with_apart(array, task.id - array_id - 1)
            self.arrays[array_id] = None
            if self._following.runs is not None and task.pipeline is not None:
                self._following.runs.entered(task)

    def _array_event(self, job: Job, event: Event) -> None:
        if job.state != "QUEUED":
            return
        ids = self._following.recorded_tasks(job)
        if isinstance(event, Kill | Drop):
            self._changed[job.id] = after = array_life.cut(job, event)
            self.outcomes.append(Outcome(job, after, ("dequeue",)))
            self.arrays[job.id] = None
            self._begin(ids, event)
            return
        self.take(job, *advance(job, event))
        for task in map(self.record, ids):
            if task is not None and task.state == "QUEUED":
                self.event(task, event)
                self.ready.append(task.id)  # one that came back to the queue of a held array waits for its release

    def _settle(self) -> bool:
        """End the arrays of which nothing is left. Returns whether there was one."""
        for array_id in self.arrays:
            array = self.record(array_id)
            if array is not None and array.array is not None:
                after = array_life.settled(array, self._now)
                if after is not array:
                    self.take(array, after, ("dequeue", "end"))
        return bool(self._ended)

    # -- ends ----------------------------------------------------------------------------------------------

    def _after_end(self, job: Job) -> None:
        if job.on_end is not None and (news := self._following.news(job)) is not None:
            self._news.append(news)
        if job.array_id is not None:
            self._task_ended(job, job.array_id)
        waiting = self._following.waiting
        if waiting:
            waiting.forget(job.id)
            self._begin(waiting.dependents(job.id), job)
        if job.group:
            record, tripped, message = self._following.groups.ended(job)
            key = key_of(job.owner, job.group)
            if record is not None or self._following.db.meta.record(key) is not None or key in self._meta:
                self._meta[key] = record
            self._begin(tripped, Drop(self._now, "max_fails", message))

    def _task_ended(self, task: Job, array_id: int) -> None:
        array = self.record(array_id)
        if array is None or array.array is None:
            return
        after = self._changed[array_id] = array_life.with_end(array, task.state)
        self.arrays[array_id] = None
        if array_life.too_many_failed(after):
            failed = array_life.array_of(after).failed
            tasks = "task" if failed == 1 else "tasks"
            message = (
                f"{failed} {tasks} of array {array_id} failed (--max-fails {after.max_fails}): no more were started"
            )
            self._array_event(after, Drop(self._now, "max_fails", message))


def _cause_of(array: Job, now: float) -> Kill | Drop | None:
    """What becomes of the queued tasks of an array that was stopped, and of the others if it was killed."""
    if array.array is None or array.array.cut is None:
        return None
    message = array.message or ""
    if array.kill_requested is not None:
        return Kill(array.kill_requested, message)
    return Drop(now, array.reason or "max_fails", message)


def _doom(awaited: int) -> str:
    return f"it waited for job {awaited}, which did not end well: it was not started"


def _fresh(job: Job, places: set[int]) -> bool:
    return job.array_id is not None and job.id - job.array_id - 1 in places
