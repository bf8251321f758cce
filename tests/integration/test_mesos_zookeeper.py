"""Masters that ZooKeeper knows: the driver finds the leader, follows the next one, and never ends what runs."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

import msgspec
import pytest

from retz.engine.base import Task
from retz.engine.mesos.wire import (
    Accept,
    Ack,
    Acknowledge,
    Alive,
    Connect,
    Disconnected,
    Entry,
    Frames,
    FromDriver,
    Launch,
    Message,
    Offers,
    Reconcile,
    Refused,
    Statuses,
    Stop,
    Subscribed,
    TaskRef,
    frame,
)
from retz.model.resources import Resources
from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.core import Registry
from tests.doubles.mesos.master import Master
from tests.doubles.mesos.model import Timing
from tests.doubles.zookeeper import ZooKeeper

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        find_spec("pymesos") is None, reason="pymesos is not installed: 'retz-server setup-mesos' does it"
    ),
]

M = TypeVar("M", bound=Message)
WITHIN_S = 30.0
TIMING = Timing(allocation_interval=0.05, recovery=0.3, agent_recovery=0.0)
RESOURCES = [
    {"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "*"}
    for name, value in (("cpus", 4.0), ("mem", 1024.0), ("disk", 1024.0))
]


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 (another process is looked at from outside)
            await asyncio.sleep(0.005)


class Driver:
    """The driver child at the other end of its pipe."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.said: list[Any] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> Driver:
        """Start the child."""
        command = (sys.executable, "-m", "retz.engine.mesos.driver")
        return cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE))

    def send(self, *messages: Message) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(frame(messages))

    def connect(self, master: str, framework_id: str = "") -> None:
        """Let it subscribe."""
        framework: dict[str, Any] = {
            "user": "root",
            "name": "Retz",
            "roles": ["*"],
            "checkpoint": True,
            "failover_timeout": 3600.0,
            "capabilities": [{"type": kind} for kind in ("PARTITION_AWARE", "MULTI_ROLE", "TASK_KILLING_STATE")],
        }
        if framework_id:
            framework["id"] = {"value": framework_id}
        self.send(Connect(master, framework))

    def all(self, kind: type[M]) -> list[M]:
        """What it said of one kind."""
        return [message for message in self.said if isinstance(message, kind)]

    async def next(self, kind: type[M]) -> M:
        """The next message of a kind that was not asked for yet; what came before it is dropped."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                for at, message in enumerate(self.said):
                    if isinstance(message, kind):
                        del self.said[: at + 1]
                        return message
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Stop it; it says goodbye to nobody."""
        self.send(Stop())
        async with asyncio.timeout(WITHIN_S):
            assert await self._process.wait() == 0
            await self._reading

    async def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        frames, decoder = Frames(), msgspec.msgpack.Decoder(FromDriver)
        while data := await self._process.stdout.read(65536):
            frames.feed(data)
            while (body := frames.next()) is not None:
                self.said.append(decoder.decode(body))


class Masters:
    """Masters that share a registry, take part in an election, and an agent that follows the leader."""

    def __init__(self, zookeeper: ZooKeeper, count: int) -> None:
        self.zookeeper = zookeeper
        registry = Registry()
        self.all = [Master(TIMING, registry=registry) for _ in range(count)]
        self.agent = Agent(RESOURCES, timing=TIMING)
        self.nodes: dict[Master, str] = {}

    async def start(self) -> None:
        """All of them listen; none leads."""
        for master in self.all:
            await master.start()

    def candidate(self, master: Master) -> None:
        """It takes part in the election."""
        self.nodes[master] = self.zookeeper.add_master(*_place(master))

    async def lead(self, master: Master) -> None:
        """It is elected; returns when it is ready, and the agent with it."""
        for other in self.all:
            other.leader = master.address
        await master.lead()
        self.agent.detected(master)

    def dies(self, master: Master) -> None:
        """SIGKILL. Its node stays until its session is over, and the others send everybody to it until then."""
        master.vanish()

    async def another_leads(self, old: Master, new: Master) -> None:
        """The session of the old one is over."""
        self.zookeeper.remove(self.nodes.pop(old))
        await self.lead(new)

    @property
    def calls(self) -> set[str]:
        """What frameworks asked for."""
        return {call.type for master in self.all for call in master.calls}

    async def stop(self) -> None:
        """End them all."""
        await self.agent.stop()
        for master in self.all:
            await master.stop()


