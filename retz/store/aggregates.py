"""What the cluster did, minute by minute: for plots and for the operator's rewind. Kept 30 days.

Derived data: a lost minute is a gap in a plot, so nothing here is synced, and what cannot be read is skipped.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from retz.model.job import Job
from retz.model.resources import Resources

MINUTE_S = 60
MAX_HOLD_S = 120.0
"""Longer without a sample, the levels are unknown (suspended machine, clock set forward), not constant."""

_FINEST_WAIT_S = 0.001
_WAIT_RATIO = 1.05
_LOG_RATIO = math.log(_WAIT_RATIO)


class AggregatePoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One minute, or one step of several.

    Attributes:
        time: Its start, seconds since the epoch, a multiple of its length.
        queued, running: Mean numbers of jobs over the time that was observed.
        submitted, started, ended, failed: Events in it; ``ended`` counts the failed too.
        wait_p50_s, wait_p90_s: Waiting time of the jobs launched in it, to 5 %; None if there were none.
        total, used, by_user: Mean amounts; ``by_user`` is what each user's jobs hold.
        covered_s: Seconds of it that were observed: less than all around restarts and clock jumps.
    """

    time: int
    queued: float = 0.0
    running: float = 0.0
    submitted: int = 0
    started: int = 0
    ended: int = 0
    failed: int = 0
    wait_p50_s: float | None = None
    wait_p90_s: float | None = None
    total: Resources = Resources()
    used: Resources = Resources()
    by_user: dict[str, Resources] = {}
    covered_s: float = float(MINUTE_S)


_decode = msgspec.json.Decoder(AggregatePoint).decode


