"""The life of an array: pure functions from one record of it, and of its tasks, to the next.

An array's record is QUEUED until nothing of it can happen any more. Its tasks get records of their own when they are
started, in order of their places; one at a later place only when somebody changes just that one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from .lifecycle import Drop, Kill
from .model.array import Array
from .model.job import ENDED_STATES, Job, State


def array_of(job: Job) -> Array:
    """The array in the record of one."""
    if job.array is None:
        raise ValueError(f"job {job.id} is no array")
    return job.array


def place_of_id(job: Job, task_id: int) -> int | None:
    """The place of the task with this job id in the array; None if it has no such task."""
    place = task_id - job.id - 1
    return place if 0 <= place < array_of(job).size else None


def id_at(job: Job, place: int) -> int:
    """The job id of the task at a place."""
    return job.id + 1 + place


def recorded(array: Array, place: int) -> bool:
    """Whether the task at a place has, or had, a record of its own."""
    return place < array.next or place in array.apart


def task_at(job: Job, place: int) -> Job:
    """The task at a place as it is while it has no record of its own: queued, or as its array ended."""
    array = array_of(job)
    task = replace(
        job, id=id_at(job, place), array=None, array_id=job.id, array_index=array.index_of(place),
        after=(), after_any=(), start_at=None, max_fails=0, on_end=None,
    )  # fmt: skip
    if place < array.end:
        return task
    reason = "user" if job.kill_requested is not None else job.reason or "max_fails"
    return replace(task, state="KILLED", reason=reason, message=job.message, held=False)


def with_records(job: Job, places: Collection[int]) -> tuple[Job, list[int]]:
    """The array after the tasks at these places were started, and the places before them that were passed over.

    Those become records too, so that everything below ``next`` has one.
    """
    array = array_of(job)
    new = max(places) + 1
    if new <= array.next:
        return job, []
    skipped = [place for place in range(array.next, new) if place not in places and place not in array.apart]
    apart = tuple(place for place in array.apart if place >= new)
    return replace(job, array=replace(array, next=new, apart=apart)), skipped


def with_apart(job: Job, place: int) -> Job:
    """The array after the task at this place, which had no record, got one out of turn."""
    array = array_of(job)
    apart = tuple(sorted((*array.apart, place)))
    new = array.next
    while apart and apart[0] == new:
        apart, new = apart[1:], new + 1
    return replace(job, array=replace(array, next=new, apart=apart))


def with_end(job: Job, state: State) -> Job:
    """The array after one of its tasks ended so."""
    array = array_of(job)
    if state == "FINISHED":
        return replace(job, array=replace(array, finished=array.finished + 1))
    if state == "FAILED":
        return replace(job, array=replace(array, failed=array.failed + 1))
    return replace(job, array=replace(array, killed=array.killed + 1))


def too_many_failed(job: Job) -> bool:
    """Whether what has not started must be dropped now for its ``max_fails``."""
    array = array_of(job)
    return 0 < job.max_fails <= array.failed and array.cut is None


def cut(job: Job, event: Kill | Drop) -> Job:
    """The array from now on: nothing of it is started any more. What runs is not its business here."""
    array = array_of(job)
    after = replace(job, array=replace(array, cut=min(array.next, array.end)), message=event.message, held=False)
    if isinstance(event, Kill):
        return replace(after, kill_requested=event.at)
    return replace(after, reason=event.reason)


def settled(job: Job, at: float) -> Job:
    """The array, ended if nothing of it can happen any more."""
    array = array_of(job)
    if not array.over or job.state in ENDED_STATES:
        return job
    if job.kill_requested is not None:
        return replace(job, state="KILLED", reason="user", ended=at, held=False)
    if job.reason == "max_fails":
        # Whether it failed by itself, or with its group before any of it could.
        return replace(job, state="FAILED" if array.failed else "KILLED", ended=at, held=False)
    if job.reason == "dependency":
        return replace(job, state="FAILED", ended=at, held=False)
    bad = array.failed + array.killed
    if not bad:
        return replace(job, state="FINISHED", reason=None, message=None, ended=at, held=False)
    words = " and ".join(
        f"{number} {word}" for number, word in ((array.failed, "failed"), (array.killed, "killed")) if number
    )
    state: State = "FAILED" if array.failed else "KILLED"
    return replace(job, state=state, reason="tasks", message=f"of {array.size} tasks: {words}", ended=at, held=False)


def summary(array: Array) -> str:
    """How far it is, in one line: ``3 active, 96 waiting, 1 failed, 900 finished of 1000``."""
    counts: Iterable[tuple[int, str]] = (
        (array.active, "active"),
        (array.waiting, "waiting"),
        (array.failed, "failed"),
        (array.killed + array.dropped, "killed"),
        (array.finished, "finished"),
    )
    return ", ".join(f"{number} {word}" for number, word in counts if number) + f" of {array.size}"
