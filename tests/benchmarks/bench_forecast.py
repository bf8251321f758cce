"""Forecasts: how fast, and how right. Prints one JSON object per part.

How right: the queues of some clusters are simulated for two weeks each, with pipelines that recur and other jobs. A
minute after somebody submitted one of these others, and it waits, the forecast is asked of every job that waits or
runs, and told nothing of what comes. The baseline is that of Tsafrir et al. (2007): every job takes as long as the mean
of its user's last two; one future of it.

Run: ``python -m tests.benchmarks.bench_forecast [speed|million|right|long]``
"""

from __future__ import annotations

import gc
import json
import math
import random
import resource
import statistics
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from retz.model.resources import Vector
from retz.scheduler.forecast import FUTURES, Forecast, forecast, futures
from retz.scheduler.future import Durations, Future
from retz.scheduler.situation import Arrival, Kind, Machine, Rules, Runner, Situation, Waiter
from retz.scheduler.spread import Spread, cooked, recurring
from retz.server.forecasting.worker import GC_THRESHOLDS
from retz.server.learning.past import KEPT, SIMILAR, Lasted

NOW = 1_000_000.0


# -- how fast ------------------------------------------------------------------------------------------------------


def queue_of(
    jobs: int, agents: int, shapes: int, planner: str = "fair", patience_s: float = 0.0, users: int = 5
) -> Situation:
    """A full queue before an empty cluster."""
    rng = random.Random(1)
    kinds = [
        Kind(f"u{n % users}", (1000 * rng.choice([1, 1, 2, 4]), rng.randrange(100, 4000), 0, 0, 0))
        for n in range(shapes)
    ]
    spreads = [recurring([rng.lognormvariate(5, 0.2) for _ in range(12)]) for _ in range(200)]
    machines = [Machine(f"a{n}", f"h{n}", (16_000, 64_000, 0, 0, 0)) for n in range(agents)]
    waiters = [Waiter(n + 1, rng.randrange(shapes), rng.randrange(200), 0.0) for n in range(jobs)]
    return Situation(
        now=NOW,
        rules=Rules(planner, patience_s=patience_s),
        kinds=kinds,
        spreads=spreads,
        machines=machines,
        waiters=waiters,
        runners=[],
        capacity=(16_000 * agents, 64_000 * agents, 0, 0, 0),
    )


def timed(situation: Situation, count: int) -> tuple[Forecast, float]:
    """The forecast, and the seconds of a processor that it took: other programs do not count."""
    gc.collect()
    gc.set_threshold(*GC_THRESHOLDS)
    began = time.process_time()
    found = forecast(situation, list(futures(situation, count)))
    return found, time.process_time() - began


def speed() -> dict[str, Any]:
    cases: list[dict[str, Any]] = []
    for agents, shapes, planner, patience_s in (
        (10, 50, "fair", 0.0),
        (10, 500, "fair", 0.0),
        (100, 500, "fair", 0.0),
        (100, 500, "priority", 0.0),
        (100, 500, "fair", 600.0),
        (1000, 500, "fair", 600.0),
        (100, 5000, "fair", 0.0),
    ):
        found, seconds = timed(queue_of(10_000, agents, shapes, planner, patience_s), FUTURES)
        assert all(each.start is not None for each in found.jobs.values())
        case = {"agents": agents, "shapes": shapes, "planner": planner, "patience_s": patience_s}
        cases.append({**case, "seconds": round(seconds, 2)})
    return {"forecast_jobs": 10_000, "futures": FUTURES, "cases": cases}


def million() -> dict[str, Any]:
    found, seconds = timed(queue_of(1_000_000, 1000, 500, users=20), 1)
    assert len(found.jobs) == 1_000_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"forecast_million_s": round(seconds, 1), "forecast_million_mb": round(peak), "million_futures": 1}


# -- how right -----------------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """A job of the simulated weeks. ``step`` is what recurs; ``seconds`` is how long it really runs."""

    waiter: Waiter
    step: tuple[str, str]
    pipeline: bool
    seconds: float


class Weeks(NamedTuple):
    """What really happened."""

    works: dict[int, Work]
    kinds: list[Kind]
    machines: list[Machine]
    planner: str
    started: dict[int, float]
    ended: dict[int, float]
    agent: dict[int, str]
    used: list[tuple[float, dict[str, float]]]


class _Real(Future):
    """What really happens, written down as the server's ledger and shares would have it."""

    def __init__(self, situation: Situation, lasts: Durations) -> None:
        super().__init__(situation, lasts, step=0.0)
        self.agents: dict[int, str] = {}
        self.used: list[tuple[float, dict[str, float]]] = []

    def _start(self, agent: str, job_ids: Sequence[int]) -> None:
        super()._start(agent, job_ids)
        self.agents.update(dict.fromkeys(job_ids, agent))

    def _plan(self) -> None:
        super()._plan()
        shares = self._scheduler.shares
        self.used.append((self.now, {} if shares is None else shares.dump(self.now)))


