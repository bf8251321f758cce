"""Who has what of a machine: our jobs, others who share it, nobody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from retz.model.agent import Agent
from retz.model.resources import Resources, Vector, add, from_vector, least, subtract
from retz.scheduler.causes import Machine

T = TypeVar("T")

_NOTHING: Vector = (0, 0, 0, 0, 0)
_NOBODY = Resources()

MANY = 1_000
"""Machines."""


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


class Sums(NamedTuple):
    """Of all machines: ``total``, what our jobs and what others use of it, and the largest machine."""

    total: Resources
    used: Resources
    others: Resources
    largest: Resources


def sums(agents: Sequence[Agent], held: Mapping[str, Vector]) -> Sums:
    """Add up machines: equal amounts, of which there are few, are added up once.

    Args:
        held: What our jobs hold, by agent.
    """
    parts = Counter([(held.get(agent.id, _NOTHING), agent.total) for agent in agents])
    return Sums(
        _sum((total.vector, count) for (_, total), count in parts.items()),
        _sum((least(mine, total.vector), count) for (mine, total), count in parts.items() if mine != _NOTHING),
        _sum((amount.vector, count) for amount, count in Counter([agent.others for agent in agents]).items()),
        max((total for _, total in parts), key=lambda total: total.vector, default=_NOBODY),
    )


def machines(agents: Sequence[Agent], held: Mapping[str, Vector]) -> list[Machine]:
    """The machines with what nobody holds of each: neither we nor others who share it.

    Args:
        held: What our jobs hold, by agent.
    """
    return [Machine(agent, shares(agent, held.get(agent.id, _NOTHING)).free) for agent in agents]


class Latest(Generic[T]):
    """What is made of all machines; of many it is a second old at most: of 5 000 it holds a busy loop for 5-10 ms.

    Args:
        make: Makes it, of the machines and of what our jobs hold, by agent.
        clock: Monotonic seconds.
    """

    def __init__(
        self, make: Callable[[Sequence[Agent], Mapping[str, Vector]], T], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._found = make((), {})
        self._until = 0.0

    def of(self, agents: Sequence[Agent], held: Mapping[str, Vector]) -> T:
        """What is made of these machines."""
        now = self._clock()
        if len(agents) <= MANY or now >= self._until:
            self._found, self._until = self._make(agents, held), now + 1.0
        return self._found


def _sum(amounts: Iterable[tuple[Vector, int]]) -> Resources:
    result = _NOTHING
    for (cpus, mem, disk, gpus, ports), count in amounts:
        result = add(result, (cpus * count, mem * count, disk * count, gpus * count, ports * count))
    return from_vector(result)
