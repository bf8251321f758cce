"""The hot job table without its journal: the real indexes over plain records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retz.model.job import Job
from retz.store.indexes import JobIndexes


class HotTable:
    """What queries need of a job table; every change raises ``seq``."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.seq = 0
        self._records: dict[int, Job] = {}
        self._indexes = JobIndexes()
        for job in jobs:
            self.put(job)

    def put(self, job: Job) -> None:
        """Add or replace."""
        self._indexes.change(job.id, self._records.get(job.id), job)
        self._records[job.id] = job
        self.seq += 1

    def delete(self, job_id: int) -> None:
        """Remove; it must be there."""
        self._indexes.change(job_id, self._records.pop(job_id), None)
        self.seq += 1

    def record(self, job_id: int) -> Job | None:
        return self._records.get(job_id)

    def records(self) -> Mapping[int, Job]:
        return self._records

    def ids(self, field: str, value: Any) -> Sequence[int]:
        return self._indexes.ids(field, value)

    def all_ids(self) -> Sequence[int]:
        ids: Sequence[int] = self._indexes.all
        return ids

    def values(self, field: str) -> Sequence[Any]:
        return self._indexes.values(field)

    def count(self, field: str, value: Any) -> int:
        return len(self._indexes.ids(field, value))