HOUR = 3600.0
DAY = 24 * HOUR
USERS = 6
LOAD = 0.75
"""Of the cluster, on average: there is a queue most of the time."""
ASKED = 12
"""So often in each two weeks."""
TRACES = range(1, 9)
"""Nothing was ever chosen by these: parameters come from traces with numbers from 101 on."""
CLASSES = ("pipeline_start", "pipeline_end", "other_start", "other_end")


def weeks(seed: int, planner: str = "fair", days: int = 14) -> Weeks:
    """Two weeks of a cluster that is busy most of the time."""
    rng = random.Random(seed)
    kinds: list[Kind] = []
    works: dict[int, Work] = {}
    for number in range(18):
        _pipeline(rng, number, days, kinds, works)
    for user in range(USERS):
        _others(rng, f"u{user}", days, kinds, works)
    works = _in_order(works)
    asked = sum(work.seconds * kinds[work.waiter.kind].need[0] for work in works.values())
    count = math.ceil(asked / (LOAD * 16_000 * days * DAY))
    machines = [Machine(f"a{n}", f"h{n}", (16_000, 64_000, 0, 0, 0)) for n in range(count)]
    waiters = [work.waiter for work in works.values()]
    truth = Situation(NOW, Rules(planner, patience_s=300.0), kinds, [], machines, waiters, [], capacity=_all(machines))
    real = _Real(truth, lambda job_id, spread, elapsed: works[job_id].seconds)
    real.run()
    return Weeks(works, kinds, machines, planner, real.started, real.ended, real.agents, real.used)


def _in_order(works: dict[int, Work]) -> dict[int, Work]:
    """Numbered as they are submitted: planners go by the number."""
    ordered = sorted(works.values(), key=lambda work: work.waiter.start_at)
    number = {work.waiter.id: place for place, work in enumerate(ordered, 1)}
    found = {}
    for work in ordered:
        after = tuple(number[each] for each in work.waiter.after)
        waiter = replace(work.waiter, id=number[work.waiter.id], after=after)
        found[waiter.id] = work._replace(waiter=waiter)
    return found


def _all(machines: Sequence[Machine]) -> Vector:
    return (16_000 * len(machines), 64_000 * len(machines), 0, 0, 0)


def _pipeline(rng: random.Random, number: int, days: int, kinds: list[Kind], works: dict[int, Work]) -> None:
    """Some steps, one after the other, several times a day; with noise, maybe a trend, now and then an outlier."""
    user, every = f"u{number % USERS}", rng.choice([3, 6, 12]) * HOUR
    steps = [(rng.lognormvariate(math.log(1200), 1.0), rng.randrange(1, 7)) for _ in range(rng.randrange(2, 5))]
    noise, growth = rng.uniform(0.03, 0.25), rng.choice([1.0, 1.0, 1.5, 2.5])
    trend = growth ** (every / (days * DAY))
    run, at = 0, NOW + rng.uniform(0, every)
    while at < NOW + days * DAY:
        before: tuple[int, ...] = ()
        for step, (base, cpus) in enumerate(steps):
            seconds = base * math.exp(rng.gauss(0, noise)) * trend**run * (3.0 if rng.random() < 0.03 else 1.0)
            kind = Kind(user, (cpus * 1000, cpus * 2000, 0, 0, 0), timeout_s=None)
            before = (_add(rng, kinds, works, kind, (user, f"p{number}.{step}"), True, seconds, at, before),)
        run, at = run + 1, at + every


def _others(rng: random.Random, user: str, days: int, kinds: list[Kind], works: dict[int, Work]) -> None:
    """Bursts of jobs of a few programs, whose run times differ from burst to burst and less within one."""
    at = NOW + rng.uniform(0, 8) * HOUR
    while at < NOW + days * DAY:
        program, cpus = f"x{rng.randrange(3)}", rng.randrange(1, 9)
        level = rng.lognormvariate(math.log(1500), 0.8)
        limit = level * rng.choice([2, 3, 5]) if rng.random() < 0.5 else None
        for _ in range(rng.choice([1, 2, 5, 12])):
            seconds = level * math.exp(rng.gauss(0, 0.5))
            kind = Kind(user, (cpus * 1000, cpus * 1500, 0, 0, 0), timeout_s=limit)
            _add(rng, kinds, works, kind, (user, program), False, min(seconds, limit or seconds), at, ())
            at += rng.expovariate(1 / 120)
        at += rng.expovariate(1 / (7 * HOUR))