def _place(master: Master) -> tuple[str, int]:
    host, _, port = master.address.partition(":")
    return host, int(port)


@pytest.fixture
async def zookeeper() -> AsyncIterator[ZooKeeper]:
    async with ZooKeeper() as server:
        yield server


@pytest.fixture
async def masters(zookeeper: ZooKeeper) -> AsyncIterator[Masters]:
    masters = Masters(zookeeper, 3)
    await masters.start()
    yield masters
    assert "TEARDOWN" not in masters.calls
    await masters.stop()


@pytest.fixture
async def driver(masters: Masters) -> AsyncIterator[Driver]:
    driver = await Driver.start()
    yield driver
    await driver.end()
    assert driver.all(Refused) == []


async def _running(driver: Driver, task_id: str = "7.1") -> str:
    """Launch a task; its agent."""
    (offer,) = (await driver.next(Offers)).offers
    task = Task(id=task_id, agent=offer.agent, command="sleep 1000", environment={}, resources=Resources(cpus=1))
    launch = Launch(task, [Entry("cpus", 1.0, (), {"allocation_info": {"role": "*"}})])
    driver.send(Accept(1, [offer.id], [launch]))
    while True:
        for status in (await driver.next(Statuses)).statuses:
            assert status.uuid is not None
            driver.send(Acknowledge([Ack(status.task, status.agent, status.uuid)]))
            if status.state == "TASK_RUNNING":
                return offer.agent


async def _states(driver: Driver, tasks: Sequence[TaskRef]) -> list[str]:
    """Ask the master for the states of tasks."""
    driver.send(Reconcile(list(tasks)))
    while True:
        statuses = (await driver.next(Statuses)).statuses
        if told := [status.state for status in statuses if status.reason == "REASON_RECONCILIATION"]:
            return told


async def test_the_oldest_master_leads(masters: Masters, driver: Driver) -> None:
    first, second, third = masters.all
    masters.zookeeper.add_log_replicas()
    for master in (second, first, third):
        masters.candidate(master)
    await masters.lead(second)
    driver.connect(masters.zookeeper.url)
    subscribed = await driver.next(Subscribed)
    assert (subscribed.master, subscribed.version) == (second.address, "1.12.0")
    await driver.next(Offers)


