"""What is still to be told, and what became of what was: records of the store, with bounds.

A notice is recorded in the same journal line as what it tells of, so no crash can come between. It waits here until
it was delivered or given up, and then stays a while so that its job can show how it went.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable

from msgspec.structs import replace

from retz.model.job import Job, OffPathKind
from retz.model.notice import EventKind, Notice, NoticeState, notice_id, notice_ids
from retz.store.database import Change, Database

from .targets import receiver_of

log = logging.getLogger("retz.notify")

MOST_WAITING = 10_000
"""Of one user. What comes beyond is dropped: its receiver has been dead for long, or will never keep up."""
MOST_WAITING_OF_ALL = 50_000
MOST_DONE = 10_000
DONE_KEPT_S = 7 * 86_400.0


class Pending:
    """A notice under way.

    Attributes:
        tries: Calls that failed since the server's start.
        error: What was wrong with the last one.
        due: Not to be tried before, on the courier's clock; 0: at once.
        listed: The courier has it.
    """

    __slots__ = ("due", "error", "listed", "notice", "tries")

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self.tries = 0
        self.error: str | None = None
        self.due = 0.0
        self.listed = False


class Tally:
    """Counts since the server's start, for metrics."""

    def __init__(self) -> None:
        self.delivered = 0
        self.given_up = 0
        self.dropped = 0
        self.failed_calls = 0
        self.commands: Counter[str] = Counter()


class Outbox:
    """The notices of one store. All methods are called on the event loop's thread."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._notices = db.notices
        self._clock = clock
        self.waiting: dict[str, Pending] = {}
        self.tally = Tally()
        self._of_owner: Counter[str] = Counter()
        self._done: deque[Notice] = deque()
        self._load()

    def _load(self) -> None:
        records: list[Notice] = list(self._notices.records().values())
        for notice in records:
            if notice.state == "waiting":
                self._add(notice)
        self._done.extend(sorted((n for n in records if n.done is not None), key=lambda notice: notice.done or 0.0))

    def _add(self, notice: Notice) -> None:
        self.waiting[notice.id] = Pending(notice)
        self._of_owner[notice.owner] += 1

    def change(self, job: Job, event: EventKind, kind: OffPathKind | None = None) -> Change | None:
        """What must be recorded so that this news of the job is told; None if nobody wants it, or too much waits."""
        name = notice_id(job.id, event, kind)
        if job.on_end is None or name in self.waiting or self._notices.record(name) is not None:
            return None
        if self._of_owner[job.owner] >= MOST_WAITING or len(self.waiting) >= MOST_WAITING_OF_ALL:
            self._drop(job.owner)
            return None
        notice = Notice(
            id=name,
            event=event,
            kind=kind,
            owner=job.owner,
            receiver=receiver_of(job.on_end),
            at=self._clock(),
        )
        self._add(notice)
        return Change("notices", notice.id, notice)

    def _drop(self, owner: str) -> None:
        self.tally.dropped += 1
        if self.tally.dropped % 1000 == 1:
            log.warning(
                "%d notifications wait to be delivered, %d of them for user %s: more are dropped until they are told"
                " or a day old",
                len(self.waiting),
                self._of_owner[owner],
                owner,
            )

    def finished(self, pending: Pending, state: NoticeState) -> list[Change]:
        """What must be recorded when it was delivered, or given up."""
        notice = pending.notice
        if self.waiting.pop(notice.id, None) is not pending:
            return []
        self._of_owner[notice.owner] -= 1
        if not self._of_owner[notice.owner]:
            del self._of_owner[notice.owner]
        if state == "delivered":
            self.tally.delivered += 1
        else:
            self.tally.given_up += 1
        now = self._clock()
        error = None if state == "delivered" else pending.error
        done = replace(notice, state=state, done=now, tries=pending.tries, error=error)
        self._done.append(done)
        return [Change("notices", done.id, done), *(Change("notices", old, None) for old in self._outdated(now))]

    def _outdated(self, now: float) -> list[str]:
        old: list[str] = []
        while len(self._done) > MOST_DONE or (self._done and (self._done[0].done or 0.0) < now - DONE_KEPT_S):
            old.append(self._done.popleft().id)
        return old

    def of_job(self, job_id: int) -> list[Notice]:
        """How it stands with the news of a job; the record, with what is known of calls since the start."""
        found: list[Notice] = []
        for name in notice_ids(job_id):
            pending = self.waiting.get(name)
            if pending is not None:
                found.append(replace(pending.notice, tries=pending.tries, error=pending.error))
            elif (notice := self._notices.record(name)) is not None:
                found.append(notice)
        return found