def _add(
    rng: random.Random, kinds: list[Kind], works: dict[int, Work], kind: Kind, step: tuple[str, str],
    pipeline: bool, seconds: float, at: float, after: tuple[int, ...],
) -> int:  # fmt: skip
    job_id = len(works) + 1
    kinds.append(kind)
    works[job_id] = Work(Waiter(job_id, len(kinds) - 1, 0, at, after, at), step, pipeline, seconds)
    return job_id


class Book(NamedTuple):
    """Durations of what had ended: by step, by what is similar, by user."""

    steps: dict[tuple[str, str], list[Lasted]]
    users: dict[str, list[float]]


def book(truth: Weeks, at: float) -> Book:
    steps: dict[tuple[str, str], list[Lasted]] = defaultdict(list)
    users: dict[str, list[float]] = defaultdict(list)
    for job_id, ended in sorted(truth.ended.items(), key=lambda pair: pair[1]):
        if ended <= at:
            work = truth.works[job_id]
            steps[work.step].append(Lasted(work.waiter.start_at, ended, work.seconds))
            users[work.step[0]].append(work.seconds)
    return Book(steps, users)


def situation_at(truth: Weeks, at: float, known: Known) -> Situation:
    """The queue at a time, with what is known of run times then."""
    waiters, runners = [], []
    for job_id, work in truth.works.items():
        waiter, started, ended = work.waiter, truth.started[job_id], truth.ended[job_id]
        if waiter.start_at > at or ended <= at:
            continue
        spread = known.of[job_id]
        if started <= at:
            runners.append(Runner(job_id, waiter.kind, spread, truth.agent[job_id], started))
        else:
            after = tuple(each for each in waiter.after if truth.ended[each] > at)
            waiters.append(Waiter(job_id, waiter.kind, spread, waiter.since, after))
    arrivals: list[Arrival] = []
    places: dict[int, int] = {}
    for job_id, work in truth.works.items():
        if at - DAY < work.waiter.start_at <= at:
            after = tuple(places[each] for each in work.waiter.after if each in places)
            places[job_id] = len(arrivals)
            arrivals.append(Arrival(work.waiter.kind, known.of[job_id], at - work.waiter.start_at, after))
    return Situation(
        now=at,
        rules=Rules(truth.planner, patience_s=300.0),
        kinds=truth.kinds,
        spreads=known.spreads,
        machines=truth.machines,
        waiters=waiters,
        runners=runners,
        capacity=_all(truth.machines),
        used=truth.used[bisect_right(truth.used, at, key=lambda pair: pair[0]) - 1][1],
        arrivals=arrivals,
        arrivals_s=DAY,
    )


class Known(NamedTuple):
    """Spreads, and which of them is each job's."""

    spreads: list[Spread]
    of: dict[int, int]


def ours(truth: Weeks, past: Book) -> Known:
    """What the server would know of each job: see gathering.py."""
    found: dict[tuple[tuple[str, str], float | None], int] = {}
    known = Known([], {})
    for job_id, work in truth.works.items():
        limit = truth.kinds[work.waiter.kind].timeout_s
        key = (work.step, limit)
        if key not in found:
            found[key] = len(known.spreads)
            runs = past.steps.get(work.step, [])[-KEPT if work.pipeline else -SIMILAR :]
            durations = tuple(run.seconds for run in runs)
            if work.pipeline and durations:
                spread = Spread("pipeline", durations)
            elif durations:
                spread = Spread("similar", durations, tuple((run.submitted, run.ended) for run in runs))
            else:
                spread = Spread("guess", ()) if limit is None else Spread("limit", (limit,))
            known.spreads.append(cooked(spread))
        known.of[job_id] = found[key]
    return known


def tsafrir(truth: Weeks, past: Book) -> dict[int, float]:
    known = {}
    for job_id, work in truth.works.items():
        last = past.users.get(work.step[0], [])[-2:]
        limit = truth.kinds[work.waiter.kind].timeout_s
        mean = sum(last) / len(last) if last else limit or 600.0
        known[job_id] = min(mean, limit or mean)
    return known


INCREMENTS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 18_000.0, 36_000.0, 1e6)
"""By so much the baseline's prediction is raised in turn when a job outlives it."""


class _Raised(NamedTuple):
    """The baseline's durations."""

    predicted: dict[int, float]

    def lasts(self, job_id: int, spread: int, elapsed: float) -> float:
        return raised(self.predicted[job_id], elapsed)


def raised(predicted: float, elapsed: float) -> float:
    for more in INCREMENTS:
        if predicted > elapsed:
            break
        predicted += more
    return predicted


