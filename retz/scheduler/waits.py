"""What kept jobs waiting, and for how long each.

What keeps a job from its room is the same for all jobs of its shape, so shapes are looked at now and then
(:mod:`.causes`), and a job's share of that is added up when it starts. What is a job's own (a hold, other jobs, a time)
is told as it happens. What nobody saw, before a restart for instance, is not known, and is not made up.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from retz.model import units
from retz.model.job import Job

from .queue import ShapeKey, longest_run

Cause = str
"""A ``BlockedBy`` of :mod:`.causes`; ``room`` may say of what: ``room:mem``. "" is what nobody knows."""

OwnCause = Literal["held", "dependency", "time"]

SHORT_S = 2.0
"""Shorter waits are not worth a word."""
MOST_PIECES = 64
MOST_SHAPES = 20_000
MOST_OWN = 32
MAX_GAP_S = 120.0
"""What was seen last holds for so long: looks are further apart over very many shapes, or after a server's sleep."""

WORDS: dict[Cause, str] = {
    "held": "held",
    "engine": "the engine could start nothing",
    "dependency": "for other jobs to end",
    "time": "for its time to come",
    "array": "for other tasks of its array",
    "paused": "the queue was paused",
    "draining": "the queue was draining",
    "max_running": "as many jobs ran as may run",
    "user_limit": "its user held as much as a user may",
    "room": "for room",
    "room:cpus": "for free cpus",
    "room:mem": "for free memory",
    "room:disk": "for free disk",
    "room:gpus": "for free GPUs",
    "room:ports": "for free ports",
    "place": "machines were kept for others that waited long",
    "never": "no machine could ever take it",
    "order": "for its turn",
    "": "not known",
}


class Share(NamedTuple):
    """How long something kept a job waiting."""

    cause: Cause
    seconds: float

    @property
    def text(self) -> str:
        """``5m12s for free memory``."""
        return f"{span(self.seconds)} {WORDS.get(self.cause, self.cause)}"


def span(seconds: float) -> str:
    """To the nearest second: ``45s``, ``1m40s``, ``2h05m``, ``3d04h``."""
    return units.span(round(seconds))


def key_of(job: Job) -> ShapeKey:
    """The shape of a job, as the queue has it."""
    return (job.resources.vector, job.attributes, job.owner, job.priority, longest_run(job))


class Timeline:
    """What kept one shape waiting, as pieces of time that follow each other.

    When they are too many, older ones are joined in pairs: sums stay right, only the order within a piece is lost.
    """

    __slots__ = ("_begins", "_sums", "end")

    def __init__(self, begin: float) -> None:
        self._begins: list[float] = []
        self._sums: list[dict[Cause, float]] = []
        self.end = begin

    @property
    def last(self) -> Cause:
        """What was seen last."""
        return next(reversed(self._sums[-1]), "") if self._sums else ""

    def __len__(self) -> int:
        return len(self._begins)

    def saw(self, cause: Cause, until: float) -> None:
        """This is what it waited for, from the end of the last piece on."""
        seconds = until - self.end
        if seconds <= 0:  # the clock was set back
            return
        if self._sums and self._sums[-1].keys() == {cause}:
            self._sums[-1][cause] += seconds
        else:
            self._begins.append(self.end)
            self._sums.append({cause: seconds})
            if len(self._begins) > MOST_PIECES:
                self._join()
        self.end = until

    def between(self, begin: float, end: float, gone: bool = False) -> dict[Cause, float]:
        """Seconds of each cause in this time; of a joined piece that is only partly in it, the same part of each.

        Args:
            gone: It was looked for again and not seen: what was seen last holds no longer than that.
        """
        found: dict[Cause, float] = {}
        for place in range(max(0, bisect_right(self._begins, begin) - 1), len(self._begins)):
            start = self._begins[place]
            if start >= end:
                break
            stop = self._begins[place + 1] if place + 1 < len(self._begins) else self.end
            inside = min(stop, end) - max(start, begin)
            if inside > 0:
                _add(found, self._sums[place], inside / (stop - start))
        if not gone and begin <= self.end < end <= self.end + MAX_GAP_S:  # until the next look
            _add(found, {self.last: end - self.end}, 1.0)
        return found

    def _join(self) -> None:
        half = len(self._begins) // 2 // 2 * 2
        joined: list[dict[Cause, float]] = []
        for place in range(0, half, 2):
            both = dict(self._sums[place])
            _add(both, self._sums[place + 1], 1.0)
            joined.append(both)
        self._sums[:half] = joined
        self._begins[:half] = self._begins[:half:2]


def _add(found: dict[Cause, float], more: Mapping[Cause, float], part: float) -> None:
    for cause, seconds in more.items():
        found[cause] = found.get(cause, 0.0) + seconds * part


