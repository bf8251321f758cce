"""One possible future: the real scheduler, run forward over supposed durations, from event to event.

What is a moment in the real queue is a *step* here: all that ends within one hundredth of the time since the beginning
is taken together, so that a week takes about as many passes as a morning. Starts are late by that much at most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from retz.model.agent import Agent, Offer
from retz.model.job import Attempt, Job
from retz.model.resources import Vector, add, fits, from_vector, least, subtract

from .constraints import parse
from .scheduler import Scheduler
from .shares import Shares
from .situation import Arrival, Kind, Machine, Rules, Situation, Waiter

PER_PASS = 256
"""As many placements as the real server makes in a pass, about."""

EVERY_SHAPES = 250
"""With more shapes than this in the queue passes get dear, and steps longer."""

LONGEST_STEP = 0.1

FIRST_ARRIVAL = 1 << 60
"""Ids from here on are those of jobs that are not submitted yet."""

MOST_ARRIVALS = 1000
"""So many jobs come in a future at most, and as many more as were queued at its beginning."""

_NOBODY = Waiter(0, 0, 0, math.inf, start_at=math.inf)

Durations = Callable[[int, int, float], float]
"""(job id, index of its spread, seconds it has run already) -> seconds that it runs in all."""


class Future:
    """Call :meth:`run` once.

    Args:
        durations: How long each job runs.
        shift: Where in the time of the last arrivals the future's begin: 0 to 1. What came lately comes again, over
            and over, as long as anything is of interest; pipelines at their own times, whatever the shift: they recur.
        step: What ends within this part of the time since the beginning is taken together; 0 is exact.

    Attributes:
        started: When each waiter started; whoever is missing never did.
        ended: When each job ended.
        agents: Where the probe started; if it is an array, each of its tasks.
    """

    def __init__(self, situation: Situation, durations: Durations, step: float = 0.01, shift: float = 0.0) -> None:
        self._situation = situation
        self._durations = durations
        self._step = step
        self.now = self._begin = situation.now
        self.started: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.agents: dict[int, str] = {}
        self._probes = {each.id for each in probes(situation)}
        self._scheduler = scheduler_of(situation.rules)
        self._agents = [_agent_of(machine) for machine in situation.machines]
        self._attributes = {machine.id: machine for machine in situation.machines}
        self._free = {machine.id: machine.room for machine in situation.machines}
        self._unoffered: dict[str, None] = dict.fromkeys(self._free)
        self._least = _least_need(situation)
        self._resources = [from_vector(kind.need) for kind in situation.kinds]
        self._running: dict[int, Job] = {}
        self._count = len(situation.waiters)
        self._waiters: dict[int, Waiter] = {waiter.id: waiter for waiter in situation.waiters}
        self._ends: list[tuple[float, int]] = []
        self._times: list[tuple[float, int]] = []
        self._awaited: defaultdict[int, list[int]] = defaultdict(list)
        self._pending: dict[int, int] = {}
        self._array_of = {each.id: each.array for each in situation.runners if each.array}
        self._array_of.update((each.id, each.array) for each in situation.waiters if each.array)
        self._since: dict[int, float] = {}
        self._left: dict[int, int] = {}
        """Tasks of each array that have not ended."""
        self._lines: dict[int, _Line] = {row.id: _Line(row.limit) for row in situation.rows if row.limit}
        self._next_look = self.now
        self._added = False
        self._takeable = {index for index, kind in enumerate(situation.kinds) if any(takers(kind, situation))}
        self._arriving = _again(situation, shift)
        self._next_arrival = next(self._arriving, _NOBODY)
        self._alive = 0
        """Jobs, those that will come not counted, that are queued or run."""

    def run(self) -> None:
        """Let time pass until all that can start has started."""
        self._set_up()
        if self._scheduler.patience_s:
            self._give_places()  # before any room is offered: it is kept for those who waited so long already
        self._plan()
        while self._expecting() and (self._alive or self._times):
            self._forward()
            self._plan()
        for at, job_id in sorted(self._ends):
            self.ended[job_id] = at
            array = self._array_of.get(job_id)
            if array is not None and self._is_last(array):
                self.ended[array] = at

    def _expecting(self) -> bool:
        if self._probes:
            return len(self.agents) < len(self._probes)
        return len(self.started) < self._count

    # -- the beginning -----------------------------------------------------------------------------------

    def _set_up(self) -> None:
        situation, scheduler = self._situation, self._scheduler
        if scheduler.shares is not None:
            scheduler.shares.load(situation.used, self.now)
            scheduler.shares.resize(situation.capacity, self.now)
        for row in situation.rows:
            self._left[row.id] = row.untold
        for runner in situation.runners:
            self._runs(runner.id, runner.kind, runner.agent, runner.since, runner.array)
            lasts = self._lasts(runner.id, runner.spread, runner.kind, max(0.0, self.now - runner.since))
            self._ends.append((max(self.now, runner.since + lasts), runner.id))
        heapify(self._ends)
        for waiter in situation.waiters:
            if waiter.array:
                self._left[waiter.array] = self._left.get(waiter.array, 0) + 1
            for awaited in waiter.after:
                self._awaited[awaited].append(waiter.id)
            self._pending[waiter.id] = len(waiter.after)
            if waiter.start_at > self.now:
                self._pending[waiter.id] += 1
                heappush(self._times, (waiter.start_at, waiter.id))
            self._may_start(waiter.id)
        shapes = scheduler.shapes
        if self._step and shapes > EVERY_SHAPES:
            self._step = min(LONGEST_STEP, self._step * shapes / EVERY_SHAPES)

    def _runs(self, job_id: int, kind: int, agent: str, since: float, array: int) -> None:
        job = self._job(job_id, kind, (Attempt(1, agent, since),))
        self._running[job_id] = job
        self._alive += 1
        self._scheduler.started(job, self.now)
        if agent in self._free:
            self._free[agent] = subtract(self._free[agent], job.resources.vector)
        if array:
            self._left[array] = self._left.get(array, 0) + 1
            if array in self._lines:
                self._lines[array].active.add(job_id)

    def _lasts(self, job_id: int, spread: int, kind: int, elapsed: float) -> float:
        limit = self._situation.kinds[kind].timeout_s
        lasts = self._durations(job_id, spread, elapsed)
        return lasts if limit is None else min(lasts, limit)

    def _job(self, job_id: int, kind: int, attempts: tuple[Attempt, ...] = ()) -> Job:
        asked = self._situation.kinds[kind]
        return Job(
            id=job_id,
            owner=asked.owner,
            command="",
            resources=self._resources[kind],
            submitted=0.0,
            attributes=asked.attributes,
            priority=asked.priority,
            timeout_s=asked.timeout_s,
            kill_grace_s=asked.kill_grace_s,
            attempts=attempts,
        )

    # -- from event to event -----------------------------------------------------------------------------

    def _forward(self) -> None:
        at = min(
            self._ends[0][0] if self._ends else math.inf,
            self._times[0][0] if self._times else math.inf,
            self._next_arrival.start_at,
        )
        if at == math.inf:  # what is queued fits nowhere beside what never ends
            self._alive = 0
            return
        until = at + (at - self._begin) * self._step
        self.now = at
        if self._scheduler.patience_s and self.now >= self._next_look:
            self._give_places()
        while self._ends and self._ends[0][0] <= until:
            self.now, job_id = heappop(self._ends)
            self._end(job_id)
        while self._times and self._times[0][0] <= self.now:
            self._ready(heappop(self._times)[1])
        while self._next_arrival.start_at <= self.now:
            self._arrives(self._next_arrival)

    def _arrives(self, waiter: Waiter) -> None:
        self._waiters[waiter.id] = waiter
        missing = [awaited for awaited in waiter.after if awaited not in self.ended]
        for awaited in missing:
            self._awaited[awaited].append(waiter.id)
        self._pending[waiter.id] = len(missing)
        self._may_start(waiter.id)
        self._next_arrival = next(self._arriving, _NOBODY)

    def _give_places(self) -> None:
        """As the real server does once a second; less often where that would take long, and later on."""
        self._scheduler.hold_places(self._agents, self._since.__getitem__, self.now)
        pause = self._step * (1 + min(10.0, len(self._agents) / 40))
        self._next_look = self.now + (max(1.0, (self.now - self._begin) * pause) if self._step else 0.0)

    def _end(self, job_id: int) -> None:
        job = self._running.pop(job_id)
        self.ended[job_id] = self.now
        self._alive -= job_id < FIRST_ARRIVAL
        self._scheduler.stopped(job, self.now)
        agent = job.attempts[-1].agent
        if agent in self._free:
            self._free[agent] = add(self._free[agent], job.resources.vector)
            self._unoffered[agent] = None
        self._resolve(job_id)
        array = self._array_of.get(job_id)
        if array is not None:
            line = self._lines.get(array)
            if line is not None:
                line.active.discard(job_id)
                self._widen(line)
            if self._is_last(array):
                self.ended[array] = self.now
                self._resolve(array)

    def _is_last(self, array: int) -> bool:
        """One of its tasks has ended. Returns whether none is left."""
        self._left[array] -= 1
        return not self._left[array]

    def _resolve(self, ended: int) -> None:
        for waiting in self._awaited.pop(ended, ()):
            self._ready(waiting)

    def _ready(self, waiting: int) -> None:
        self._pending[waiting] -= 1
        self._may_start(waiting)

    def _may_start(self, job_id: int) -> None:
        if self._pending[job_id] or not self._situation.open:
            return
        waiter = self._waiters[job_id]
        line = self._lines.get(waiter.array) if waiter.array else None
        if line is not None:
            heappush(line.waiting, job_id)
            self._widen(line)
        else:
            self._queue(waiter)

    def _widen(self, line: _Line) -> None:
        while line.waiting and len(line.active) < line.limit:
            job_id = heappop(line.waiting)
            line.active.add(job_id)
            self._queue(self._waiters[job_id])

    def _queue(self, waiter: Waiter) -> None:
        if waiter.kind not in self._takeable:
            return
        self._alive += waiter.id < FIRST_ARRIVAL
        self._scheduler.add(self._job(waiter.id, waiter.kind))
        self._since[waiter.id] = waiter.since if self.now == self._begin else self.now
        self._added = True

    # -- planning ----------------------------------------------------------------------------------------

    def _plan(self) -> None:
        scheduler, running = self._scheduler, self._running
        again = True
        while again:
            self._added = False
            self._offer()
            work = scheduler.prepare(len(running), PER_PASS, self.now)
            if work is None:
                return
            plan = work.solve()
            placed = scheduler.check(plan, len(running))
            by_offer: dict[str, list[int]] = {}
            for job_id, offer_id in placed:
                by_offer.setdefault(offer_id, []).append(job_id)
            for offer_id, job_ids in by_offer.items():
                self._start(scheduler.use(offer_id, job_ids).agent, job_ids)
            # What a complete pass left over fits nothing that is queued: no need to look again.
            again = bool(placed) and (not work.complete or self._added or len(placed) < len(plan))

    def _offer(self) -> None:
        """Room that no job of all fits into is not worth a look."""
        offers = [
            Offer(id=agent, agent=agent, room=self._free[agent], attributes=self._attributes[agent].attributes)
            for agent in self._unoffered
            if fits(self._least, self._free[agent]) and min(self._free[agent]) >= 0
        ]
        self._unoffered.clear()
        self._scheduler.offer(offers)

    def _start(self, agent: str, job_ids: Sequence[int]) -> None:
        free = self._free[agent]
        for job_id in job_ids:
            waiter = self._waiters[job_id]
            job = self._job(job_id, waiter.kind, (Attempt(1, agent, self.now),))
            free = subtract(free, job.resources.vector)
            lasts = self._lasts(job_id, waiter.spread, waiter.kind, 0.0)
            self._running[job_id] = job
            self._scheduler.started(job, self.now)
            if job_id < FIRST_ARRIVAL:
                self.started[job_id] = self.now
            if job_id in self._probes:
                self.agents[job_id] = agent
            heappush(self._ends, (self.now + lasts, job_id))
        self._free[agent] = free
        self._unoffered[agent] = None


class _Line:
    """An array of which only some tasks run at a time."""

    __slots__ = ("active", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active: set[int] = set()
        self.waiting: list[int] = []


def scheduler_of(rules: Rules) -> Scheduler:
    """A scheduler made as the real one was."""
    return Scheduler(
        rules.planner,
        rules.max_running,
        user_limits=rules.user_limits,
        patience_s=rules.patience_s,
        shares=Shares(rules.fair_resources, rules.half_life_s),
    )


def probes(situation: Situation) -> list[Waiter]:
    """The probe, or all its tasks that are told of, in order; none if nobody asks."""
    probe = situation.probe
    return [each for each in situation.waiters if probe in (each.id, each.array)] if probe else []


def takers(kind: Kind, situation: Situation) -> Iterator[Machine]:
    """Yield the agents that could take such a job if nothing else ran there."""
    constraint = parse(kind.attributes)
    for machine in situation.machines:
        if fits(kind.need, machine.room) and (not constraint.clauses or constraint.matches(machine.attributes)):
            yield machine


def _again(situation: Situation, shift: float) -> Iterator[Waiter]:
    """The arrivals to come, in order of time."""
    arrivals, length, begin = situation.arrivals, situation.arrivals_s, situation.now
    if not arrivals:
        return
    # Each at its distance from the beginning of the window; what does not recur turned by the shift.
    times = [(length - each.ago + shift * length * (not _recurs(each, situation))) % length for each in arrivals]
    order = sorted(range(len(arrivals)), key=times.__getitem__)
    place = {index: number for number, index in enumerate(order)}
    awaited = [[place[other] for other in arrivals[index].after if place[other] < place[index]] for index in order]
    for number in range(-(-(MOST_ARRIVALS + len(situation.waiters)) // len(arrivals))):
        first = FIRST_ARRIVAL + number * len(arrivals)
        for position, index in enumerate(order):
            when = begin + number * length + times[index]
            after = tuple(first + other for other in awaited[position])
            yield Waiter(first + position, arrivals[index].kind, arrivals[index].spread, when, after, when)


def _recurs(arrival: Arrival, situation: Situation) -> bool:
    return situation.spreads[arrival.spread].source == "pipeline"


def _agent_of(machine: Machine) -> Agent:
    return Agent(id=machine.id, host=machine.host, total=from_vector(machine.room), attributes=machine.attributes)


def _least_need(situation: Situation) -> Vector:
    kinds = {each.kind for each in situation.waiters} | {each.kind for each in situation.arrivals}
    needs = {situation.kinds[kind].need for kind in kinds}
    found: Vector | None = None
    for need in needs:
        found = need if found is None else least(found, need)
    return found or (0, 0, 0, 0, 0)
