"""The offers of a cluster: those of one agent and role together, as one offer to the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from retz.model.agent import Offer
from retz.model.resources import RESOURCE_NAMES, Vector

from .wire import Entry, MesosOffer


class Bundle(NamedTuple):
    """What the server knows as one offer, and the offers of the master that it is made of."""

    offer: Offer
    parts: tuple[MesosOffer, ...]

    @property
    def ids(self) -> list[str]:
        """Ids of the master's offers."""
        return [part.id for part in self.parts]

    @property
    def entries(self) -> Sequence[Entry]:
        """All resources, entry by entry."""
        return entries_of(self.parts)


class News(NamedTuple):
    """What to tell the server: first the offers that are void, then the new ones."""

    void: list[str]
    new: list[Offer]


class MesosBook:
    """Offers at hand.

    Small offers of one agent ("crumbs", of tasks that ended one by one) are worth more together: a job may need
    several. Mesos takes several offers in one launch if agent and role are the same. What the server has claimed
    (between ``assign`` and ``launch`` or ``decline``) is left alone: it is neither combined nor called void.
    """

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex[:12]
        self._made = 0
        self._standing: dict[str, Bundle] = {}
        self._claimed: dict[str, Bundle] = {}
        self._at: dict[tuple[str, str], str] = {}
        """(agent, role) -> the standing offer there."""
        self._holder: dict[str, str] = {}
        """Id of a master's offer -> of ours that has it, standing or claimed."""

    def __len__(self) -> int:
        return len(self._standing) + len(self._claimed)

    def add(self, offers: Iterable[MesosOffer]) -> News:
        """Take in what the master offers."""
        void: list[str] = []
        places: dict[tuple[str, str], list[MesosOffer]] = {}
        for offer in offers:
            places.setdefault((offer.agent, offer.role), []).append(offer)
        new = [self._combine(place, parts, void) for place, parts in places.items()]
        return News(void, new)

    def _combine(self, place: tuple[str, str], parts: list[MesosOffer], void: list[str]) -> Offer:
        standing = self._at.get(place)
        if standing is not None:
            parts = [*self._standing.pop(standing).parts, *parts]
            void.append(standing)
        return self._stand(place, tuple(parts))

    def _stand(self, place: tuple[str, str], parts: tuple[MesosOffer, ...]) -> Offer:
        self._made += 1
        last = parts[-1]
        offer = Offer(
            id=f"{self._prefix}-{self._made}",
            agent=last.agent,
            room=room_of(entries_of(parts)),
            attributes=last.attributes,
            host=last.host,
        )
        self._standing[offer.id] = Bundle(offer, parts)
        self._at[place] = offer.id
        for part in parts:
            self._holder[part.id] = offer.id
        return offer

    def claim(self, offer_id: str) -> Bundle | None:
        """The server is about to launch on it; None if it is void. Repeating it is harmless."""
        bundle = self._standing.pop(offer_id, None)
        if bundle is None:
            return self._claimed.get(offer_id)
        del self._at[_place(bundle)]
        self._claimed[offer_id] = bundle
        return bundle

    def take(self, offer_id: str) -> Bundle | None:
        """Launched on or declined: it is not ours any more. None if it was void."""
        bundle = self.claim(offer_id)
        if bundle is None:
            return None
        del self._claimed[offer_id]
        for part in bundle.parts:
            self._holder.pop(part.id, None)
        return bundle

    def rescind(self, ids: Iterable[str]) -> News:
        """The master took offers back. A claimed one that lost a part is void when it is to be used.

        What such a one still had is ours to use or decline: nobody else would give it back to the master.
        """
        void: list[str] = []
        new: list[Offer] = []
        for part_id in ids:
            holder = self._holder.pop(part_id, None)
            if holder is None:
                continue
            bundle = self._claimed.pop(holder, None)
            if bundle is None:
                bundle = self._standing.pop(holder)
                del self._at[_place(bundle)]
                void.append(holder)
                new = [offer for offer in new if offer.id != holder]
            rest = [part for part in bundle.parts if part.id != part_id]
            if rest:
                new.append(self._combine(_place(bundle), rest, void))
        mine = set(void)
        return News(void, [offer for offer in new if offer.id not in mine])

    def drop_agent(self, agent: str) -> list[str]:
        """The agent is lost: its offers are void. Returns those that the server knows."""
        ids = [offer.id for offer in (b.offer for b in self._standing.values()) if offer.agent == agent]
        for offer_id in ids:
            self.take(offer_id)
        for offer_id in [b.offer.id for b in self._claimed.values() if b.offer.agent == agent]:
            self.take(offer_id)
        return ids

    def clear(self) -> list[str]:
        """Disconnected: all offers are void. Returns those that the server knows."""
        ids = list(self._standing)
        self._standing.clear()
        self._claimed.clear()
        self._at.clear()
        self._holder.clear()
        return ids


def entries_of(parts: Sequence[MesosOffer]) -> Sequence[Entry]:
    """All resources of some offers; nearly always there is one."""
    return parts[0].entries if len(parts) == 1 else [entry for part in parts for entry in part.entries]


def _place(bundle: Bundle) -> tuple[str, str]:
    return bundle.offer.agent, bundle.parts[0].role


_NO_ROOM = dict.fromkeys(RESOURCE_NAMES, 0.0)


def room_of(entries: Iterable[Entry]) -> Vector:
    """The sums of all entries, by resource; fractions of what only comes whole are left out."""
    sums = _NO_ROOM.copy()
    for entry in entries:
        sums[entry.name] += entry.amount
    cpus, mem, disk, gpus, ports = sums.values()
    # Mesos counts in thousandths; what arithmetic made of them is put right again.
    almost = 0.0005
    return (
        int(round(cpus * 1000, 3)),
        int(mem + almost),
        int(disk + almost),
        int(gpus + almost),
        int(ports + almost),
    )


def pick_ports(entries: Sequence[Entry], count: int, taken: Iterable[int]) -> tuple[int, ...] | None:
    """The first ``count`` ports of the entries that are not taken; None if there are too few."""
    picked: list[int] = []
    used = set(taken)
    for entry in entries:
        for first, last in entry.ranges:
            for port in range(first, last + 1):
                if len(picked) == count:
                    return tuple(picked)
                if port not in used:
                    picked.append(port)
    return tuple(picked) if len(picked) == count else None