class Waits:
    """The book of what jobs wait for. No clock: times are seconds since the epoch."""

    def __init__(self) -> None:
        self._shapes: OrderedDict[ShapeKey, Timeline] = OrderedDict()
        self._own: dict[int, list[tuple[float, Cause | None]]] = {}
        """Of jobs with a cause of their own: from when on which; None is in line with the others."""
        self._looked: float | None = None
        self._all_looked = -math.inf
        """When all shapes that waited were looked at last: of very many a look sees some only."""
        self._begun: float | None = None

    def __len__(self) -> int:
        """Number of shapes that are remembered."""
        return len(self._shapes)

    def __contains__(self, job_id: int) -> bool:
        """Whether something of its own keeps this job back, or did."""
        return job_id in self._own

    # -- what is seen of shapes ----------------------------------------------------------------------------------

    def saw(self, key: ShapeKey, cause: Cause, now: float) -> None:
        """Jobs of this shape have waited for this since the last look, or since they came."""
        line = self._shapes.get(key)
        begin = now if self._looked is None else min(now, max(self._looked, now - MAX_GAP_S))
        if line is None:
            line = self._shapes[key] = Timeline(begin)
            if len(self._shapes) > MOST_SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(key)
            if now - line.end > MAX_GAP_S or self._gone(line):
                line.saw("", begin)
        line.saw(cause, now)

    def _gone(self, line: Timeline) -> bool:
        """Whether no job of the shape was in line at a look since: those of an array that run do not wait."""
        return line.end < self._all_looked

    def looked(self, now: float, *, at_all: bool = True) -> None:
        """A look at the shapes, at all of them or at some, is over, which began at ``now``."""
        self._looked = now
        if at_all:
            self._all_looked = now
        if self._begun is None:
            self._begun = now

    # -- what is told of jobs ------------------------------------------------------------------------------------

    def kept_back(self, job_id: int, cause: OwnCause, now: float) -> None:
        """From now on something of its own keeps the job back."""
        self._turn(job_id, cause, now)

    def in_line(self, job_id: int, now: float) -> None:
        """From now on it waits like others. Need not be told of one that never was kept back."""
        self._turn(job_id, None, now)

    def _turn(self, job_id: int, cause: Cause | None, now: float) -> None:
        turns = self._own.setdefault(job_id, [])
        if not turns or turns[-1][1] != cause:
            turns.append((now, cause))
            if len(turns) > MOST_OWN:
                turns[:2] = [(turns[0][0], "")]

    def forget(self, job_id: int) -> None:
        """It waits no more."""
        self._own.pop(job_id, None)

    # -- what follows --------------------------------------------------------------------------------------------

    def of(self, job: Job, since: float, now: float) -> list[Share]:
        """What kept a job waiting from ``since`` till ``now``, the first first; what is not known is left out."""
        if now - since < SHORT_S:
            return []
        found: dict[Cause, float] = {}
        line = self._shapes.get(key_of(job))
        for begin, end, own in self._spans(job, since, now):
            if own is not None:
                _add(found, {own: end - begin}, 1.0)
            elif line is not None:
                _add(found, line.between(begin, end, self._gone(line)), 1.0)
        _fill(found, job, since, now, seen=self._begun is not None and self._begun <= since)
        return [Share(cause, round(seconds, 1)) for cause, seconds in found.items() if cause and seconds >= 0.1]

    def _spans(self, job: Job, since: float, now: float) -> list[tuple[float, float, Cause | None]]:
        """The time in pieces: (from, till, what of its own kept it back, None if nothing)."""
        turns = self._own.get(job.id) or self._own.get(job.array_id or 0) or ()
        spans: list[tuple[float, float, Cause | None]] = []
        at, own = since, None
        for when, cause in turns:
            if at < when:
                spans.append((at, min(when, now), own))
            at, own = max(at, min(when, now)), cause
        spans.append((at, now, own))
        return [span for span in spans if span[1] > span[0]]


def _fill(found: dict[Cause, float], job: Job, since: float, now: float, *, seen: bool) -> None:
    """What its record says of the time in which nothing was seen of it; ``seen``: we looked all the time."""
    missing = now - since - sum(seconds for cause, seconds in found.items() if cause)
    if missing < SHORT_S:
        return
    if job.start_at is not None and since == job.submitted:
        known = min(missing, max(0.0, min(job.start_at, now) - since - found.get("time", 0.0)))
        if known > 0:
            found["time"] = found.get("time", 0.0) + known
    elif seen and (job.array_id is not None or job.array is not None):
        # No task of it was in line: as many ran as may at a time, or those before it had their turn.
        found["array"] = found.get("array", 0.0) + missing


def since_of(job: Job) -> float:
    """Since when a queued job has waited: since it came, or came back."""
    attempt = job.attempt
    return attempt.ended if attempt is not None and attempt.ended is not None else job.submitted


class Waited(Struct, frozen=True):
    """A part of a job's wait, as docs/api.md describes it. ``resource`` is what there was no room of."""

    cause: str
    resource: str | None
    seconds: float
    text: str


def shown(shares: list[Share]) -> list[Waited]:
    """The parts as they are shown."""
    return [_shown(share) for share in shares]


def _shown(share: Share) -> Waited:
    cause, _, resource = share.cause.partition(":")
    return Waited(cause, resource or None, share.seconds, share.text)


class History(NamedTuple):
    """All that kept a job waiting, before all of its attempts: the longest first; and what is not known of it."""

    total_s: float
    shares: list[Share]
    unknown_s: float


def history(job: Job, now_waiting: list[Share], now: float) -> History:
    """Sum up a job's waits.

    Args:
        now_waiting: What keeps it waiting now, from :meth:`Waits.of`; empty for one that does not wait.
    """
    total, found, since = 0.0, dict[Cause, float](), job.submitted
    for attempt in job.attempts:
        total += max(0.0, attempt.launched - since)
        _add(found, dict(attempt.waited), 1.0)
        since = attempt.launched if attempt.ended is None else attempt.ended
    if job.state == "QUEUED":
        total += max(0.0, now - since)
        _add(found, dict(now_waiting), 1.0)
    elif job.ended is not None and (not job.attempts or job.attempts[-1].ended is None):
        total += max(0.0, job.ended - since)
    shares = [Share(cause, round(s, 1)) for cause, s in sorted(found.items(), key=lambda each: -each[1]) if round(s)]
    unknown = total - sum(found.values())
    return History(round(total, 1), shares, round(unknown, 1) if unknown >= SHORT_S else 0.0)
