"""Work in pieces, a piece a turn of the loop: however often it is asked for, there is one piece a turn."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from retz.engine.null import NullEngine
from retz.lifecycle import Kill
from retz.model.agent import Offer
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler.scheduler import Scheduler, Work
from retz.server.counters import Counters
from retz.server.dispatcher import Dispatcher
from retz.server.following import MOST
from retz.server.planning import PLACEMENTS_PER_PASS
from retz.store.aggregates import MinuteCollector
from retz.store.database import Database

BUSY_TURNS = 5


class Turns:
    """Counts the loop's turns from now on."""

    def __init__(self) -> None:
        self.number = 0
        self._next()

    def _next(self) -> None:
        self.number += 1
        asyncio.get_running_loop().call_soon(self._next)


class Counting(Scheduler):
    """Knows in which turn it was asked for a pass."""

    turns: Turns
    passes: Counter[int]

    def prepare(self, running: int, limit: int = 256, now: float = 0.0) -> Work | None:
        self.passes[self.turns.number] += 1
        return super().prepare(running, limit, now)


def play(home: Path, scene: Callable[[Dispatcher, Counting], Awaitable[None]]) -> None:
    async def whole() -> None:
        db = Database.open(home)
        db.attach(asyncio.get_running_loop())
        scheduler = Counting()
        scheduler.turns, scheduler.passes = Turns(), Counter()
        dispatcher = Dispatcher(
            db,
            scheduler,
            NullEngine(slots=1),
            clock=time.time,
            counters=Counters(),
            collector=MinuteCollector(),
        )
        await dispatcher.start()
        await scene(dispatcher, scheduler)
        await dispatcher.stop()
        await dispatcher.settled()
        db.close()

    asyncio.run(whole())


def jobs(first: int, count: int, cpus: float, after: tuple[int, ...] = ()) -> list[Job]:
    numbers = range(first, first + count)
    return [
        Job(id=n, owner="ann", command="true", resources=Resources(cpus), submitted=time.time(), after=after)
        for n in numbers
    ]


def test_one_pass_a_turn_however_many_offers_came_at_once(tmp_path: Path) -> None:
    async def scene(dispatcher: Dispatcher, scheduler: Counting) -> None:
        dispatcher.set_mode("paused")
        dispatcher.accept(jobs(1, 10 * PLACEMENTS_PER_PASS, cpus=2.0))
        dispatcher.live.mode = "open"
        for number in range(4):
            room = [Offer(id=f"o{number}-{n}", agent="a", room=(2000, 0, 0, 0, 0)) for n in range(PLACEMENTS_PER_PASS)]
            dispatcher.offers(room)
        for n in range(10 * PLACEMENTS_PER_PASS):
            scheduler.offer([Offer(id=f"more-{n}", agent="a", room=(2000, 0, 0, 0, 0))])
        begun = scheduler.turns.number
        for _ in range(BUSY_TURNS):
            await asyncio.sleep(0)
        later = [scheduler.passes[turn] for turn in range(begun + 1, begun + BUSY_TURNS)]
        assert later == [1] * (BUSY_TURNS - 1)

    play(tmp_path, scene)


def test_one_piece_of_a_backlog_a_turn_however_many_changes_came_at_once(tmp_path: Path) -> None:
    async def scene(dispatcher: Dispatcher, scheduler: Counting) -> None:
        table = dispatcher.live.db.jobs
        [awaited] = jobs(1, 1, cpus=9.0)
        dispatcher.accept([awaited])
        dispatcher.accept(jobs(2, 20 * MOST, cpus=9.0, after=(1,)))
        others = jobs(10_000_000, 5, cpus=9.0)
        dispatcher.accept(others)
        dispatcher.change([(awaited, Kill(time.time()))])
        for other in others:
            dispatcher.change([(other, Kill(time.time()))])
        begun = scheduler.turns.number
        before = table.count("state", "FAILED")
        for _ in range(BUSY_TURNS):
            await asyncio.sleep(0)
        assert MOST < table.count("state", "FAILED") - before <= MOST * (scheduler.turns.number - begun + 1)

    play(tmp_path, scene)
