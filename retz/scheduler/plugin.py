"""Planners of users' own: what they are shown and what they answer. Plain data, the same in server, worker and tests.

A planner is a class with one method::

    def plan(self, situation: Situation) -> Iterable[Choice]: ...

It is shown *shapes* of waiting jobs and offers, and answers how many jobs of which shape go to which offer. It is asked
again until it answers nothing, and again whenever jobs come or room becomes free. ``docs/planners.md`` has an example.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from retz.model.agent import AttributeValue

from .constraints import parse


class Amounts(NamedTuple):
    """An amount of each resource: cpus in thousandths, mem and disk in MiB. Integers, so that sums stay exact."""

    cpus: int
    mem: int
    disk: int
    gpus: int
    ports: int

    def times(self, need: Amounts) -> int:
        """How many jobs of this need find room in it: at most a million, which is said of those that need nothing."""
        most = 1_000_000
        for have, each in zip(self, need, strict=True):
            if each > 0:
                most = min(most, have // each)
        return max(0, most)

    def less(self, need: Amounts, count: int = 1) -> Amounts:
        """What is left beside so many jobs of this need; negative where they are too many."""
        return Amounts(*(have - each * count for have, each in zip(self, need, strict=True)))


class Waiting(Struct, frozen=True, array_like=True):
    """Jobs that wait and are alike.

    Attributes:
        key: Names the shape in a :class:`Choice`: the lowest of its job ids, so that lower keys were submitted earlier.
        need: What each of them needs.
        attributes: What it asks of an agent's attributes, as people write it: ``rack=r1,level>=10``.
        owner: An opaque name of the user.
        priority: -20 to 19; lower is more urgent.
        limit_s: Each ends within so many seconds; infinity where there is no time limit.
        count: How many there are to place now. Those that their user may not have running now do not count.
        waited_s: How long the first of them has waited.
    """

    key: int
    need: Amounts
    attributes: str
    owner: str
    priority: int
    limit_s: float
    count: int
    waited_s: float


class Kept(Struct, frozen=True, array_like=True):
    """An agent is kept for a job that has waited long (``retz.planner.patience``).

    Others may use it if they do not delay that one: they end before it starts, fit beside it, or come before it.

    Attributes:
        shape: Key of the job's shape.
        job: The job. As soon as it fits there it is started, without the planner.
        within_s: By then it can start; infinity if nobody knows.
        spare: What will be free beside it.
    """

    shape: int
    job: int
    within_s: float
    spare: Amounts


class Room(Struct, frozen=True, array_like=True):
    """Room that may be used now."""

    id: str
    agent: str
    host: str
    room: Amounts
    attributes: dict[str, AttributeValue]
    kept: Kept | None = None

    def accepts(self, shape: Waiting) -> bool:
        """Whether such a job may go there: the attributes are right, and the agent is not kept for another."""
        return self.suits(shape) and self.is_free_for(shape)

    def suits(self, shape: Waiting) -> bool:
        """Whether the agent has the attributes that these jobs ask for."""
        return not shape.attributes or parse(shape.attributes).matches(self.attributes)

    def is_free_for(self, shape: Waiting) -> bool:
        """Whether such a job would not delay one for which the agent is kept."""
        kept = self.kept
        return (
            kept is None
            or shape.key == kept.shape
            or shape.key < kept.job
            or (shape.limit_s < math.inf and shape.limit_s <= kept.within_s)
            or kept.spare.times(shape.need) > 0
        )


class User(Struct, frozen=True, array_like=True):
    """A user some of whose jobs wait.

    Attributes:
        name: As in :attr:`Waiting.owner`.
        share: The largest part that the user's running jobs hold of the cluster's cpus, memory or GPUs, 0 to 1.
        used_s: That share added up over time, in seconds of the whole cluster, fading (``retz.planner.half-life``).
        held: What the user's running jobs hold.
    """

    name: str
    share: float
    used_s: float
    held: Amounts


class Situation(Struct, frozen=True, array_like=True):
    """What there is to plan.

    Attributes:
        now: Seconds since the epoch.
        limit: No more jobs than this are started by one answer; the rest of a longer one is ignored.
        running: How many jobs run now.
        waiting: The shapes, those submitted first in front.
        offers: The room.
        users: Those who have jobs waiting.
    """

    now: float
    limit: int
    running: int
    waiting: tuple[Waiting, ...]
    offers: tuple[Room, ...]
    users: tuple[User, ...] = ()


class Choice(NamedTuple):
    """So many ``jobs`` of the shape with this key go to this offer. A plain tuple will do."""

    shape: int
    offer: str
    jobs: int = 1


class OwnPlanner(Protocol):
    """A planner of a user's own. It is made once, without arguments, and may remember things between plans."""

    def plan(self, situation: Situation) -> Iterable[Choice | tuple[int, str, int]]:
        """Return what to start where now."""


class Problem(NamedTuple):
    """What is wrong with a plan. ``kind`` is one of :data:`KINDS`."""

    kind: str
    text: str


KINDS = ("unknown", "count", "double", "attributes", "kept", "over-commit")


def problems(situation: Situation, choices: Sequence[Choice]) -> list[Problem]:
    """Return what is wrong with a plan, in its order; nothing for one that can be used.

    ======================  =======================================================================
    ``unknown``             a shape or offer that is not in the situation
    ``count``               less than one job
    ``double``              more jobs of a shape than wait
    ``attributes``          the agent has not the attributes that the jobs ask for
    ``kept``                jobs on an agent that is kept for another, which they would delay
    ``over-commit``         more on an offer than there is room for
    ======================  =======================================================================
    """
    shapes = {shape.key: shape for shape in situation.waiting}
    offers = {offer.id: offer for offer in situation.offers}
    left = {shape.key: shape.count for shape in situation.waiting}
    rooms = {offer.id: offer.room for offer in situation.offers}
    found: list[Problem] = []
    for key, name, count in choices:
        shape, offer = shapes.get(key), offers.get(name)
        if shape is None:
            found.append(Problem("unknown", f"there is no shape {key}"))
        elif offer is None:
            found.append(Problem("unknown", f"there is no offer {name!r}"))
        elif count < 1:
            found.append(Problem("count", f"{count} jobs of shape {key} on offer {name}: at least 1"))
        elif count > left[key]:
            found.append(Problem("double", f"{count} jobs of shape {key}, but only {left[key]} wait or are left"))
        elif not offer.suits(shape):
            found.append(Problem("attributes", f"shape {key} asks for {shape.attributes!r}: not on offer {name}"))
        elif not offer.is_free_for(shape):
            found.append(Problem("kept", f"shape {key} would delay the job for which offer {name} is kept"))
        elif rooms[name].times(shape.need) < count:
            left_over = _text(rooms[name], shape.need)
            text = (
                f"{count} x {_text(shape.need, shape.need)} (shape {key}) on offer {name}, where {left_over} are left"
            )
            found.append(Problem("over-commit", text))
        else:
            left[key] -= count
            rooms[name] = rooms[name].less(shape.need, count)
    return found


def _text(amounts: Amounts, of: Amounts) -> str:
    """The amounts of what ``of`` has any of."""
    units = ("{:g} cpus", "{} MiB", "{} MiB of disk", "{} gpus", "{} ports")
    values = (amounts.cpus / 1000, *amounts[1:])
    return ", ".join(unit.format(value) for unit, value, some in zip(units, values, of, strict=True) if some)
