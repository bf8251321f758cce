"""Launches of one step on several offers: what is not assigned stays queued, and the sums are those of what starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from retz.engine.base import Assignment, Task
from retz.engine.null import NullEngine
from retz.model.agent import Offer
from retz.model.job import Job
from retz.model.resources import Resources, Vector, times
from retz.scheduler.limits import UserLimits
from retz.scheduler.scheduler import Scheduler
from retz.server.counters import Counters
from retz.server.dispatcher import Dispatcher
from retz.store.aggregates import MinuteCollector
from retz.store.database import Database

NEED: Vector = (1000, 0, 0, 0, 0)
JOBS = [Job(id=number, owner="ann", command="true", resources=Resources(1.0), submitted=0.0) for number in range(1, 10)]


class Picky(NullEngine):
    """Has ports for some offers only; what is launched runs on."""

    def __init__(self) -> None:
        super().__init__(slots=1)
        self.launched: dict[str, list[str]] = {}

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        if offer.id == "none" or (offer.id == "one" and taken.ports):
            return None
        return Assignment(ports=(31000 + len(taken.ports),))

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        self.launched[offer.id] = [task.id for task in tasks]

    async def has_launched(self, count: int) -> None:
        async with asyncio.timeout(30):
            while sum(map(len, self.launched.values())) < count:  # noqa: ASYNC110 (each turn something may come)
                await asyncio.sleep(0.001)


def test_of_several_offers_one_is_of_no_use_and_one_of_less_than_was_planned(tmp_path: Path) -> None:
    async def whole() -> None:
        db = Database.open(tmp_path)
        db.attach(asyncio.get_running_loop())
        engine, scheduler = Picky(), Scheduler("fair", user_limits=UserLimits(running=7), patience_s=60.0)
        dispatcher = Dispatcher(
            db, scheduler, engine, clock=time.time, counters=Counters(), collector=MinuteCollector()
        )  # fmt: skip
        await dispatcher.start()
        scheduler.rescind(list(scheduler.offers))
        dispatcher.accept(JOBS)
        dispatcher.offers([Offer(id=name, agent=f"a-{name}", room=times(NEED, 2)) for name in ("all", "none", "one")])
        await engine.has_launched(3)
        assert {name: len(ids) for name, ids in engine.launched.items()} == {"all": 2, "one": 1}
        ledger = dispatcher.live.ledger
        assert len(ledger.running) == 3 and len(scheduler) == 6
        assert all((job.id in ledger.running) != (job.id in scheduler) for job in JOBS)
        assert dict(ledger.by_agent) == {"a-all": times(NEED, 2), "a-one": NEED}
        assert dict(ledger.by_owner) == {"ann": times(NEED, 3)}
        assert not scheduler.offers
        dispatcher.offers([Offer(id="more", agent="a-more", room=times(NEED, 9))])
        await engine.has_launched(7)
        assert len(engine.launched["more"]) == 4, "seven run at the same time at most"
        assert len({task for tasks in engine.launched.values() for task in tasks}) == 7
        assert ledger.by_owner["ann"] == times(NEED, 7)
        await dispatcher.stop()
        await dispatcher.settled()
        db.close()

    asyncio.run(whole())
