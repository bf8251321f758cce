"""What keeps a queued job waiting, judged cheaply: a look costs microseconds, not a walk over all agents.

The reasons, in the order in which they are looked for: the engine can start nothing; no agent known could ever run it;
the queue is paused or draining; as many jobs run as may; its user holds what one user may hold; no agent has the room
now; the agents that have it are kept for jobs that waited long; other jobs come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from retz.model.agent import Agent
from retz.model.resources import RESOURCE_NAMES, Vector, fits

from .constraints import Constraint
from .places import Place
from .scheduler import Scheduler
from .waits import Cause

BlockedBy = Literal[
    "held",
    "engine",
    "dependency",
    "time",
    "array",
    "paused",
    "draining",
    "max_running",
    "user_limit",
    "room",
    "place",
    "never",
    "order",
]


class Machine(NamedTuple):
    """An agent as the engine reports it, and what nobody holds of it, others who share it included."""

    agent: Agent
    free: Vector


class Blocked(NamedTuple):
    """What jobs wait for.

    Attributes:
        short_of: Of ``room``: the resource of which no agent has enough free, "" if none lacks one alone.
        kept: Of ``place``: one that keeps an agent with room for somebody.
    """

    by: BlockedBy
    short_of: str = ""
    kept: Place | None = None

    @property
    def cause(self) -> Cause:
        """As the book of waits has it."""
        return f"{self.by}:{self.short_of}" if self.short_of else self.by


_ORDER, _NEVER, _ROOM = Blocked("order"), Blocked("never"), Blocked("room")
_MODES = {"paused": Blocked("paused"), "draining": Blocked("draining")}


class Judge:
    """Judges against one moment. Make one for many jobs: equal ones are looked at once.

    Args:
        machines: All that are known.
        mode: ``open``, ``paused`` or ``draining``.
        running: How many jobs run now.
        stuck: The engine starts nothing.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        machines: Sequence[Machine],
        *,
        mode: str,
        running: int,
        stuck: bool = False,
    ) -> None:
        self.machines = machines
        self._scheduler = scheduler
        self._active = [machine for machine in self.machines if machine.agent.state == "active"]
        self._most = tuple(map(max, zip(*(machine.free for machine in self._active), strict=True)))
        self._stuck = stuck
        self._all = _MODES.get(mode)
        if self._all is None and 0 < scheduler.max_running <= running:
            self._all = Blocked("max_running")
        self._found: dict[tuple[Vector, str], Blocked] = {}

    def blocked(self, need: Vector, constraint: Constraint, owner: str) -> Blocked:
        """What queued jobs of this need, constraint and owner wait for; ``order`` if nothing but who comes before."""
        if self._stuck:
            return Blocked("engine")
        key = (need, constraint.text)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look(need, constraint)
        if found is _NEVER:
            return found
        if self._all is not None:
            return self._all
        return Blocked("user_limit") if self._scheduler.over_limit(owner, need) else found

    def _look(self, need: Vector, constraint: Constraint) -> Blocked:
        """What the agents have to say about it."""
        if not self.machines:
            return _ROOM
        if constraint.clauses or not self._is_beyond_all(need):
            fitting = self._fitting(need, constraint)
            if fitting is not None:
                return fitting
        if not any(could_take(machine.agent, need, constraint) for machine in self.machines):
            return _NEVER
        return Blocked("room", self._short_of(need, constraint))

    def _is_beyond_all(self, need: Vector) -> bool:
        return not self._most or any(wanted > most for wanted, most in zip(need, self._most, strict=True))

    def _fitting(self, need: Vector, constraint: Constraint) -> Blocked | None:
        """``order`` if an agent has the room, ``place`` if all that have it are kept; None if none has it."""
        places, kept = self._scheduler.places, None
        for machine in self._active:
            if fits(need, machine.free) and constraint.matches(machine.agent.attributes):
                place = places.get(machine.agent.id)
                if place is None:
                    return _ORDER
                kept = kept or place
        return Blocked("place", kept=kept) if kept is not None else None

    def _short_of(self, need: Vector, constraint: Constraint) -> str:
        most: Sequence[int] = self._most
        if constraint.clauses:
            free = [m.free for m in self._active if constraint.matches(m.agent.attributes)]
            most = [max(amounts) for amounts in zip(*free, strict=True)]
        short = (name for name, wanted, there in zip(RESOURCE_NAMES, need, most, strict=False) if wanted > there)
        return next(short, "")


def could_take(agent: Agent, need: Vector, constraint: Constraint) -> bool:
    """Whether the agent could take such a job if it were empty."""
    return constraint.matches(agent.attributes) and (agent.guessed or fits(need, agent.total.vector))
