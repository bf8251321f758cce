"""A whole cluster of the double: masters, agents, and what tests do to them and ask of them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, overload

from . import operator
from .agent import Agent
from .agent_api import AgentEndpoints
from .allocator import Bundle
from .core import Registry
from .executor import Pretend
from .master import CALLS_KEPT, Call, Master
from .model import Framework, Json, Timing
from .recordio import chunk

T = TypeVar("T")

START_S = 30.0
"""For a cluster in a thread to start or stop."""


@dataclass(slots=True)
class AgentSpec:
    """What an agent has. ``ports`` are (first, last), both included; mem and disk are MB."""

    cpus: float = 2.0
    mem: float = 2048.0
    disk: float = 4096.0
    gpus: float = 0.0
    ports: tuple[int, int] | None = (31000, 31100)
    attributes: dict[str, str | float] = field(default_factory=dict)
    hostname: str = "127.0.0.1"
    role: str = "*"
    images: bool = False
    ip: str = "127.0.0.1"
    port: int = 0

    def resources(self) -> list[Json]:
        """As in an offer."""
        found: list[Json] = []
        if self.ports is not None:
            ranges = {"range": [{"begin": self.ports[0], "end": self.ports[1]}]}
            found.append({"name": "ports", "type": "RANGES", "ranges": ranges, "role": self.role})
        for name in ("cpus", "mem", "disk", "gpus"):
            value = float(getattr(self, name))
            if value:
                found.append({"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": self.role})
        return found

    def as_attributes(self) -> list[Json]:
        """As in an offer: TEXT and SCALAR."""
        return [_attribute(name, value) for name, value in self.attributes.items()]


def _attribute(name: str, value: str | float) -> Json:
    if isinstance(value, str):
        return {"name": name, "type": "TEXT", "text": {"value": value}}
    return {"name": name, "type": "SCALAR", "scalar": {"value": float(value)}}


class Cluster:
    """Masters and agents on free ports of 127.0.0.1, for ``async with``.

    Args:
        agents: What they have; a number stands for so many of the usual kind.
        work_dir: Agents really run commands, below this directory. Without it they pretend.
        pretend: What commands would do, if agents pretend.
        persistent: The masters' registry is a replicated log; False: in memory.
        port: Of the first master; 0: a free one.
        credentials: Principals and secrets that masters ask for.
        agent_credentials: Principal and secret that the agents' endpoints ask for.
    """

    def __init__(
        self,
        agents: int | Sequence[AgentSpec] = 1,
        *,
        masters: int = 1,
        timing: Timing | None = None,
        work_dir: Path | None = None,
        pretend: Pretend | None = None,
        persistent: bool = True,
        port: int = 0,
        credentials: dict[str, str] | None = None,
        agent_credentials: tuple[str, str] | None = None,
        keep_calls: int = CALLS_KEPT,
    ) -> None:
        self.specs = [AgentSpec() for _ in range(agents)] if isinstance(agents, int) else list(agents)
        self.timing = timing or Timing()
        self.work_dir, self.pretend = work_dir, pretend
        self.registry = Registry(persistent)
        self.agent_credentials = agent_credentials
        self.masters = [
            Master(self.timing, registry=self.registry, credentials=credentials, keep_calls=keep_calls)
            for _ in range(masters)
        ]
        for master in self.masters:
            operator.install(master)
        self.master = self.masters[0]
        """The leader, or who led last."""
        self.agents: list[Agent] = []
        self.faults: UpdateFaults | None = None
        self._endpoints: list[AgentEndpoints] = []
        self._port = port

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start masters, then agents; returns when all agents are registered."""
        for index, master in enumerate(self.masters):
            await master.start(self._port if index == 0 else 0)
        await self._lead(self.master)
        for spec in self.specs:
            await self.add_agent(spec)

    async def stop(self) -> None:
        """End everything; no process, no socket is left."""
        for agent in self.agents:
            agent.detected(None)
        await asyncio.gather(*(agent.stop() for agent in self.agents))
        await asyncio.gather(*(endpoints.close() for endpoints in self._endpoints))
        await asyncio.gather(*(master.stop() for master in self.masters))

    async def add_agent(self, spec: AgentSpec) -> Agent:
        """A further agent, registered at once if there is a leader."""
        number = len(self.agents) + 1
        real = self.work_dir is not None
        agent = Agent(
            spec.resources(),
            spec.as_attributes(),
            work_dir=None if self.work_dir is None else self.work_dir / f"agent{number}",
            pretend=self.pretend,
            timing=self.timing,
            hostname=spec.hostname,
            path="/slave(1)" if real else f"/slave({number})",
            images=spec.images,
            credentials=self.agent_credentials,
        )
        await self._endpoint(real, agent, spec)
        self.agents.append(agent)
        if self.master.leading:
            agent.detected(self.master)
        return agent

    async def _endpoint(self, own: bool, agent: Agent, spec: AgentSpec) -> None:
        """Agents that run commands have a socket each; those that pretend share one."""
        if own or not self._endpoints:
            endpoints = AgentEndpoints()
            await endpoints.open(spec.ip, spec.port)
            self._endpoints.append(endpoints)
        self._endpoints[-1].add(agent)

    async def _lead(self, master: Master) -> None:
        self.master = master
        for each in self.masters:
            each.leader = master.address
        await master.lead()

    @property
    def address(self) -> str:
        """``host:port`` of the leader."""
        return self.master.address

    @property
    def addresses(self) -> list[str]:
        """Of all masters."""
        return [master.address for master in self.masters]

    # -- what happens to masters -------------------------------------------------------------------------------

    async def fail_over(self, away: float = 0.0, *, agents_after: float = 0.0) -> None:
        """SIGKILL the leader, start it again after ``away`` seconds; its agents come back ``agents_after`` later.

        Returns when the agents know of it.
        """
        self._kill_leader()
        await asyncio.sleep(away)
        await self.master.start()
        await self._lead(self.master)
        await self._announce(agents_after)

    async def fail_over_to(self, index: int, *, election: float = 0.0, agents_after: float = 0.0) -> None:
        """SIGKILL the leader; another leads after ``election`` seconds. Meanwhile the rest redirect to the dead one.

        The dead one stays away until :meth:`revive`.
        """
        self._kill_leader()
        await asyncio.sleep(election)
        await self._lead(self.masters[index])
        await self._announce(agents_after)

    async def revive(self, index: int) -> None:
        """Start a dead master again; it follows the leader."""
        await self.masters[index].start()
        self.masters[index].leader = self.master.address

    def _kill_leader(self) -> None:
        self.master.vanish()
        for agent in self.agents:
            agent.detected(None)

    async def _announce(self, after: float) -> None:
        await asyncio.sleep(after)
        for agent in self.agents:
            agent.detected(self.master)

    def drop_streams(self) -> None:
        """Break the connection of every event stream; the master lives on."""
        for stream in list(self.master.streams.values()):
            if stream.transport is not None:
                stream.transport.abort()

    def stall(self) -> None:
        """The leader accepts connections and never answers, until :meth:`resume`."""
        self.master.stall()

    def resume(self) -> None:
        """The leader goes on."""
        self.master.resume()

    def send_raw_event(self, event: bytes) -> None:
        """Send any bytes as one event to every framework."""
        for stream in self.master.streams.values():
            stream.write_raw(chunk(event))

    # -- what happens to updates -------------------------------------------------------------------------------

    def disturb_updates(
        self, *, duplicate: float = 0.0, delay: tuple[float, float] = (0.0, 0.0), seed: int = 0
    ) -> None:
        """From now on some updates come twice, and each copy late by a random time, so that they pass each other.

        Args:
            duplicate: The share of updates that come twice.
            delay: From how many seconds to how many.
        """
        self.calm_updates()
        self.faults = UpdateFaults(duplicate, delay, random.Random(seed))
        for master in self.masters:
            self.faults.attach(master)

    def calm_updates(self) -> None:
        """Updates come as they should again."""
        if self.faults is not None:
            self.faults.detach()
            self.faults = None

    # -- what tests ask ----------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """What the leader was called, oldest first."""
        return list(self.master.calls)

    def bodies(self, kind: str) -> list[Json]:
        """The calls of one type to all masters."""
        return [call.body for master in self.masters for call in master.calls if call.type == kind]

    @property
    def teardowns(self) -> int:
        """How often any master was told to tear a framework down: every job of it dies."""
        return len(self.bodies("TEARDOWN"))

    def framework(self) -> Framework:
        """The one framework there is.

        Raises:
            LookupError: There is none, or there are several.
        """
        frameworks = list(self.master.frameworks.values())
        if len(frameworks) != 1:
            raise LookupError(f"{len(frameworks)} frameworks")
        return frameworks[0]

    def live_attempts(self, label: str) -> dict[str, list[str]]:
        """Task ids that run or may still run, on the agents themselves, by the value of a label."""
        found: dict[str, list[str]] = {}
        for agent in self.agents:
            for run in agent.live():
                labels = run.info.get("labels", {}).get("labels", ())
                value = next((each.get("value", "") for each in labels if each["key"] == label), "")
                found.setdefault(value, []).append(run.task_id)
        return found

    def unoffered(self) -> dict[str, str]:
        """What is neither used nor offered, by agent: empty when every resource is accounted for."""
        free = {agent_id: slot.free for agent_id, slot in self.master.allocator.slots.items()}
        return {agent_id: bundle.text("*") for agent_id, bundle in free.items() if bundle.worth_offering()}

    def check_accounts(self) -> None:
        """All of each agent is used, offered or free, and only once.

        Raises:
            AssertionError: It is not.
        """
        for record in self.master.agents.values():
            slot = self.master.allocator.slots[record.id]
            total = slot.free.copy()
            for offer in record.offers.values():
                total.add(offer.amount)
            for task in record.tasks.values():
                if not task.terminal:
                    total.add(task.amount)
            assert _same(total, slot.total), f"{record.id}: {total.text('*')} instead of {slot.total.text('*')}"

    def unacknowledged(self) -> list[str]:
        """Ids of tasks whose last update the framework has not acknowledged."""
        return [
            task.id
            for framework in self.master.frameworks.values()
            for task in framework.tasks.values()
            if task.unacknowledged is not None
        ]

    def states(self) -> Counter[str]:
        """How many tasks of known frameworks are in which state, those that ended too."""
        states: Counter[str] = Counter()
        for framework in self.master.frameworks.values():
            for tasks in (framework.tasks.values(), framework.unreachable_tasks.values(), framework.completed_tasks):
                states.update(task.state for task in tasks)
        return states


