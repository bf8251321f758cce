"""Who has what of a machine: our jobs, others who share it, nobody."""

from __future__ import annotations

from typing import NamedTuple

from retz.model.agent import Agent
from retz.model.resources import Resources, Vector, least, subtract

_NOTHING: Vector = (0, 0, 0, 0, 0)
_NOBODY = Resources()


class Shares(NamedTuple):
    """Parts of a machine; ``used`` is ours. Together at most all of it, but for a moment while something changes."""

    total: Vector
    used: Vector
    others: Vector
    free: Vector


def shares(agent: Agent, held: Vector = _NOTHING) -> Shares:
    """The parts of ``agent``, of which our jobs hold ``held``.

    At most all of it counts as ours: a job in line behind a short one holds nothing yet.
    """
    total = agent.total.vector
    used = _NOTHING if held == _NOTHING else least(held, total)
    rest = subtract(total, used)
    if agent.others is _NOBODY or agent.others == _NOBODY:
        return Shares(total, used, _NOTHING, rest)
    others = least(agent.others.vector, total)
    cpus, mem, disk, gpus, ports = (max(0, amount) for amount in subtract(rest, others))
    return Shares(total, used, others, (cpus, mem, disk, gpus, ports))
