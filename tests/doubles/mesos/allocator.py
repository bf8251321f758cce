"""Who is offered what: resource arithmetic, filters, suppression, fair shares, and what nobody uses."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .model import AgentRecord, Framework, Json

Key = tuple[str, str]
"""Name of a resource, and the role it is reserved for ("*": for none)."""

Ranges = list[tuple[int, int]]

MIN_CPUS = 10
MIN_MEM = 32_000
"""In thousandths: what has neither that much cpu nor that much memory is not worth an offer."""


class Bundle:
    """An amount of resources: scalars in thousandths, ranges sorted and disjoint. Keys keep their order."""

    __slots__ = ("ranges", "scalars")

    def __init__(self) -> None:
        self.scalars: dict[Key, int] = {}
        self.ranges: dict[Key, Ranges] = {}

    @classmethod
    def of(cls, resources: Iterable[Json]) -> Bundle:
        """Add up resources as they are written in JSON."""
        bundle = cls()
        for resource in resources:
            key = (resource["name"], reserved_role(resource))
            if resource.get("type") == "RANGES":
                pieces = [(int(r["begin"]), int(r["end"])) for r in resource["ranges"]["range"]]
                bundle.ranges[key] = _joined(bundle.ranges.get(key, []) + pieces)
            else:
                bundle.scalars[key] = bundle.scalars.get(key, 0) + thousandths(resource["scalar"]["value"])
        return bundle

    def copy(self) -> Bundle:
        """An independent copy."""
        bundle = Bundle()
        bundle.scalars = dict(self.scalars)
        bundle.ranges = dict(self.ranges)
        return bundle

    def add(self, other: Bundle) -> None:
        """Take in."""
        scalars = self.scalars
        for key, value in other.scalars.items():
            scalars[key] = scalars.get(key, 0) + value
        for key, pieces in other.ranges.items():
            self.ranges[key] = _joined(self.ranges.get(key, []) + pieces)

    def subtract(self, other: Bundle) -> None:
        """Give up; :meth:`contains` must have said yes."""
        for key, value in other.scalars.items():
            left = self.scalars[key] - value
            if left:
                self.scalars[key] = left
            else:
                del self.scalars[key]
        for key, pieces in other.ranges.items():
            rest = _without(self.ranges[key], pieces)
            if rest:
                self.ranges[key] = rest
            else:
                del self.ranges[key]

    def contains(self, other: Bundle) -> bool:
        """Whether all of the other is in here."""
        mine = self.scalars
        for key, value in other.scalars.items():
            if mine.get(key, 0) < value:
                return False
        return all(_covers(self.ranges.get(key, []), pieces) for key, pieces in other.ranges.items())

    def for_role(self, role: str) -> Bundle:
        """What is reserved for a role, or for nobody."""
        roles = ("*", role)
        if all(key[1] in roles for key in self.scalars) and all(key[1] in roles for key in self.ranges):
            return self.copy()
        bundle = Bundle()
        bundle.scalars = {key: value for key, value in self.scalars.items() if key[1] in roles}
        bundle.ranges = {key: pieces for key, pieces in self.ranges.items() if key[1] in roles}
        return bundle

    def amount(self, name: str) -> int:
        """The sum of a scalar, in thousandths, of all reservations."""
        return sum(value for key, value in self.scalars.items() if key[0] == name)

    def worth_offering(self) -> bool:
        """Whether an offer of it is made at all."""
        return self.amount("cpus") >= MIN_CPUS or self.amount("mem") >= MIN_MEM

    def __bool__(self) -> bool:
        return bool(self.scalars or self.ranges)

    def resources(self, role: str, order: Iterable[Key] = ()) -> Iterator[Json]:
        """As in an offer to a role, with ``allocation_info``, in the agent's order."""
        for key in order or (*self.ranges, *self.scalars):
            if key in self.scalars:
                value: Json = {"type": "SCALAR", "scalar": {"value": self.scalars[key] / 1000}}
            elif key in self.ranges:
                value = {"type": "RANGES", "ranges": {"range": [{"begin": b, "end": e} for b, e in self.ranges[key]]}}
            else:
                continue
            yield {"name": key[0], **value, "role": key[1], "allocation_info": {"role": role}}

    def text(self, role: str, order: Iterable[Key] = ()) -> str:
        """As in messages: ``cpus(allocated: team):0.5; ports(allocated: team):[31000-31100]``."""
        return "; ".join(self._texts(role, order or (*self.scalars, *self.ranges)))

    def _texts(self, role: str, order: Iterable[Key]) -> Iterator[str]:
        for name, reserved in order:
            marks = f"(allocated: {role})" + (f"(reservations: [(STATIC,{reserved})])" if reserved != "*" else "")
            if (name, reserved) in self.scalars:
                yield f"{name}{marks}:{number(self.scalars[name, reserved] / 1000)}"
            elif (name, reserved) in self.ranges:
                pieces = ", ".join(f"{begin}-{end}" for begin, end in self.ranges[name, reserved])
                yield f"{name}{marks}:[{pieces}]"


