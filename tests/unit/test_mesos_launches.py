"""Launches leave the engine in turns of the loop: in order with kills, and not at all once their offers are void."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from retz.engine.base import Task, Update
from retz.engine.mesos import engine as engines
from retz.engine.mesos import wire
from retz.engine.mesos.framework import MesosOptions
from retz.model.agent import Offer
from retz.model.resources import Resources

PATIENCE_S = 30.0


class Quiet:
    """Stands for a child process that is told things."""

    def __init__(self, *_: object, **__: object) -> None:
        self.told: list[wire.Message] = []
        self.writes = 0
        self.alive = True

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    def send(self, *messages: wire.Message) -> bool:
        self.writes += 1
        self.told += messages
        return self.alive

    def launched(self) -> list[str]:
        """Ids of tasks, in order."""
        accepts = [message for message in self.told if isinstance(message, wire.Accept)]
        return [launch.task.id for accept in accepts for launch in accept.launches]


class Listener:
    """Keeps offers and updates."""

    def __init__(self) -> None:
        self.offered: list[Offer] = []
        self.told: list[Update] = []
        self.news = asyncio.Event()

    def offers(self, offers: Sequence[Offer]) -> None:
        self.offered += offers

    def updates(self, updates: Sequence[Update]) -> None:
        self.told += updates
        self.news.set()

    def rescinded(self, offer_ids: Sequence[str]) -> None:
        self.offered = [offer for offer in self.offered if offer.id not in offer_ids]

    def agents_changed(self) -> None: ...

    def failed(self, message: str) -> None: ...

    def recovered(self) -> None: ...


Scene = Callable[[engines.MesosEngine, Any, Listener], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, agents: int = 1) -> None:
    """Subscribed, with an offer of each agent."""

    async def main() -> None:
        with patch.object(engines, "Child", Quiet):
            engine = engines.MesosEngine(tmp_path, MesosOptions(master="m:5050", user="root"))
        driver: Any = engine._driver
        listener = Listener()
        await engine.start(listener, [])
        engine._heard(wire.Subscribed("f", "m:5050"))
        assert engine._saving is not None
        await engine._saving
        engine._heard(wire.Offers([offer(n) for n in range(agents)]))
        driver.told.clear()
        driver.writes = 0
        try:
            await asyncio.wait_for(scene(engine, driver, listener), PATIENCE_S)
        finally:
            await engine.stop()

    asyncio.run(main())


def offer(number: int) -> wire.MesosOffer:
    entries = (wire.Entry("cpus", 1.0), wire.Entry("mem", 100.0))
    return wire.MesosOffer(f"o{number}", f"a{number}", "h", f"http://h:{number + 1}", "*", entries)


def task(number: int) -> Task:
    return Task(
        id=f"{number}.1", agent=f"a{number - 1}", command="true", environment={}, resources=Resources(cpus=1, mem=100)
    )


def launch_all(engine: engines.MesosEngine, listener: Listener) -> list[str]:
    """A task on each offer; their ids."""
    for number, each in enumerate(listener.offered, 1):
        engine.launch(each, [task(number)])
    return [f"{number}.1" for number in range(1, len(listener.offered) + 1)]


def test_many_are_sent_in_one_write(tmp_path: Path) -> None:
    async def scene(engine: engines.MesosEngine, driver: Any, listener: Listener) -> None:
        with patch.object(engines, "TURN_S", PATIENCE_S):
            ids = launch_all(engine, listener)
            assert driver.told == []
            await asyncio.sleep(0)
            assert driver.launched() == ids and driver.writes == 1

    play(tmp_path, scene, 20)


def test_the_loop_turns_between_them_if_they_take_long(tmp_path: Path) -> None:
    async def scene(engine: engines.MesosEngine, driver: Any, listener: Listener) -> None:
        with patch.object(engines, "TURN_S", 0.0):
            ids = launch_all(engine, listener)
            for number in range(1, len(ids) + 1):
                await asyncio.sleep(0)
                assert driver.launched() == ids[:number]

    play(tmp_path, scene, 3)


def test_a_kill_comes_after_the_launch(tmp_path: Path) -> None:
    async def scene(engine: engines.MesosEngine, driver: Any, listener: Listener) -> None:
        launch_all(engine, listener)
        engine.kill("1.1", 5.0)
        assert [type(message) for message in driver.told] == [wire.Accept, wire.Accept, wire.Kill]
        await asyncio.sleep(0)
        assert driver.launched() == ["1.1", "2.1"]

    play(tmp_path, scene, 2)


def test_a_lost_subscription_voids_them(tmp_path: Path) -> None:
    async def scene(engine: engines.MesosEngine, driver: Any, listener: Listener) -> None:
        launch_all(engine, listener)
        engine._heard(wire.Disconnected("gone"))
        await listener.news.wait()
        assert [(update.task, update.kind) for update in listener.told] == [("1.1", "not_started")]
        assert driver.launched() == []

    play(tmp_path, scene)


def test_none_to_tell_them(tmp_path: Path) -> None:
    async def scene(engine: engines.MesosEngine, driver: Any, listener: Listener) -> None:
        driver.alive = False
        launch_all(engine, listener)
        await listener.news.wait()
        assert [(update.task, update.kind) for update in listener.told] == [("1.1", "not_started")]

    play(tmp_path, scene)
