"""Starts handed to the launcher ahead of time: a task that begins the instant another one ends.

Between two short tasks on one slot lies a round trip: the launcher tells the end, the server plans, waits for its
disk and sends the next start. For tasks of a millisecond that is half of the time. So while the tasks of this machine
are short, the room of each running task is offered once more, *after* it; what the server launches there waits in the
launcher (with its intent durable, like any other) and starts without a round trip. The line behind a room is
:data:`MAX_LINE` tasks long, there is one only while nothing is free, and who has waited for :data:`WITHDRAW_S` is taken
back unstarted: a long task never keeps another one from a slot that became free elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from msgspec import Struct

from retz.model.agent import AttributeValue, Offer
from retz.model.resources import Vector

BRIEF_S = 0.05
"""Mean run time below which a round trip matters; at 50 ms it is one per cent."""

WITHDRAW_S = 0.2
MAX_LINE = 2
"""With one, the slot waits for the server whenever two short tasks end at nearly the same time."""

_WEIGHT = 0.2


class Follower(Struct):
    """A task that waits in the launcher for the end of another one."""

    task: str
    need: Vector
    sent: float


class Standby:
    """Standby offers and followers of one agent. Times are of the monotonic clock."""

    def __init__(self, agent: str, host: str, attributes: Mapping[str, AttributeValue]) -> None:
        self._agent, self._host, self._attributes = agent, host, dict(attributes)
        self._mean_s = 1.0
        self._made = 0
        self._eligible: dict[str, Vector] = {}  # running tasks whose room was not offered again yet
        self._offered: dict[str, tuple[Offer, str]] = {}
        self._claimed: set[str] = set()
        self._followers: dict[str, list[Follower]] = {}
        self._places: dict[str, int] = {}  # of followers: 1 is next

    def observe(self, run_s: float) -> None:
        """A task ended after so long."""
        self._mean_s += _WEIGHT * (run_s - self._mean_s)

    def running(self, task: str, room: Vector) -> None:
        """A task holds ``room`` from now on."""
        self._places.pop(task, None)
        if task in self._followers or any(after == task for _, after in self._offered.values()):
            return  # somebody is in line behind it already
        cpus, mem, disk, _, _ = room
        self._eligible[task] = (cpus, mem, disk, 0, 0)

    def offers(self) -> list[Offer]:
        """The standby offers to make now: none unless tasks are brief."""
        if self._mean_s > BRIEF_S or not self._eligible:
            return []
        made = []
        for task, room in self._eligible.items():
            self._made += 1
            offer = Offer(
                id=f"{self._agent}-after-{self._made}",
                agent=self._agent,
                room=room,
                attributes=self._attributes,
                host=self._host,
            )
            self._offered[offer.id] = offer, task
            made.append(offer)
        self._eligible.clear()
        return made

    def claim(self, offer_id: str) -> None:
        """The server is about to launch on it; unknown ids are ignored."""
        if offer_id in self._offered:
            self._claimed.add(offer_id)

    def close(self, offer_id: str) -> str | None:
        """It was launched on or declined. Returns the task whose end it waits for, if that still runs."""
        self._claimed.discard(offer_id)
        found = self._offered.pop(offer_id, None)
        return found[1] if found is not None else None

    def follow(self, task: str, follower: str, need: Vector) -> None:
        """``follower`` waits in the launcher for the end of ``task``."""
        self._followers.setdefault(task, []).append(Follower(follower, need, time.monotonic()))
        place = self._places[follower] = self._places.get(task, 0) + 1
        if place < MAX_LINE:
            self._eligible[follower] = need

    def ended(self, task: str) -> tuple[list[Follower], list[str], Offer | None]:
        """A task is over. Returns who starts now, the offers now void, and a claimed offer that is real from now on."""
        self._eligible.pop(task, None)
        self._places.pop(task, None)
        followers = self._followers.pop(task, [])
        for offer_id, (offer, after) in self._offered.items():
            if after == task:
                del self._offered[offer_id]
                if offer_id in self._claimed:
                    self._claimed.discard(offer_id)
                    return followers, [], offer
                return followers, [offer_id], None
        return followers, [], None

    def drop(self, follower: str) -> None:
        """It waits no more; unknown ones are ignored."""
        for task, followers in self._followers.items():
            left = [each for each in followers if each.task != follower]
            if len(left) != len(followers):
                if left:
                    self._followers[task] = left
                else:
                    del self._followers[task]
                return

    def withdraw(self) -> list[str]:
        """Void the offers that nobody has claimed, because there is real room. Returns their ids."""
        void = [offer_id for offer_id in self._offered if offer_id not in self._claimed]
        for offer_id in void:
            offer, task = self._offered.pop(offer_id)
            self._eligible[task] = offer.room
        return void

    def overdue(self) -> list[str]:
        """Followers that have waited too long."""
        before = time.monotonic() - WITHDRAW_S
        return [each.task for waiting in self._followers.values() for each in waiting if each.sent < before]

    @property
    def waiting(self) -> bool:
        """Whether anybody waits in the launcher."""
        return bool(self._followers)

    def clear(self) -> list[str]:
        """The launcher is gone, and what waited in it with it. Returns the offers now void."""
        void = self.withdraw()
        self._offered.clear()
        self._claimed.clear()
        self._followers.clear()
        self._places.clear()
        self._eligible.clear()
        return void
