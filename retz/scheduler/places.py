"""Places held for jobs that waited long: which agent is kept, since when, and what may pass.

A job that fits nowhere now, but could run on some agent, holds a place there once it has waited for the
*patience*: the agent on which it can start soonest, judged by the time limits of what runs there. Jobs behind it in
the planner's order may still use the agent if they do not delay it (backfill): either they end before it can
start, or they fit beside it at that time. A job without a time limit is taken to run for ever.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import NamedTuple

from msgspec import Struct

from retz.model.agent import Agent
from retz.model.resources import Vector, add, fits, subtract

from .constraints import Constraint
from .limits import NOTHING

MAX_PLACES = 100
"""So many are held at one time, at most."""

MAX_LOOKS = 1000
"""So many agents are looked at for one job; in larger clusters the soonest of these is kept."""

MAX_ROOMS = 50_000
"""Agents that are remembered, also such as are gone."""


class Load:
    """What runs on one agent: the amounts held, and the ends of those that have a time limit, soonest first."""

    __slots__ = ("ends", "held")

    def __init__(self) -> None:
        self.held: Vector = NOTHING
        self.ends: list[tuple[float, int, Vector]] = []


_IDLE = Load()


class Start(NamedTuple):
    """When a job can start on an agent: infinity if that hangs on jobs without a time limit.

    ``free`` is what is free then, the job not counted.
    """

    at: float
    free: Vector


class Found(NamedTuple):
    """An agent for a place, what of it is ours, and when a job can start there."""

    agent: Agent
    room: Vector
    start: Start


class Place(Struct):
    """A place held on an agent.

    Attributes:
        room: What of the agent is ours when nothing of ours runs there.
        since: When it was given.
        looked: When other agents were looked at last.
        start: When the job can start there, at the latest.
        spare: What is free beside it at that time; negative where others must end first.
    """

    agent: str
    host: str
    job: int
    owner: str
    need: Vector
    room: Vector
    since: float
    looked: float
    start: float
    spare: Vector


class Places:
    """What runs where until when, and the places held. Pure bookkeeping; time is an argument."""

    def __init__(self) -> None:
        self.loads: dict[str, Load] = {}
        self.by_agent: dict[str, Place] = {}
        self.by_job: dict[int, Place] = {}
        self.changed: set[str] = set()
        """Agents with a place on which something started or ended since it was last reckoned."""
        self._ends: dict[int, float] = {}
        self._begin = 0
        self._rooms: dict[str, tuple[Agent, Vector]] = {}

    def started(self, agent: str, amount: Vector) -> None:
        """So much more of an agent is held."""
        load = self.loads.get(agent)
        if load is None:
            load = self.loads[agent] = Load()
        load.held = add(load.held, amount)
        if agent in self.by_agent:
            self.changed.add(agent)

    def will_end(self, job_id: int, agent: str, need: Vector, end: float) -> None:
        """A job that is counted there holds its part until ``end`` at the latest."""
        insort(self.loads[agent].ends, (end, job_id, need))
        self._ends[job_id] = end

    def ended(self, job_id: int, agent: str, need: Vector) -> None:
        """Such a job holds it no more; to be told before :meth:`stopped`."""
        end = self._ends.pop(job_id, None)
        if end is not None:
            self.loads[agent].ends.remove((end, job_id, need))

    def stopped(self, agent: str, amount: Vector) -> None:
        """So much less of an agent is held."""
        load = self.loads[agent]
        load.held = subtract(load.held, amount)
        if load.held == NOTHING:
            del self.loads[agent]
        if agent in self.by_agent:
            self.changed.add(agent)

    def start(self, agent: str, room: Vector, need: Vector, now: float) -> Start:
        """When a job of this need can start on the agent."""
        load = self.loads.get(agent, _IDLE)
        found = _when(load, room, need, now, math.inf)
        assert found is not None
        at, ended = found
        free = subtract(room, load.held)
        for _, _, released in load.ends[:ended]:
            free = add(free, released)
        return Start(at, free)

    def _room(self, agent: Agent) -> Vector:
        """:func:`own_room`, reckoned once for every new record of an agent."""
        known = self._rooms.get(agent.id)
        if known is None or known[0] is not agent:
            known = self._rooms[agent.id] = agent, own_room(agent)
        return known[1]

    def find(
        self,
        need: Vector,
        constraint: Constraint,
        agents: Sequence[Agent],
        now: float,
        yields: Callable[[Place], bool] = lambda place: False,
    ) -> Found | None:
        """Return the agent on which such a job can start soonest; None if none can.

        Among agents on which that hangs on jobs without a time limit, the one that lacks least. An agent with a place
        counts only if the place ``yields``.
        """
        best: tuple[float, float] | None = None
        found: tuple[Agent, Vector] | None = None
        if len(self._rooms) > MAX_ROOMS:
            self._rooms.clear()
        looks = 0
        for agent in self._from_another(agents):
            if looks == MAX_LOOKS:
                break
            room = self._room(agent)
            if not fits(need, room) or agent.state != "active":
                continue
            place = self.by_agent.get(agent.id)
            if place is not None and not yields(place):
                continue
            if constraint.clauses and not constraint.matches(agent.attributes):
                continue
            looks += 1
            when = _when(self.loads.get(agent.id, _IDLE), room, need, now, best[0] if best else math.inf)
            if when is None:
                continue
            key = (when[0], self._lack(agent.id, room, need) if when[0] == math.inf else 0.0)
            if best is None or key < best:
                best, found = key, (agent, room)
        if found is None:
            return None
        agent, room = found
        return Found(agent, room, self.start(agent.id, room, need, now))

    def _from_another(self, agents: Sequence[Agent]) -> Iterable[Agent]:
        """All agents; where they are too many to be looked at, from another one on each time."""
        if len(agents) <= MAX_LOOKS:
            return agents
        self._begin = (self._begin + MAX_LOOKS) % len(agents)
        return chain(islice(agents, self._begin, None), islice(agents, self._begin))

    def _lack(self, agent: str, room: Vector, need: Vector) -> float:
        """How much of an agent is missing, as a part of it, when all jobs with a time limit have ended."""
        load = self.loads.get(agent, _IDLE)
        free = subtract(room, load.held)
        for _, _, released in load.ends:
            free = add(free, released)
        return max((n - f) / r for n, f, r in zip(need, free, room, strict=True) if r > 0)

    def hold(self, job: int, owner: str, found: Found, need: Vector, now: float) -> None:
        """Hold a place for a job that has none, on an agent without one."""
        agent, room, start = found
        place = Place(agent.id, agent.host, job, owner, need, room, now, now, start.at, subtract(start.free, need))
        self.by_agent[agent.id] = self.by_job[job] = place

    def drop(self, place: Place) -> None:
        """It is not held any more."""
        del self.by_agent[place.agent]
        del self.by_job[place.job]
        self.changed.discard(place.agent)

    def reckon(self, place: Place, now: float) -> bool:
        """Find out anew when its job can start. Returns whether others may use more than before."""
        self.changed.discard(place.agent)
        start = self.start(place.agent, place.room, place.need, now)
        spare = subtract(start.free, place.need)
        more = start.at > place.start or not fits(spare, place.spare)
        place.start, place.spare = start.at, spare
        return more


def own_room(agent: Agent) -> Vector:
    """What of an agent others do not hold."""
    return subtract(agent.total.vector, agent.others.vector)


def _when(load: Load, room: Vector, need: Vector, now: float, before: float) -> tuple[float, int] | None:
    """When a job can start, and how many jobs that have a time limit must have ended; None if not before ``before``.

    Only what is short is counted, which takes half the time.
    """
    held = load.held
    if not load.ends:  # no time limits, no times
        return (now if fits(add(held, need), room) else math.inf), 0
    short = [[index, need[index] + held[index] - room[index]] for index in range(5)]
    short = [each for each in short if each[1] > 0]
    if not short:
        return now, 0
    for number, (end, _, released) in enumerate(load.ends, 1):
        if end >= before:
            return None
        for each in short:
            each[1] -= released[each[0]]
        if all(each[1] <= 0 for each in short) if len(short) > 1 else short[0][1] <= 0:
            return max(now, end), number
    return math.inf, len(load.ends)
