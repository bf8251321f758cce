"""Secondary indexes of the job table: for each field, value -> ids in ascending order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from sortedcontainers import SortedList

from retz.model.job import Job, State

FIELDS = ("state", "owner", "tag", "application", "pipeline", "priority")

_SINGLE = ("owner", "application", "priority")
_NONE: Sequence[int] = SortedList()


class JobIndexes:
    """Kept in step with the records by :meth:`change`; a job with N tags stands under N of them."""

    def __init__(self) -> None:
        self.all: Any = SortedList()
        self.queued: Counter[str] = Counter()
        """How many jobs each owner has waiting, every task of an array that has not started counted."""
        self.held = 0
        """How many queued records are held."""
        self.started_arrays: set[int] = set()
        """Arrays that stand under STARTED, beside those of their tasks that do."""
        self._by: dict[str, dict[Any, Any]] = {field: {} for field in FIELDS}
        self._state = self._by["state"]
        self._owner, self._application, self._priority = (self._by[field] for field in _SINGLE)

    def build(self, jobs: Iterable[Job]) -> None:
        """Index many jobs at once; the indexes must be empty."""
        groups: dict[str, dict[Any, list[int]]] = {field: {} for field in FIELDS}
        state, owner, tag, application, pipeline, priority = (groups[field] for field in FIELDS)
        ids = []
        for job in jobs:
            number = job.id
            ids.append(number)
            state.setdefault(self._state_of(job), []).append(number)
            owner.setdefault(job.owner, []).append(number)
            if job.state == "QUEUED":
                self.queued[job.owner] += _waiting(job)
                self.held += job.held
            application.setdefault(job.application, []).append(number)
            priority.setdefault(job.priority, []).append(number)
            for name in set(job.tags):
                tag.setdefault(name, []).append(number)
            if job.pipeline is not None:
                pipeline.setdefault(job.pipeline, []).append(number)
        self.all = SortedList(ids)
        for field, values in groups.items():
            self._by[field].update({value: SortedList(numbers) for value, numbers in values.items()})

    def change(self, number: int, old: Job | None, new: Job | None) -> None:
        """Move job ``number`` from where ``old`` stood to where ``new`` stands; None = not there."""
        if new is not None and new.state == "QUEUED":
            self.queued[new.owner] += _waiting(new)
            self.held += new.held
        if old is not None and old.state == "QUEUED":
            self.queued[old.owner] -= _waiting(old)
            self.held -= old.held
            if not self.queued[old.owner]:
                del self.queued[old.owner]
        if old is None:
            if new is not None:
                self._enter(number, new)
        elif new is None:
            self._leave(number, old)
        else:
            self._move(number, old, new)

    def _enter(self, number: int, job: Job) -> None:
        self.all.add(number)
        _add(self._state, self._state_of(job), number)
        _add(self._owner, job.owner, number)
        _add(self._application, job.application, number)
        _add(self._priority, job.priority, number)
        self._enter_optional(number, job)

    def _leave(self, number: int, job: Job) -> None:
        self.all.remove(number)
        _discard(self._state, self._state_of(job), number)
        self.started_arrays.discard(number)
        for field in _SINGLE:
            _discard(self._by[field], getattr(job, field), number)
        self._leave_optional(number, job)

    def _state_of(self, job: Job) -> State:
        """Where the job stands: as people see it."""
        if job.array is None:
            return job.state
        state = job.shown_state
        (self.started_arrays.add if state == "STARTED" else self.started_arrays.discard)(job.id)
        return state

    def _move(self, number: int, old: Job, new: Job) -> None:
        before, after = self._state_of(old), self._state_of(new)  # the new one last: it is remembered
        if before is not after and before != after:
            _discard(self._state, before, number)
            _add(self._state, after, number)
        # Nearly always these are the very same objects: not even worth comparing.
        if old.priority is not new.priority or old.owner is not new.owner or old.application is not new.application:
            self._move_single(number, old, new)
        if old.tags is not new.tags or old.pipeline is not new.pipeline:
            self._leave_optional(number, old)
            self._enter_optional(number, new)

    def _move_single(self, number: int, old: Job, new: Job) -> None:
        for field in _SINGLE:
            before, after = getattr(old, field), getattr(new, field)
            if before != after:
                _discard(self._by[field], before, number)
                _add(self._by[field], after, number)

    def _enter_optional(self, number: int, job: Job) -> None:
        if job.tags:
            by_tag = self._by["tag"]
            for tag in job.tags if len(job.tags) == 1 else set(job.tags):
                _add(by_tag, tag, number)
        if job.pipeline is not None:
            _add(self._by["pipeline"], job.pipeline, number)

    def _leave_optional(self, number: int, job: Job) -> None:
        for tag in set(job.tags):
            _discard(self._by["tag"], tag, number)
        if job.pipeline is not None:
            _discard(self._by["pipeline"], job.pipeline, number)

    def ids(self, field: str, value: Hashable) -> Sequence[int]:
        """Return the ids under a value; a live list, not to be changed."""
        found: Sequence[int] = self._by[field].get(value, _NONE)
        return found

    def values(self, field: str) -> list[Any]:
        """Return the distinct values present, sorted."""
        return sorted(self._by[field])


def _waiting(job: Job) -> int:
    return 1 if job.array is None else job.array.waiting


def _add(values: dict[Any, Any], value: Any, number: int) -> None:
    numbers = values.get(value)
    if numbers is None:
        values[value] = SortedList((number,))
    else:
        numbers.add(number)


def _discard(values: dict[Any, Any], value: Any, number: int) -> None:
    numbers = values[value]
    numbers.remove(number)
    if not numbers:
        del values[value]
