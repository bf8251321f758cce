"""Machines for whoever judges or explains what jobs wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retz.model.agent import Agent
from retz.model.resources import Resources
from retz.scheduler.causes import Machine

_NOTHING = Resources(0, 0).vector


def machines_of(agents: Sequence[Agent], free: Mapping[str, Resources]) -> list[Machine]:
    """These agents with what is free of each, by id; one that is missing has nothing free."""
    return [Machine(agent, free[agent.id].vector if agent.id in free else _NOTHING) for agent in agents]