class AggregateStore:
    """One append-only file of JSON lines per UTC day. All methods block: call them in a thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def append(self, point: AggregatePoint) -> None:
        """Add a minute. Not synced.

        Raises:
            OSError: it could not be written; a part of the line may be there and does no harm.
        """
        path = self._directory / f"{datetime.fromtimestamp(point.time, UTC).date()}.jsonl"
        with open(path, "a+b") as file:
            # A line torn by a crash must not swallow this one.
            torn = file.seek(0, os.SEEK_END) > 0 and _last_byte(file.fileno()) != b"\n"
            file.write((b"\n" if torn else b"") + msgspec.json.encode(point) + b"\n")

    def read(self, since: float, until: float, step_s: int = MINUTE_S) -> list[AggregatePoint]:
        """The steps from ``since`` (rounded down to a step) to before ``until``; unobserved ones are left out.

        ``step_s`` is rounded up to whole minutes. Inside a step: levels are means weighted by observed time,
        events are sums, ``wait_p50_s`` is the mean of the minutes' medians weighted by launches (the true median
        cannot be had from them), ``wait_p90_s`` is the worst minute's.
        """
        step = max(1, math.ceil(step_s / MINUTE_S)) * MINUTE_S
        start = math.floor(since / step) * step
        groups: dict[int, list[AggregatePoint]] = {}
        for point in self._points(start, math.ceil(until / step) * step):
            groups.setdefault(point.time // step * step, []).append(point)
        return [_merge(time, groups[time]) for time in sorted(groups)]

    def _points(self, since: float, until: float) -> Iterator[AggregatePoint]:
        for path, day in self._days():
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
            if begin >= until or begin + 86400 <= since:
                continue
            for line in path.read_bytes().splitlines():
                point = _point(line)
                if point is not None and since <= point.time < until:
                    yield point

    def expire(self, before: float) -> int:
        """Delete the days that were over before ``before``; how many."""
        limit = datetime.fromtimestamp(before, UTC).date()
        old = [path for path, day in self._days() if day + timedelta(days=1) <= limit]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _days(self) -> list[tuple[Path, date]]:
        days = []
        for path in sorted(self._directory.glob("*.jsonl")):
            try:
                days.append((path, date.fromisoformat(path.stem)))
            except ValueError:
                continue  # somebody else's file
        return days


def _last_byte(descriptor: int) -> bytes:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1)


def _point(line: bytes) -> AggregatePoint | None:
    try:
        return _decode(line)
    except msgspec.MsgspecError:
        return None


def _merge(time: int, points: Sequence[AggregatePoint]) -> AggregatePoint:
    """One point for a step. The weight of a point nobody timed is small, not zero: its events count anyway."""
    weights = [max(point.covered_s, 1e-6) for point in points]
    whole = sum(weights)
    users = dict.fromkeys(user for point in points for user in point.by_user)
    medians = [(p.wait_p50_s, p.started) for p in points if p.wait_p50_s is not None and p.started]
    launches = sum(number for _, number in medians)
    nothing = Resources()
    return AggregatePoint(
        time=time,
        queued=sum(p.queued * w for p, w in zip(points, weights, strict=True)) / whole,
        running=sum(p.running * w for p, w in zip(points, weights, strict=True)) / whole,
        submitted=sum(p.submitted for p in points),
        started=sum(p.started for p in points),
        ended=sum(p.ended for p in points),
        failed=sum(p.failed for p in points),
        wait_p50_s=sum(median * number for median, number in medians) / launches if launches else None,
        wait_p90_s=max((p.wait_p90_s for p in points if p.wait_p90_s is not None), default=None),
        total=_mean(zip((p.total for p in points), weights, strict=True), whole),
        used=_mean(zip((p.used for p in points), weights, strict=True), whole),
        by_user={
            user: _mean(zip((p.by_user.get(user, nothing) for p in points), weights, strict=True), whole)
            for user in users
        },
        covered_s=sum(p.covered_s for p in points),
    )


def _mean(amounts: Iterable[tuple[Resources, float]], whole: float) -> Resources:
    sums = _Amount()
    for amount, weight in amounts:
        sums.add(amount, weight)
    return sums.mean(whole)


class _Amount:
    """Amounts multiplied by time."""

    def __init__(self) -> None:
        self._sums = [0.0] * 5

    def add(self, amount: Resources, seconds: float) -> None:
        for index, value in enumerate(amount.vector):
            self._sums[index] += value * seconds

    def mean(self, seconds: float) -> Resources:
        cpus, mem, disk, gpus, ports = (round(value / seconds) for value in self._sums)
        return Resources(cpus / 1000, mem, disk, gpus, ports)


class _Levels(NamedTuple):
    """What holds from one sample to the next."""

    queued: int
    running: int
    total: Resources
    used: Resources
    by_user: dict[str, Resources]


class _Minute:
    """Sums over the part of a minute that was observed."""

    def __init__(self, time: int) -> None:
        self.time = time
        self.events: Counter[str] = Counter()
        self.waits: Counter[int] = Counter()
        self._seconds = self._queued = self._running = 0.0
        self._total, self._used = _Amount(), _Amount()
        self._by_user: dict[str, _Amount] = {}

    def hold(self, levels: _Levels, seconds: float) -> None:
        self._seconds += seconds
        self._queued += levels.queued * seconds
        self._running += levels.running * seconds
        self._total.add(levels.total, seconds)
        self._used.add(levels.used, seconds)
        for user, amount in levels.by_user.items():
            self._by_user.setdefault(user, _Amount()).add(amount, seconds)

    @property
    def empty(self) -> bool:
        return self._seconds <= 0 and not self.events

    def point(self) -> AggregatePoint:
        seconds = self._seconds if self._seconds > 0 else 1.0
        return AggregatePoint(
            time=self.time,
            queued=self._queued / seconds,
            running=self._running / seconds,
            submitted=self.events["submitted"],
            started=self.events["started"],
            ended=self.events["ended"],
            failed=self.events["failed"],
            wait_p50_s=_percentile(self.waits, 0.5),
            wait_p90_s=_percentile(self.waits, 0.9),
            total=self._total.mean(seconds),
            used=self._used.mean(seconds),
            by_user={user: amount.mean(seconds) for user, amount in self._by_user.items()},
            covered_s=self._seconds,
        )


def _bucket(wait_s: float) -> int:
    """Buckets grow by 5 %, so that ten thousand launches a second cost a few hundred counters, not a list."""
    if wait_s < _FINEST_WAIT_S:
        return 0
    return 1 + int(math.log(wait_s / _FINEST_WAIT_S) / _LOG_RATIO)


def _percentile(waits: Mapping[int, int], part: float) -> float | None:
    rank = math.ceil(part * sum(waits.values()))
    for bucket in sorted(waits):
        rank -= waits[bucket]
        if rank <= 0:
            return 0.0 if bucket == 0 else round(_FINEST_WAIT_S * _WAIT_RATIO ** (bucket - 0.5), 4)
    return None


class MinuteCollector:
    """Gathers a minute's events and levels. Pure: time comes in with the samples.

    Feed events as they happen and a sample every second or so. Events count in the minute of the sample before
    them. Clocks jump: after a jump back into an earlier minute, and after one forward (or a pause) of more than
    :data:`MAX_HOLD_S`, the minute so far is given out with the time that was really observed, and counting starts
    anew; minutes nobody saw are not made up. A minute seen twice gives two points, which reading merges.
    """

    def __init__(self) -> None:
        self._minute = _Minute(0)
        self._last: tuple[float, _Levels] | None = None

    def submitted(self, _job: Job) -> None:
        """A job came in."""
        self._minute.events["submitted"] += 1

    def launched(self, _job: Job, wait_s: float) -> None:
        """A job was launched after waiting so long for it; negative (the clock was set back) counts as 0."""
        self._minute.events["started"] += 1
        self._minute.waits[_bucket(wait_s)] += 1

    def ended(self, job: Job) -> None:
        """A job reached its final state."""
        self._minute.events["ended"] += 1
        if job.state == "FAILED":
            self._minute.events["failed"] += 1

    def sample(
        self,
        now: float,
        queued: int,
        running: int,
        total: Resources,
        used: Resources,
        by_user: Mapping[str, Resources],
    ) -> list[AggregatePoint]:
        """Say how things stand from ``now`` on; returns the minutes that are over, at most three, mostly none."""
        over = self._advance(now)
        self._last = (now, _Levels(queued, running, total, used, dict(by_user)))
        return over

    def _advance(self, now: float) -> list[AggregatePoint]:
        minute = math.floor(now / MINUTE_S) * MINUTE_S
        if self._last is None:
            self._minute.time = minute
            return []
        last, levels = self._last
        if minute < self._minute.time or now - last > MAX_HOLD_S:
            return self._restart(minute)
        over = []
        while self._minute.time < minute:
            end = self._minute.time + MINUTE_S
            self._minute.hold(levels, max(0.0, end - last))
            last = max(last, float(end))
            over += self._restart(end)
        self._minute.hold(levels, max(0.0, now - last))
        return over

    def _restart(self, time: int) -> list[AggregatePoint]:
        over = [] if self._minute.empty else [self._minute.point()]
        self._minute = _Minute(time)
        return over
