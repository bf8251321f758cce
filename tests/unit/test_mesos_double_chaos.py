"""Whatever happens to agents and masters of the double: every resource is accounted for, and all comes to rest."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.cluster import Cluster
from tests.doubles.mesos.model import Framework, Json, Timing
from tests.doubles.mesos.scheduler import CAPABLE_INFO, Scheduler, subscribed, task

AGENTS = 5
STEPS = 100
PATIENCE_S = 60.0
TICK_S = 0.01


def quick() -> Timing:
    """Everything within a few ticks."""
    return Timing(
        allocation_interval=TICK_S,
        recovery=TICK_S,
        first_offer=0.0,
        agent_ping_timeout=TICK_S,
        agent_recovery=0.5 * TICK_S,
        update_retry=5 * TICK_S,
        executor_linger=0.1 * TICK_S,
        scale=0.001,
    )


class Chaos:
    """A scheduler that acknowledges everything, in a cluster where anything may happen."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.chance = cluster, random.Random(seed)
        self.info: Json = {**CAPABLE_INFO, "checkpoint": seed % 3 != 0, "failover_timeout": 1e9}
        self.lost: set[Agent] = set()
        self.scheduler: Scheduler
        self._read = 0
        self._tasks = 0

    async def begin(self) -> None:
        self.scheduler = await subscribed(self.cluster, self.info)
        self.info["id"] = {"value": self.scheduler.id}

    async def framework(self) -> Framework:
        """The framework, connected."""
        found = self.cluster.master.frameworks.get(self.info["id"]["value"])
        while self.scheduler.ended or found is None or not found.connected:
            await self.scheduler.close()
            self.scheduler, self._read = await subscribed(self.cluster, self.info), 0
            found = self.cluster.master.frameworks.get(self.info["id"]["value"])
        return found

    async def acknowledge(self) -> None:
        events, self._read = self.scheduler.events[self._read :], len(self.scheduler.events)
        statuses = [event["update"]["status"] for event in events if event["type"] == "UPDATE"]
        for status in statuses:
            if "uuid" in status:
                await self.scheduler.acknowledge(status)

    async def step(self) -> None:
        """Any one thing."""
        framework, agent = await self.framework(), self.chance.choice(self.cluster.agents)
        what = self.chance.random()
        if what < 0.4:
            await self.launch(framework)
        elif what < 0.6:
            await self.acknowledge()
        elif what < 0.65:
            if agent.alive:
                agent.crash()
            else:
                agent.restart()
        elif what < 0.7:
            self.part(agent)
        elif what < 0.72:
            await self.cluster.fail_over(agents_after=self.chance.uniform(0, 0.02))
        elif what < 0.74:
            self.cluster.drop_streams()
        elif what < 0.76:
            agent.wipe()
        elif what < 0.78 and framework.tasks:
            name = self.chance.choice(list(framework.tasks))
            await self.scheduler.call("KILL", kill={"task_id": {"value": name}})
        elif what < 0.79:
            agent.shutdown_gracefully()
        else:
            await asyncio.sleep(self.chance.uniform(0, 0.01))

    async def launch(self, framework: Framework) -> None:
        if framework.offers:
            offer = self.chance.choice(list(framework.offers.values()))
            self._tasks += 1
            info = task(f"t-{self._tasks}", f"sleep {self.chance.uniform(0, 0.2)}", cpus=0.3)
            filters = {"refuse_seconds": self.chance.choice([0, 5])}
            await self.scheduler.launch([offer.id], offer.agent_id, info, filters=filters)

    def part(self, agent: Agent) -> None:
        """A partition begins or ends."""
        if agent in self.lost:
            self.lost.remove(agent)
            agent.find()
        else:
            self.lost.add(agent)
            agent.lose()

    async def rest(self) -> None:
        """Mend everything; returns when nothing runs, waits or is held back any more."""
        self.cluster.calm_updates()
        for agent in list(self.lost):
            self.part(agent)
        for agent in self.cluster.agents:
            if not agent.alive:
                agent.restart()
        while not self.at_rest(await self.framework()):
            await self.acknowledge()
            self.cluster.check_accounts()
            await asyncio.sleep(TICK_S)
        await self.scheduler.close()

    def at_rest(self, framework: Framework) -> bool:
        busy = framework.tasks or self.cluster.unacknowledged() or self.cluster.live_attempts("job")
        return not busy and len(self.cluster.master.agents) == AGENTS and not self.cluster.unoffered()


@pytest.mark.parametrize("seed", range(6))
def test_everything_comes_to_rest(seed: int) -> None:
    async def body() -> None:
        cluster = Cluster(AGENTS, timing=quick(), persistent=seed % 2 == 0)
        async with asyncio.timeout(PATIENCE_S), cluster:
            if seed % 3 == 1:
                cluster.disturb_updates(duplicate=0.3, delay=(0.0, 0.02), seed=seed)
            chaos = Chaos(cluster, seed)
            await chaos.begin()
            for _ in range(STEPS):
                await chaos.step()
                cluster.check_accounts()
            await chaos.rest()

    asyncio.run(body())
