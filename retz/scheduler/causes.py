"""What keeps each shape of the queue waiting, cheaply: one look costs microseconds, not a walk over all agents.

Says what :class:`~.explain.Explainer` would say of a job of the shape, without the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from retz.model.agent import Agent
from retz.model.resources import RESOURCE_NAMES, Resources, Vector, fits

from .constraints import Constraint
from .queue import Shape
from .scheduler import Scheduler
from .waits import Cause

_NOTHING: Vector = (0, 0, 0, 0, 0)


class _Machine(NamedTuple):
    agent: Agent
    free: Vector


class Judge:
    """Judges shapes against one moment.

    Args:
        agents, free, mode, running, trouble: As for :class:`~.explain.Explainer`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        agents: Sequence[Agent],
        free: Mapping[str, Resources],
        *,
        mode: str,
        running: int,
        trouble: str | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._agents = agents
        self._active = [
            _Machine(agent, free[agent.id].vector if agent.id in free else _NOTHING)
            for agent in agents
            if agent.state == "active"
        ]
        self._most = tuple(map(max, zip(*(machine.free for machine in self._active), strict=True)))
        self._all = self._of_all(mode, running)
        self._trouble = trouble is not None
        self._found: dict[tuple[Vector, str], Cause | None] = {}

    def _of_all(self, mode: str, running: int) -> Cause | None:
        if mode in ("paused", "draining"):
            return mode
        return "max_running" if 0 < self._scheduler.max_running <= running else None

    def cause(self, shape: Shape) -> Cause:
        """What the jobs of this shape wait for now."""
        if self._trouble:
            return "engine"
        key = shape.key[:2]
        if key not in self._found:
            self._found[key] = self._look(shape.need, shape.constraint)
        found = self._found[key]
        if found == "never":
            return found
        if self._all is not None:
            return self._all
        if self._scheduler.over_limit(shape.owner, shape.need):
            return "user_limit"
        return "order" if found is None else found

    def _look(self, need: Vector, constraint: Constraint) -> Cause | None:
        if not self._agents:
            return "room"
        if self._is_beyond_all(need) and not constraint.clauses:
            kept, room = 0, None
        else:
            kept, room = self._rooms(need, constraint)
        if room is not None:
            return None
        if kept:
            return "place"
        if not self._is_able(need, constraint):
            return "never"
        return self._short_of(need, constraint)

    def _is_beyond_all(self, need: Vector) -> bool:
        return not self._most or any(wanted > most for wanted, most in zip(need, self._most, strict=True))

    def _rooms(self, need: Vector, constraint: Constraint) -> tuple[int, _Machine | None]:
        """How many agents that have the room are kept for others, and one that is not."""
        places, kept = self._scheduler.places, 0
        for machine in self._active:
            if fits(need, machine.free) and (not constraint.clauses or constraint.matches(machine.agent.attributes)):
                if machine.agent.id not in places:
                    return kept, machine
                kept += 1
        return kept, None

    def _is_able(self, need: Vector, constraint: Constraint) -> bool:
        """Whether some agent could take it if it were empty."""
        return any(
            (agent.guessed or fits(need, agent.total.vector))
            and (not constraint.clauses or constraint.matches(agent.attributes))
            for agent in self._agents
        )

    def _short_of(self, need: Vector, constraint: Constraint) -> Cause:
        most: Sequence[int] = self._most
        if constraint.clauses:
            free = [m.free for m in self._active if constraint.matches(m.agent.attributes)]
            most = [max(amounts) for amounts in zip(*free, strict=True)]
        for name, wanted, there in zip(RESOURCE_NAMES, need, most, strict=False):
            if wanted > there:
                return f"room:{name}"
        return "room"
