"""Looks now and then at what keeps the queue's shapes waiting; :mod:`retz.scheduler.waits` keeps the book."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from retz.scheduler.causes import Judge, Machine
from retz.scheduler.queue import Shape

from .shares import shares

if TYPE_CHECKING:
    from .core import Core

LOOK_EVERY_S = 5.0
SHARE = 0.02
"""At most so much of a core is spent on looks: over very many shapes they are further apart."""
SLICE_S = 0.002
"""So long the loop is held at a time."""
CHUNK = 20
AGENTS_AT_ONCE = 500
MOST_AT_ONCE = 5_000
"""Shapes seen by one look; the next look goes on with others."""


class Observer:
    """One per server; call :meth:`look` every :data:`LOOK_EVERY_S`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next = 0.0
        self._from = 0

    async def look(self) -> None:
        """Look at the shapes, unless the last look cost so much that it is too early."""
        begun = time.monotonic()
        if begun < self._next:
            return
        spent = await self._look()
        self._next = begun + spent / SHARE - LOOK_EVERY_S / 2

    async def _look(self) -> float:
        """Returns the seconds that it took of the loop."""
        core, live, spent = self._core, self._core.dispatcher.live, 0.0
        now, begun = core.clock(), time.perf_counter()
        shapes, at_all = self._share()
        if shapes:
            agents, machines = list(core.engine.agents()), list[Machine]()
            held = core.dispatcher.ledger.by_agent
            for start in range(0, len(agents), AGENTS_AT_ONCE):
                part = agents[start : start + AGENTS_AT_ONCE]
                machines += [Machine(agent, shares(agent, held[agent.id]).free) for agent in part]
                spent += time.perf_counter() - begun
                await asyncio.sleep(0)
                begun = time.perf_counter()
            stuck = core.engine_failure is not None
            judge = Judge(core.scheduler, machines, mode=core.mode, running=core.running(), stuck=stuck)
            for number, shape in enumerate(shapes):
                if shape.ids:  # else its jobs were started meanwhile
                    blocked = judge.blocked(shape.need, shape.constraint, shape.owner)
                    live.waits.saw(shape.key, blocked.cause, now)
                if number % CHUNK == 0 and time.perf_counter() - begun > SLICE_S:
                    spent += time.perf_counter() - begun
                    await asyncio.sleep(0)
                    begun = time.perf_counter()
        live.waits.looked(now, at_all=at_all)
        return spent + time.perf_counter() - begun

    def _share(self) -> tuple[list[Shape], bool]:
        """The shapes to look at, and whether these are all that wait."""
        shapes = self._core.scheduler.waiting_shapes()
        if len(shapes) <= MOST_AT_ONCE:
            return shapes, True
        self._from %= len(shapes)
        part = shapes[self._from : self._from + MOST_AT_ONCE]
        self._from += MOST_AT_ONCE
        return part, False