def thousandths(value: float) -> int:
    """A scalar as Mesos calculates with it."""
    return round(value * 1000)


def number(value: float) -> str:
    """A scalar in a message: ``2``, ``0.5``."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def reserved_role(resource: Json) -> str:
    """For whom a resource is reserved, in the old format (``role``) and in the new (``reservations``)."""
    reservations = resource.get("reservations")
    return str(reservations[-1].get("role", "*") if reservations else resource.get("role", "*"))


def _joined(pieces: Ranges) -> Ranges:
    joined: Ranges = []
    for begin, end in sorted(pieces):
        if joined and begin <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _covers(pieces: Ranges, wanted: Ranges) -> bool:
    return all(any(begin <= b and e <= end for begin, end in pieces) for b, e in wanted)


def _without(pieces: Ranges, taken: Ranges) -> Ranges:
    for b, e in taken:
        rest: Ranges = []
        for begin, end in pieces:
            if e < begin or end < b:
                rest.append((begin, end))
                continue
            if begin < b:
                rest.append((begin, b - 1))
            if e < end:
                rest.append((e + 1, end))
        pieces = rest
    return pieces


@dataclass(slots=True, eq=False)
class Slot:
    """An agent's resources: all, what is neither used nor offered, and the order in which they are listed."""

    agent: AgentRecord
    total: Bundle
    free: Bundle
    order: tuple[Key, ...]
    gpus: bool


@dataclass(slots=True)
class Grant:
    """What one framework gets of one agent in one round."""

    framework: Framework
    slot: Slot
    role: str
    amount: Bundle


@dataclass(slots=True)
class Shares:
    """What a role holds, in thousandths."""

    cpus: int = 0
    mem: int = 0


