"""Which runs of pipelines have live jobs, and which have to be written down: counters, kept as jobs come and end.

Everything here happens on the event loop's thread and costs O(log n) per job at most.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple

from retz.model.job import LIVE_STATES, Job

QUIET_S = 1.0
"""A run is written when nothing of it has ended for so long."""
LATEST_S = 10.0
"""Or at latest so long after it first had no live job and was not written yet."""
REST_S = 0.001
"""A run is not written again before so long for each of its jobs: that costs some 5 % of the time (a job takes 50 us),
however many they become."""
REMEMBERED_IDS = 200_000
"""Ids of jobs that are remembered of runs without live jobs, so that the next job finds its run without a search."""
MOST_HURRIED = 1_000
"""With more runs waiting none is written before its time: the list is walked for that, 1 ms at this length."""
RUN_WEIGHT = 100
"""What a remembered run costs by itself, in ids: 2 000 runs of one job are remembered."""
MOST_STALE = 1_000
"""Noted ends that mean nothing any more, beyond as many as there are runs that wait."""


class RunKey(NamedTuple):
    """One run of one user's pipeline."""

    owner: str
    pipeline: str
    run: str


class Run:
    """What is known of a run.

    Attributes:
        ids: Its jobs, as far as known; all of them if ``whole``.
        live: How many of them have not ended.
        unwritten: Whether something ended since it was last written.
        earliest: Epoch seconds of the first such end; infinite without one.
        version: Changes with every job that comes or ends.
        failures: How often in a row it could not be written.
    """

    __slots__ = (
        "earliest", "failures", "ids", "key", "live", "not_before", "queued", "quiet_from", "since", "unwritten",
        "version", "whole",
    )  # fmt: skip

    def __init__(self, key: RunKey, whole: bool) -> None:
        self.key = key
        self.ids = array("q")
        self.whole = whole
        self.live = 0
        self.unwritten = False
        self.earliest = inf
        self.version = 0
        self.failures = 0
        self.since = self.quiet_from = self.not_before = 0.0
        self.queued = False

    def due_at(self) -> float:
        """When it shall be written, on the monotonic clock."""
        return max(min(self.quiet_from + QUIET_S, self.since + LATEST_S), self.not_before)


def key_of(job: Job) -> RunKey | None:
    """The run that a job belongs to; None for a job that is no part of any."""
    if job.pipeline is None or job.run is None:
        return None
    return RunKey(job.owner, job.pipeline, job.run)


