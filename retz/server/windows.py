"""What the scheduler sees of arrays: of each the next few hundred tasks, made up when they come into view."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from sortedcontainers import SortedDict

from retz.array_life import array_of, id_at, place_of_id, recorded, task_at
from retz.model.job import Job

WINDOW = 512
"""Twice what one planning pass places, so that a pass never finds the window empty before the array is."""


class Windows:
    """The live arrays. Memory per array is O(window), whatever its size.

    Args:
        record: A live job's record.
    """

    def __init__(self, record: Callable[[int], Job | None]) -> None:
        self._record = record
        self._ends: SortedDict[int, int] = SortedDict()
        """Array -> the place where its window ends; the window begins at its ``next``."""

    def enter(self, job: Job) -> None:
        """A new array, nothing of which is in view."""
        self._ends[job.id] = array_of(job).next

    def leave(self, job: Job) -> None:
        """An array has ended."""
        self._ends.pop(job.id, None)

    def widen(self, job: Job) -> list[Job]:
        """Tasks that come into view: those are to be queued."""
        array = array_of(job)
        end = max(self._ends.get(job.id, 0), array.next)
        shown = end - array.next - sum(place < end for place in array.apart)
        wanted = min(WINDOW, array.limit - array.active) if array.limit else WINDOW
        tasks = []
        while shown < wanted and end < array.end:
            if end not in array.apart:
                tasks.append(task_at(job, end))
                shown += 1
            end += 1
        self._ends[job.id] = end
        return tasks

    def close(self, job: Job) -> list[int]:
        """Ids of the tasks that were in view: none is any more."""
        array = array_of(job)
        end = self._ends.get(job.id, array.next)
        self._ends[job.id] = array.next
        return [id_at(job, place) for place in range(array.next, end) if place not in array.apart]

    def ids(self) -> list[int]:
        """All live arrays."""
        return list(self._ends)

    def find(self, task_id: int) -> Job | None:
        """A task of a live array that has no record of its own, as if it had; None for any other id."""
        place_in_order = self._ends.bisect_left(task_id)
        if not place_in_order:
            return None
        array_id = cast(int, self._ends.peekitem(place_in_order - 1)[0])
        job = self._record(array_id)
        if job is None or job.array is None:
            return None
        place = place_of_id(job, task_id)
        return None if place is None or recorded(job.array, place) else task_at(job, place)