@dataclass(slots=True)
class Allocator:
    """Decides rounds of offers. The master sends them and says what came back.

    Attributes:
        filters: Of (framework, role, agent): what was refused, and until when.
        shares: What roles hold (offered or used) of cpus and mem, for fair shares.
    """

    slots: dict[str, Slot] = field(default_factory=dict)
    filters: dict[tuple[str, str, str], list[tuple[float, Bundle]]] = field(default_factory=dict)
    shares: dict[str, Shares] = field(default_factory=dict)
    shuffle: random.Random = field(default_factory=random.Random)

    def _hold(self, role: str, bundle: Bundle, sign: int) -> None:
        share = self.shares.setdefault(role, Shares())
        share.cpus += sign * bundle.amount("cpus")
        share.mem += sign * bundle.amount("mem")

    def add_agent(self, agent: AgentRecord, used: Iterable[tuple[str, Bundle]]) -> Slot:
        """An agent with what roles use of it already."""
        total = Bundle.of(agent.link.resources)
        order = tuple(dict.fromkeys((each["name"], reserved_role(each)) for each in agent.link.resources))
        # An offer lists ranges first, as Mesos happened to do in every recording.
        order = tuple(sorted(order, key=lambda key: key not in total.ranges))
        slot = Slot(agent, total, total.copy(), order, total.amount("gpus") > 0)
        self.slots[agent.id] = slot
        for role, bundle in used:
            self.take(slot, role, bundle)
        return slot

    def remove_agent(self, agent_id: str) -> None:
        """An agent is gone; nobody holds anything of it any more."""
        self.slots.pop(agent_id, None)

    def take(self, slot: Slot, role: str, bundle: Bundle) -> None:
        """Offered, or used already."""
        if slot.free.contains(bundle):
            slot.free.subtract(bundle)
        self._hold(role, bundle, 1)

    def recover(self, agent_id: str, role: str, bundle: Bundle) -> None:
        """Neither offered nor used any more."""
        slot = self.slots.get(agent_id)
        if slot is not None:
            slot.free.add(bundle)
            self._hold(role, bundle, -1)

    def refuse(self, framework: str, role: str, agent: str, bundle: Bundle, until: float) -> None:
        """Do not offer this (or less) again before this time."""
        self.filters.setdefault((framework, role, agent), []).append((until, bundle))

    def _refused(self, key: tuple[str, str, str], amount: Bundle, now: float) -> bool:
        refused = self.filters.get(key)
        if not refused:
            return False
        if any(until <= now for until, _ in refused):
            refused[:] = [each for each in refused if each[0] > now]
            if not refused:
                del self.filters[key]
        return any(bundle.contains(amount) for _, bundle in refused)

    def clear_filters(self, framework: str, roles: Iterable[str] | None = None) -> None:
        """Forget what a framework refused, in these roles or in all."""
        wanted = None if roles is None else set(roles)
        for key in [key for key in self.filters if key[0] == framework and (wanted is None or key[1] in wanted)]:
            del self.filters[key]

    def round(self, frameworks: Iterable[Framework], now: float) -> list[Grant]:
        """Give out what is free; it is taken when this returns."""
        takers = _takers(frameworks)
        grants: list[Grant] = []
        if takers:
            slots = [slot for slot in self.slots.values() if slot.free and _offerable(slot.agent)]
            self.shuffle.shuffle(slots)
            for slot in slots:
                grants.extend(self._give(slot, takers, now))
        return grants

    def _give(self, slot: Slot, takers: dict[str, list[Framework]], now: float) -> Iterator[Grant]:
        for role in self._fair(takers):
            amount = slot.free.for_role(role)
            if not amount.worth_offering():
                continue
            for framework in takers[role]:
                if slot.gpus and not framework.gpus:
                    continue
                if self._refused((framework.id, role, slot.agent.id), amount, now):
                    continue
                self.take(slot, role, amount)
                yield Grant(framework, slot, role, amount)
                break

    def _fair(self, takers: dict[str, list[Framework]]) -> list[str]:
        """Roles, those that hold least first."""
        if len(takers) == 1:
            return list(takers)
        return sorted(takers, key=lambda role: (self._share(role), role))

    def _share(self, role: str) -> int:
        held = self.shares.get(role)
        return 0 if held is None else max(held.cpus, held.mem // 1000)


def _takers(frameworks: Iterable[Framework]) -> dict[str, list[Framework]]:
    """Who wants offers, by role; those with the fewest offers first."""
    takers: dict[str, list[Framework]] = {}
    for framework in sorted(frameworks, key=lambda each: len(each.offers)):
        if framework.active:
            for role in framework.roles:
                if role not in framework.suppressed:
                    takers.setdefault(role, []).append(framework)
    return takers


def _offerable(agent: AgentRecord) -> bool:
    return agent.connected and not agent.deactivated and agent.draining is None
