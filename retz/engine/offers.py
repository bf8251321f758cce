"""The offers of an engine with one agent."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from retz.model.agent import AttributeValue, Offer
from retz.model.resources import Vector, subtract


class OfferBook:
    """One standing offer of everything free, and the claimed ones: between ``assign`` and ``launch`` or ``decline``.

    While the server waits for its disk in between, a task may end. A claimed offer is not rescinded then, and its room
    is in no other offer; otherwise the same room would be handed out twice.
    """

    def __init__(self, agent: str, host: str, attributes: Mapping[str, AttributeValue]) -> None:
        self._agent, self._host, self._attributes = agent, host, dict(attributes)
        self._prefix = uuid.uuid4().hex[:12]
        self._made = 0
        self._standing: Offer | None = None
        self._claimed: dict[str, Offer] = {}

    def claim(self, offer: Offer) -> None:
        """The server is about to launch on it. Repeating it is harmless."""
        if self._standing is not None and self._standing.id == offer.id:
            self._claimed[offer.id] = offer
            self._standing = None

    def adopt(self, offer: Offer) -> None:
        """Count an offer that was made elsewhere as claimed: its room has become free meanwhile."""
        self._claimed[offer.id] = offer

    @property
    def standing(self) -> bool:
        """Whether there is room that nobody has claimed."""
        return self._standing is not None

    def close(self, offer_ids: Iterable[str]) -> bool:
        """These were launched on or declined. Returns whether any of them was still valid."""
        found = False
        for offer_id in offer_ids:
            if self._claimed.pop(offer_id, None) is not None:
                found = True
            elif self._standing is not None and self._standing.id == offer_id:
                self._standing, found = None, True
        return found

    def renew(self, free: Vector) -> tuple[list[str], Offer | None]:
        """Make the standing offer fit what is free. Returns the ids now void, and the offer to make, if any.

        There is no offer without processors: no task could run on it.
        """
        room = free
        for offer in self._claimed.values():
            room = subtract(room, offer.room)
        cpus, mem, disk, gpus, ports = room
        room = max(0, cpus), max(0, mem), max(0, disk), max(0, gpus), max(0, ports)
        if self._standing is not None and self._standing.room == room:
            return [], None
        void = self.withdraw()
        if not room[0]:
            return void, None
        self._made += 1
        self._standing = Offer(
            id=f"{self._prefix}-{self._made}",
            agent=self._agent,
            room=room,
            attributes=self._attributes,
            host=self._host,
        )
        return void, self._standing

    def withdraw(self) -> list[str]:
        """Void the standing offer. Returns its id, if there was one."""
        if self._standing is None:
            return []
        gone, self._standing = self._standing.id, None
        return [gone]