class Errors(NamedTuple):
    """Of one class of jobs: errors of ours and of the baseline, and whether ours was within its p90."""

    ours: list[float]
    baseline: list[float]
    within: list[bool]

    @property
    def ratio(self) -> float:
        """Our median absolute error against the baseline's."""
        return statistics.median(self.ours) / statistics.median(self.baseline)

    @property
    def covered(self) -> float:
        """The part that was within the p90."""
        return sum(self.within) / len(self.within)

    def take(self, more: Errors) -> None:
        self.ours.extend(more.ours)
        self.baseline.extend(more.baseline)
        self.within.extend(more.within)


def moments(truth: Weeks, seed: int, count: int) -> list[float]:
    """When somebody asks: a minute after one of the other jobs was submitted that then waits for room."""
    rng = random.Random(seed)
    asking = [
        work.waiter.start_at + 60.0
        for job_id, work in truth.works.items()
        if not work.pipeline and 4 * DAY < work.waiter.start_at - NOW < 13 * DAY
        if truth.started[job_id] > work.waiter.start_at + 60.0
    ]
    return sorted(rng.sample(asking, min(count, len(asking))))


def compared(seed: int, planner: str, count: int = ASKED) -> dict[str, Errors]:
    truth = weeks(seed, planner)
    found: dict[str, Errors] = defaultdict(lambda: Errors([], [], []))
    for at in moments(truth, seed, count):
        past = book(truth, at)
        situation = situation_at(truth, at, ours(truth, past))
        seen = forecast(situation, list(futures(situation, FUTURES, seed)))
        points = tsafrir(truth, past)
        alone = replace(situation, arrivals=[])
        base = Future(alone, _Raised(points).lasts)
        base.run()
        for name, actual, half, most, other in _pairs(truth, situation, seen, base):
            errors = found[name]
            errors.ours.append(abs(half - actual))
            errors.baseline.append(abs(other - actual))
            errors.within.append(actual <= most)
    return found


def _pairs(
    truth: Weeks, situation: Situation, seen: Forecast, base: Future
) -> Iterator[tuple[str, float, float, float, float]]:
    for waiter in situation.waiters:
        kind = "pipeline" if truth.works[waiter.id].pipeline else "other"
        known = seen.jobs[waiter.id]
        if known.start is not None and known.end is not None:
            yield f"{kind}_start", truth.started[waiter.id], known.start.half, known.start.most, base.started[waiter.id]
            yield f"{kind}_end", truth.ended[waiter.id], known.end.half, known.end.most, base.ended[waiter.id]
    for runner in situation.runners:
        kind = "pipeline" if truth.works[runner.id].pipeline else "other"
        end = seen.jobs[runner.id].end
        if end is not None:
            yield f"{kind}_end", truth.ended[runner.id], end.half, end.most, base.ended[runner.id]


def right(traces: Sequence[int] = TRACES) -> dict[str, Any]:
    """Median absolute errors in seconds, their ratio to the baseline's, and how many were within the p90.

    Jobs asked of at one moment err together, so the verdict is as sure as there are traces: ``ratio_from_to`` and
    ``within_from_to`` are what 90 % of random choices of as many of them, some taken twice, would have said.
    """
    result: dict[str, Any] = {"traces": len(traces), "asked_in_each": ASKED}
    for planner in ("fair", "fifo"):
        found = [compared(seed, planner) for seed in traces]
        result[planner] = {name: _verdict([each[name] for each in found]) for name in CLASSES}
    return result


def _verdict(found: Sequence[Errors]) -> dict[str, Any]:
    errors, rng = _together(found), random.Random(0)
    others = [_together(rng.choices(found, k=len(found))) for _ in range(100)]
    return {
        "asked": len(errors.ours),
        "error_s": round(statistics.median(errors.ours)),
        "baseline_s": round(statistics.median(errors.baseline)),
        "ratio": round(errors.ratio, 2),
        "ratio_from_to": _middle_of([each.ratio for each in others], 2),
        "within_p90": round(errors.covered, 3),
        "within_from_to": _middle_of([each.covered for each in others], 3),
    }


def _together(found: Sequence[Errors]) -> Errors:
    whole = Errors([], [], [])
    for each in found:
        whole.take(each)
    return whole


def _middle_of(values: list[float], digits: int) -> tuple[float, float]:
    """The middle 90 % of a hundred values."""
    values.sort()
    return round(values[5], digits), round(values[-6], digits)


def long() -> dict[str, Any]:
    """The same from many traces: four minutes of a core."""
    return right(range(1, 41))


PARTS = {"speed": speed, "right": right, "million": million}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        part = long if name == "long" else PARTS[name]
        print(json.dumps({name: part()}, indent=1), flush=True)


if __name__ == "__main__":
    main()
