"""The cluster that is asked: the double, which can be made to fail, or a real one, which is only asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.conformance import wire
from tests.conformance.replay import PATIENCE
from tests.conformance.scenario import NotPossible

IDLE_S = 30.0
"""How long tasks of the last recording may take to end on a real cluster."""


class Cluster:
    """A cluster of one master and the two agents of the recordings. What it cannot be made to do is NotPossible.

    Attributes:
        scale: What a recorded second lasts here.
        work_dir: The work directory of agent 1.
        addresses: Where the servers listen, by the port they were recorded on.
    """

    scale = 1.0
    work_dir = ""

    def __init__(self) -> None:
        self.addresses: dict[int, wire.Address] = {}

    def address(self, port: int) -> wire.Address:
        """Where the server listens that was recorded on a port.

        Raises:
            NotPossible: There is none.
        """
        if port not in self.addresses:
            raise NotPossible(f"this cluster has no server like the one recorded on port {port}")
        return self.addresses[port]

    async def leave(self, frameworks: set[str]) -> None:
        """Leave the cluster as it was found: these frameworks end. The double ends as a whole."""

    async def kill_agent(self) -> None:
        """SIGKILL to agent 1."""
        raise NotPossible("agents of a real cluster are not killed")

    async def start_agent(self) -> None:
        """Start agent 1 again, with its work directory."""
        raise NotPossible("agents of a real cluster are not started")

    async def stop_agent(self) -> None:
        """SIGUSR1 to agent 1: it unregisters."""
        raise NotPossible("agents of a real cluster are not stopped")

    async def kill_master(self) -> None:
        """SIGKILL to the master."""
        raise NotPossible("the master of a real cluster is not killed")

    async def start_master(self) -> None:
        """Start it again; agents do not come back before :meth:`agent_back`."""
        raise NotPossible("the master of a real cluster is not started")

    async def recovered(self) -> None:
        """Wait until the master answers calls."""
        raise NotPossible("the master of a real cluster is not started")

    async def agent_back(self, number: int) -> None:
        """An agent finds the master again."""
        raise NotPossible("agents of a real cluster come back when they like")

    async def kill_leader(self) -> None:
        """SIGKILL to the leading one of three masters."""
        raise NotPossible("the master of a real cluster is not killed")

    async def elect(self) -> None:
        """The others elect a new leader, which begins to recover."""
        raise NotPossible("the master of a real cluster is not killed")

    async def lose_leader(self) -> None:
        """ZooKeeper is lost: the leader exits, the others know of none."""
        raise NotPossible("the masters of a real cluster are left alone")

    async def authenticates(self) -> None:
        """The master asks for the credentials of the recording."""
        raise NotPossible("a real cluster asks for other credentials, or for none")

    async def rescinds(self) -> None:
        """Offers are taken back after 3 s."""
        raise NotPossible("a real cluster rarely runs with --offer_timeout=3secs")


class RealCluster(Cluster):
    """A running Mesos. Its agents are told apart by their attribute ``rack`` (``r1``, ``r2``)."""

    @classmethod
    async def at(cls, host: str, port: int) -> RealCluster:
        """The cluster of a master, once nothing runs there.

        Raises:
            TimeoutError: Something runs on and on.
        """
        cluster = cls()
        cluster.addresses[5050] = (host, port)
        racks = {"r1": 5051, "r2": 5052}
        for agent in await _idle_agents((host, port)):
            recorded = racks.get(agent["attributes"].get("rack", ""))
            if recorded is not None:
                cluster.addresses[recorded] = (agent["hostname"], agent["port"])
        if 5051 in cluster.addresses:
            cluster.work_dir = (await _get(cluster.addresses[5051], "/flags"))["flags"]["work_dir"]
        return cluster

    async def leave(self, frameworks: set[str]) -> None:
        host, port = self.addresses[5050]
        for id in frameworks:
            body = f"frameworkId={id}"
            head = f"POST /master/teardown HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
            await wire.call((host, port), (head + body).encode(), PATIENCE)


async def _idle_agents(master: wire.Address) -> list[Any]:
    async with asyncio.timeout(IDLE_S):
        while True:
            agents: list[Any] = (await _get(master, "/slaves"))["slaves"]
            if not any(value for agent in agents for value in agent["used_resources"].values()):
                return agents
            await asyncio.sleep(0.2)


async def _get(address: wire.Address, path: str) -> Any:
    request = f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n\r\n"
    answer = await wire.call(address, request.encode(), PATIENCE)
    return json.loads(answer.body)