def _same(one: Bundle, other: Bundle) -> bool:
    return one.scalars == other.scalars and one.ranges == other.ranges


class UpdateFaults:
    """Stands between a master and its streams: agents' updates come twice or late."""

    def __init__(self, duplicate: float, delay: tuple[float, float], chance: random.Random) -> None:
        self.duplicate, self.delay, self.chance = duplicate, delay, chance
        self._masters: list[tuple[Master, Callable[[Framework, Json], None]]] = []

    def attach(self, master: Master) -> None:
        """Disturb this master's updates."""
        forward = master.deliver
        self._masters.append((master, forward))
        master.deliver = lambda framework, status: self._disturb(master, forward, framework, status)

    def detach(self) -> None:
        """Leave all masters alone."""
        for master, forward in self._masters:
            master.deliver = forward
        self._masters.clear()

    def _disturb(
        self, master: Master, forward: Callable[[Framework, Json], None], framework: Framework, status: Json
    ) -> None:
        copies = 2 if self.chance.random() < self.duplicate else 1
        for _ in range(copies):
            wait = self.chance.uniform(*self.delay)
            if wait:
                master.later(wait, forward, framework, status)
            else:
                forward(framework, status)


class ClusterThread:
    """A cluster in a thread and loop of its own, for tests whose other half is processes; for ``with``."""

    def __init__(self, make: Callable[[], Cluster]) -> None:
        """
        Args:
            make: Makes the cluster; called in the thread.
        """
        self._make = make
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mesos double", daemon=True)
        self.cluster: Cluster

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self.cluster.stop(), self._loop).result(START_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_S)
            self._loop.close()

    async def _start(self) -> None:
        self.cluster = self._make()
        await self.cluster.start()

    @property
    def address(self) -> str:
        """``host:port`` of the leader."""
        return self.cluster.address

    @overload
    def do(self, what: Callable[[Cluster], Awaitable[T]]) -> T: ...

    @overload
    def do(self, what: Callable[[Cluster], T]) -> T: ...

    def do(self, what: Callable[[Cluster], Awaitable[T] | T]) -> T:
        """Call this in the cluster's loop, wait for it, give what it gives."""
        done: Future[T] = asyncio.run_coroutine_threadsafe(self._do(what), self._loop)
        return done.result()

    async def _do(self, what: Callable[[Cluster], Awaitable[T] | T]) -> T:
        result = what(self.cluster)
        return await result if isinstance(result, Awaitable) else result
