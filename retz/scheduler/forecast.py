"""When will it start, when will it end: several possible futures of the queue, and where most of them agree.

Each job's durations over all futures are spread evenly over what is likely (one from each eighth, for eight futures),
in an order of its own that depends on nothing but the seed and its id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from .future import Future, takers
from .situation import Situation, Waiter
from .spread import Source, quantile

FUTURES = 8

NEVER = math.inf

Word = Literal["", "never", "paused", "unknown", "later"]
"""Why there is no answer: no agent can take it; nothing is started now; what it waits for is not foreseen itself; it
starts later than was looked."""

_ARRIVALS = 1 << 62
_MASK = (1 << 64) - 1


class Moment(Struct, frozen=True, array_like=True, gc=False):
    """When something happens: before ``half`` in half of the futures, before ``most`` in nine of ten. Epoch seconds."""

    half: float
    most: float


class Foreseen(Struct, frozen=True, array_like=True, gc=False):
    """What the futures say of one job.

    Attributes:
        start: None for one that runs already, or has no answer.
        source: What its duration is known from.
        word: Why there is no answer.
    """

    start: Moment | None = None
    end: Moment | None = None
    source: Source = "guess"
    word: Word = ""


class Forecast(Struct, frozen=True):
    """The whole.

    Attributes:
        at: The moment it starts from.
        jobs: By id; arrays too.
        rate: Jobs started per second, as far as it was looked.
        until: What starts later was not looked at; None if there is nothing more.
        futures: How many there are.
    """

    at: float
    jobs: dict[int, Foreseen]
    rate: float
    until: float | None
    futures: int


class _Sampler(NamedTuple):
    """How long each job runs in one future."""

    situation: Situation
    seed: int
    number: int
    futures: int

    def lasts(self, job_id: int, spread: int, elapsed: float) -> float:
        known = self.situation.spreads[spread]
        # Jobs that are only alike differ from those before them partly together, partly each for itself: half of them
        # share one draw. If all did, queues would be taken to be surer to be long; if none did, surer to be short.
        own = job_id if known.source == "pipeline" or _mixed(job_id) & 1 else -1 - spread
        part = _part(self.seed, own, self.number, self.futures)
        return known.beyond(elapsed, part) if elapsed > 0 else known.at(part)


def _part(seed: int, own: int, number: int, futures: int) -> float:
    """0 to 1: of the given number's place in an order of all futures, and somewhere within it."""
    mixed = _mixed(seed * 0x9E3779B97F4A7C15 + own)
    stride = 1 + 2 * (mixed & 0xFF) if futures % 2 == 0 else 1
    place = (number * stride + (mixed >> 8)) % futures
    within = (_mixed(mixed + number) >> 11) / (1 << 53)
    return (place + within) / futures


def _mixed(value: int) -> int:
    """Splitmix64: 64 bits that look random."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def futures(situation: Situation, count: int = FUTURES, seed: int = 0) -> Iterator[Future]:
    """Yield futures that were run, one after the other: stop when there are enough."""
    for number in range(count):
        shift = _part(seed, _ARRIVALS, number, count)
        future = Future(situation, _Sampler(situation, seed, number, count).lasts, shift=shift)
        future.run()
        yield future


def forecast(situation: Situation, runs: Sequence[Future]) -> Forecast:
    """What these futures of the situation say."""
    jobs: dict[int, Foreseen] = {}
    never = {index for index, kind in enumerate(situation.kinds) if not any(takers(kind, situation))}
    starts: dict[int, list[float]] = {}
    for waiter in situation.waiters:
        times = [run.started.get(waiter.id, NEVER) for run in runs]
        ends = [run.ended.get(waiter.id, NEVER) for run in runs]
        source = situation.spreads[waiter.spread].source
        word = _word(situation, waiter, never)
        jobs[waiter.id] = foreseen(times, ends, source, word)
        if waiter.array:
            so_far = starts.get(waiter.array)
            starts[waiter.array] = times if so_far is None else [min(pair) for pair in zip(so_far, times, strict=True)]
            jobs[waiter.array] = Foreseen(None, None, source, word)
    for runner in situation.runners:
        end = moment([run.ended.get(runner.id, NEVER) for run in runs])
        jobs[runner.id] = Foreseen(None, end, situation.spreads[runner.spread].source)
        if runner.array:
            jobs.setdefault(runner.array, Foreseen(None, None, situation.spreads[runner.spread].source))
    for row in situation.rows:
        known = jobs.get(row.id, Foreseen())
        ends = [run.ended.get(row.id, NEVER) for run in runs]
        jobs[row.id] = foreseen(starts.get(row.id), ends, known.source, known.word)
    until = _until(situation, jobs)
    if until is not None:
        for job_id, known in jobs.items():
            if known.start is not None and known.start.half > until:
                jobs[job_id] = Foreseen(None, None, known.source, "later")
    return Forecast(situation.now, jobs, _rate(situation, runs), until, len(runs))


def _until(situation: Situation, jobs: Mapping[int, Foreseen]) -> float | None:
    """When the first of the users of whom not all jobs were told runs out of them."""
    if not situation.cut:
        return None
    starts = (jobs[job_id].start for job_id in situation.cut)
    return min((start.half for start in starts if start is not None), default=situation.now)


def _word(situation: Situation, waiter: Waiter, never: set[int]) -> Word:
    if waiter.kind in never:
        return "never"
    return "unknown" if situation.open else "paused"


def foreseen(starts: list[float] | None, ends: list[float], source: Source, word: Word) -> Foreseen:
    """What is foreseen of a job that starts (None: it runs) and ends so in each future."""
    start = moment(starts) if starts is not None else None
    end = moment(ends)
    if start is None and starts is not None:
        return Foreseen(None, None, source, word)
    if start is not None and end is not None:
        end = Moment(max(start.half, end.half), max(start.most, end.most))
    return Foreseen(start, end, source, "" if start or end else word)


def moment(times: list[float]) -> Moment | None:
    """Half and nine tenths of these times; None if half of the futures or more never come to it."""
    times = sorted(times)
    known = [time for time in times if time < NEVER]
    if 2 * len(known) <= len(times):
        return None
    half = quantile(known, 0.5)
    return Moment(half, max(half, quantile(known, 0.9)))


def _rate(situation: Situation, runs: Sequence[Future]) -> float:
    """Jobs started per second, in the fastest of the futures."""
    rates = [
        len(run.started) / max(1.0, max(run.started.values(), default=situation.now) - situation.now) for run in runs
    ]
    return max(rates, default=0.0)
