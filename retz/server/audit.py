"""What administrators did: a record beside each change, in the same journal; and whose files they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from retz.model.audit import AuditRecord
from retz.model.job import Job
from retz.model.user import User
from retz.store.database import Change, RecordTable

KEPT_S = 365 * 86_400.0
MAX_RECORDS = 50_000
"""Beyond, the oldest go even before their time: the records are in memory."""
MAX_DETAIL = 1000
MAX_NAMED = 20
"""Users and jobs named in one record; of more, the number is told."""
READS_S = 3600.0
"""What one administrator reads of one user's within this time is one record."""


class Actor(NamedTuple):
    """Who does something, and from which network address."""

    user: User
    origin: str = ""


class _Reads(NamedTuple):
    """The record that grows."""

    id: str
    at: float
    jobs: dict[int, None]


class Audit:
    """Makes and finds the records. All methods are called on the event loop's thread."""

    def __init__(self, table: RecordTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._last = 0
        self._reads: dict[tuple[str, str, str], _Reads] = {}

    def change(self, actor: Actor, what: str, whom: Iterable[str] = (), detail: str = "") -> Change:
        """The change that records an action: apply it together with the action's own."""
        at = self._clock()
        return _change(self._new_id(at), at, actor, what, whom, detail)

    def read(self, actor: Actor, job: Job) -> Change | None:
        """The change that records that somebody reads files of another's job; None if that is on record.

        There is one record an hour for each administrator, address and owner, and it grows with the jobs: who follows a
        file asks again and again, and who reads thousands must not drive other records out.
        """
        if job.owner == actor.user.key:
            return None
        at = self._clock()
        who = (actor.user.key, actor.origin, job.owner)
        if who not in self._reads or not 0 <= at - self._reads[who].at < READS_S:
            self._reads = {key: reads for key, reads in self._reads.items() if at - reads.at < READS_S}
            self._reads[who] = _Reads(self._new_id(at), at, {})
        reads = self._reads[who]
        if job.id in reads.jobs:
            return None
        reads.jobs[job.id] = None
        return _change(reads.id, reads.at, actor, "read", [job.owner], f"files of {named(list(reads.jobs))}")

    def _new_id(self, at: float) -> str:
        # Microseconds in 16 digits sort as text until the year 2286; two in one instant are still two.
        self._last = max(self._last + 1, int(at * 1_000_000))
        return f"{self._last:016d}"

    def between(self, since: float, until: float, limit: int) -> list[AuditRecord]:
        """The newest ``limit`` records of a time, oldest first."""
        found: list[AuditRecord] = [each for each in self._table.records().values() if since <= each.at < until]
        found.sort(key=lambda each: each.id)
        return found[-limit:]

    def outdated(self, now: float) -> list[Change]:
        """The changes that forget what is too old or too much."""
        ids = sorted(self._table.records())
        too_many = len(ids) - MAX_RECORDS
        old = (key for place, key in enumerate(ids) if place < too_many or self._at(key) < now - KEPT_S)
        return [Change("audit", key, None) for key in old]

    def _at(self, key: str) -> float:
        record: AuditRecord | None = self._table.record(key)
        return 0.0 if record is None else record.at


def named(ids: Sequence[int]) -> str:
    """Jobs in words: ``jobs 3, 4 and 5``, or the first ones and how many more."""
    texts = [str(each) for each in ids[:MAX_NAMED]]
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return ("job " if len(ids) == 1 else "jobs ") + ", ".join(texts) + more


def _change(record_id: str, at: float, actor: Actor, what: str, whom: Iterable[str], detail: str) -> Change:
    record = AuditRecord(
        id=record_id,
        at=at,
        who=actor.user.key,
        what=what,
        whom=_bounded(sorted(set(whom))),
        detail=detail if len(detail) <= MAX_DETAIL else detail[: MAX_DETAIL - 1] + "…",
        origin=actor.origin,
    )
    return Change("audit", record.id, record)


def _bounded(keys: Sequence[str]) -> tuple[str, ...]:
    if len(keys) <= MAX_NAMED:
        return tuple(keys)
    return (*keys[:MAX_NAMED], f"and {len(keys) - MAX_NAMED} more")