def fresh_run(now: float, first: int) -> str:
    """The name of a run that begins at ``now`` with job ``first``: readable, and never used before."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{first}"


class Runs:
    """All runs with live jobs, those that wait to be written, and some that may soon go on.

    Args:
        monotonic: The clock by which writing is put off.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._runs: dict[RunKey, Run] = {}
        self._due: list[tuple[float, int, Run]] = []
        self._ends: list[tuple[float, int, Run]] = []
        """A heap of the earliest unwritten ends of what waits; what has changed since is left out when it comes up."""
        self._pushed = 0
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._idle: OrderedDict[RunKey, Run] = OrderedDict()
        self._idle_ids = 0
        self.on_due: Callable[[], None] = lambda: None
        self.on_late: Callable[[float], None] = lambda ended: None

    # -- told by the dispatcher ------------------------------------------------------------------------------

    def load(self, jobs: Iterable[Job]) -> None:
        """Take the jobs that are there at the start: runs with an ended one among them are to be written."""
        for job in jobs:
            run = self._enter(job)
            if run is None:
                continue
            # Even one that began with this job: others of it may have ended and been archived by now.
            run.whole = False
            if job.state in LIVE_STATES:
                run.live += 1
            else:
                self._ended(run, job)

    def entered(self, job: Job) -> None:
        """A job of a pipeline is in the queue."""
        run = self._enter(job)
        if run is not None:
            run.live += 1

    def left(self, job: Job) -> None:
        """It has ended."""
        key = key_of(job)
        run = None if key is None else self._runs.get(key)
        if run is not None:
            run.live -= 1
            self._ended(run, job)

    def _enter(self, job: Job) -> Run | None:
        key = key_of(job)
        if key is None:
            return None
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(key, key.run == fresh_run(job.submitted, job.id))
        elif key in self._idle:
            self._awake(run)
        run.ids.append(job.id)
        run.version += 1
        return run

    def _awake(self, run: Run) -> None:
        del self._idle[run.key]
        self._idle_ids -= RUN_WEIGHT + len(run.ids)

    def _ended(self, run: Run, job: Job) -> None:
        self.unwritten(run, 0.0 if job.ended is None else job.ended)

    # -- for the recorder --------------------------------------------------------------------------------------

    def found(self, key: RunKey, ids: Iterable[int], *, whole: bool) -> Run:
        """A run about which the archive has told something: these jobs of it have ended."""
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(key, whole)
        elif key in self._idle:
            self._awake(run)
        run.ids.extend(sorted(set(ids).difference(run.ids)))
        run.whole = run.whole or whole
        return run

    def unwritten(self, run: Run, ended: float) -> None:
        """A job of the run ended (at ``ended``, epoch seconds), which the history does not say yet."""
        now = self._monotonic()
        if not run.unwritten:
            run.unwritten, run.since, run.earliest = True, inf, inf
        run.version += 1
        run.quiet_from = now
        run.earliest = min(run.earliest, ended)
        self.on_late(ended)
        if not run.live:
            run.since = min(run.since, now)
            if run.queued:
                self._note_end(run)  # it may be earlier now, or have been left out while the run had a live job
            self.push(run)

    def push(self, run: Run) -> None:
        """Let it come again from :meth:`pop`, when it is due."""
        if not run.queued:
            run.queued = True
            self._waiting[run.key[:2]] += 1
            self._pushed += 1
            heapq.heappush(self._due, (run.due_at(), self._pushed, run))
            self._note_end(run)
            self.on_due()

    def _note_end(self, run: Run) -> None:
        self._pushed += 1
        heapq.heappush(self._ends, (run.earliest, self._pushed, run))
        if len(self._ends) > 2 * len(self._due) + MOST_STALE:
            self._ends = [(each.earliest, number, each) for _, number, each in self._due if not each.live]
            heapq.heapify(self._ends)

    def pop(self) -> Run | None:
        """The next run that is due and has no live job; None if there is none now."""
        now = self._monotonic()
        while self._due and self._due[0][0] <= now:
            _, number, run = heapq.heappop(self._due)
            if run.due_at() > now and not run.live:
                heapq.heappush(self._due, (run.due_at(), number, run))
                continue
            run.queued = False
            self._forget_waiting(run)
            if not run.live:  # else its last job's end brings it again
                return run
        return None

    def _forget_waiting(self, run: Run) -> None:
        place = run.key[:2]
        self._waiting[place] -= 1
        if not self._waiting[place]:
            del self._waiting[place]

    def next_due(self) -> float | None:
        """When to look again, on the monotonic clock; None if nothing waits."""
        return self._due[0][0] if self._due else None

    def waiting_of(self, owner: str, pipeline: str | None) -> int:
        """How many runs of a pipeline (None: of all the owner's) wait to be written."""
        if pipeline is not None:
            return self._waiting.get((owner, pipeline), 0)
        return sum(number for place, number in self._waiting.items() if place[0] == owner)

    def pending(self, key: RunKey) -> bool:
        """Whether the run goes on, or is to be written yet."""
        return key in self._runs and key not in self._idle

    def hurry(self, owner: str, pipeline: str | None, within_s: float) -> bool:
        """Somebody wants to know about the pipeline, or all: do not wait until all is quiet there.

        Returns:
            Whether something of it is due within so long.
        """
        if self.waiting > MOST_HURRIED or not self.waiting_of(owner, pipeline):
            return False
        mine = [run for _, _, run in self._due if run.key.owner == owner and pipeline in (None, run.key.pipeline)]
        for run in mine:
            run.since = -inf
        self._due = [(run.due_at(), number, run) for _, number, run in self._due]
        heapq.heapify(self._due)
        return any(run.due_at() <= self._monotonic() + within_s for run in mine)

    @property
    def waiting(self) -> int:
        """Number of runs that wait to be written."""
        return len(self._due)

    def earliest_unwritten(self) -> float:
        """Epoch seconds of the earliest end, of a run without live jobs, that is not written; infinite if all are.

        A run with live jobs needs no memory of what ended: when the last of them ends, all is written.
        """
        while self._ends:
            earliest, _, run = self._ends[0]
            if run.queued and not run.live and run.earliest == earliest:
                return earliest
            heapq.heappop(self._ends)
        return inf

    def written(self, run: Run, version: int) -> None:
        """The history holds the run as it was at ``version``."""
        run.not_before = self._monotonic() + REST_S * len(run.ids)
        run.failures = 0
        if run.version == version:
            run.unwritten = False
            self._rest(run)
        elif run.unwritten and not run.live:
            self.push(run)

    def failed(self, run: Run, delay_s: float) -> None:
        """It could not be written; try again after so long."""
        run.failures += 1
        run.not_before = self._monotonic() + delay_s
        self.push(run)

    def _rest(self, run: Run) -> None:
        """Nothing to do for it now: remember it while there is room."""
        self._idle[run.key] = run
        self._idle_ids += RUN_WEIGHT + len(run.ids)
        while self._idle_ids > REMEMBERED_IDS:
            key, oldest = self._idle.popitem(last=False)
            self._idle_ids -= RUN_WEIGHT + len(oldest.ids)
            del self._runs[key]