@pytest.mark.parametrize("by", ["zookeeper", "address"])
async def test_tasks_go_on_under_the_next_leader(
    masters: Masters, driver: Driver, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = masters.all
    for master in masters.all:
        masters.candidate(master)
    await masters.lead(first)
    redirect = third._redirect
    redirected: list[str] = []

    def counted(path: str) -> Any:
        redirected.append(path)
        return redirect(path)

    monkeypatch.setattr(third, "_redirect", counted)
    # Without ZooKeeper: the address of one that does not lead, and answers with redirects.
    driver.connect(masters.zookeeper.url if by == "zookeeper" else third.address)
    before = await driver.next(Subscribed)
    assert before.master == first.address
    agent = await _running(driver)
    masters.dies(first)
    lost = await driver.next(Disconnected)
    assert first.address in lost.why
    if by == "address":
        await _until(lambda: len(redirected) > 2)  # to the dead leader, again and again
    await masters.another_leads(first, second)
    after = await driver.next(Subscribed)
    assert (after.master, after.framework) == (second.address, before.framework)
    await driver.next(Offers)
    assert await _states(driver, [TaskRef("7.1", agent)]) == ["TASK_RUNNING"]


async def test_a_leader_that_recovers_is_waited_for(masters: Masters, driver: Driver) -> None:
    (first, *_) = masters.all
    masters.candidate(first)
    first.leading = first.recovering = True
    driver.connect(masters.zookeeper.url)
    assert "not finished recovery" in (await driver.next(Disconnected)).why
    await masters.lead(first)
    assert (await driver.next(Subscribed)).master == first.address


async def test_zookeeper_is_away_at_start(masters: Masters, driver: Driver) -> None:
    (first, *_) = masters.all
    masters.candidate(first)
    await masters.lead(first)
    await masters.zookeeper.go_away()
    driver.connect(masters.zookeeper.url)
    await driver.next(Alive)
    await masters.zookeeper.come_back()
    assert (await driver.next(Subscribed)).master == first.address


@pytest.mark.parametrize("how", ["away", "silent"])
async def test_a_zookeeper_that_does_not_answer_is_named_and_asked_again(
    zookeeper: ZooKeeper, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    detector = pytest.importorskip("retz.engine.mesos.detector")
    monkeypatch.setattr(detector, "PATIENCE_S", 0.3)
    monkeypatch.setattr(detector, "RETRY_S", 0.02)
    told: list[str] = []
    leaders: list[str | None] = []
    if how == "away":
        await zookeeper.go_away()
    zookeeper.silent = how == "silent"
    looking = detector.Detector(zookeeper.url, leaders.append, told.append)
    looking.start()
    try:
        await _until(lambda: told)
        assert "ZooKeeper" in told[0] and zookeeper.hosts in told[0]
        zookeeper.add_master("127.0.0.1", 5050)
        zookeeper.silent = False
        if how == "away":
            await zookeeper.come_back()
        await _until(lambda: leaders)
        assert leaders == ["127.0.0.1:5050"]
    finally:
        looking.stop()


async def test_zookeeper_is_away_for_a_while(masters: Masters, driver: Driver) -> None:
    first, second, _ = masters.all
    for master in (first, second):
        masters.candidate(master)
    await masters.lead(first)
    driver.connect(masters.zookeeper.url)
    framework = (await driver.next(Subscribed)).framework
    agent = await _running(driver)
    await masters.zookeeper.go_away()
    # The subscription does not need ZooKeeper.
    assert await _states(driver, [TaskRef("7.1", agent)]) == ["TASK_RUNNING"]
    assert driver.all(Disconnected) == []
    masters.dies(first)
    await driver.next(Disconnected)
    masters.zookeeper.remove(masters.nodes[first])
    await masters.zookeeper.come_back()
    await masters.lead(second)
    after = await driver.next(Subscribed)
    assert (after.master, after.framework) == (second.address, framework)
    assert await _states(driver, [TaskRef("7.1", agent)]) == ["TASK_RUNNING"]


async def test_an_expired_session_changes_nothing(masters: Masters, driver: Driver) -> None:
    first, second, _ = masters.all
    for master in (first, second):
        masters.candidate(master)
    await masters.lead(first)
    driver.connect(masters.zookeeper.url)
    await driver.next(Subscribed)
    agent = await _running(driver)
    masters.zookeeper.log.clear()
    masters.zookeeper.expire_sessions()
    await _until(lambda: masters.zookeeper.log)  # it asks again who leads
    assert await _states(driver, [TaskRef("7.1", agent)]) == ["TASK_RUNNING"]
    assert not driver.all(Disconnected) and not driver.all(Subscribed)
    masters.dies(first)
    await masters.another_leads(first, second)
    assert (await driver.next(Subscribed)).master == second.address


async def test_nobody_leads_for_a_while(masters: Masters, driver: Driver) -> None:
    (first, *_) = masters.all
    driver.connect(masters.zookeeper.url)
    assert "no leading Mesos master" in (await driver.next(Disconnected)).why
    masters.candidate(first)
    await masters.lead(first)
    framework = (await driver.next(Subscribed)).framework
    agent = await _running(driver)
    masters.zookeeper.remove(masters.nodes.pop(first))
    assert "no leading Mesos master" in (await driver.next(Disconnected)).why
    masters.candidate(first)
    assert (await driver.next(Subscribed)).framework == framework
    assert await _states(driver, [TaskRef("7.1", agent)]) == ["TASK_RUNNING"]


@pytest.mark.parametrize("how", ["told", "killed"])
async def test_a_driver_that_ends_leaves_its_tasks_running(masters: Masters, driver: Driver, how: str) -> None:
    (first, *_) = masters.all
    masters.candidate(first)
    await masters.lead(first)
    former = await Driver.start()
    former.connect(masters.zookeeper.url)
    framework = (await former.next(Subscribed)).framework
    agent = await _running(former)
    await (former.end() if how == "told" else former.kill())
    driver.connect(masters.zookeeper.url, framework)
    assert (await driver.next(Subscribed)).framework == framework
    assert await _states(driver, [TaskRef("7.1", agent)]) == ["TASK_RUNNING"]
