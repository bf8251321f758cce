"""The double as the cluster of the recordings: one master (or three), two agents, everything faster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conformance.target import Cluster
from tests.doubles.mesos.cluster import AgentSpec
from tests.doubles.mesos.cluster import Cluster as Double
from tests.doubles.mesos.master import Master
from tests.doubles.mesos.model import Timing

AGENTS = (
    AgentSpec(gpus=2.0, ports=(31000, 31100), attributes={"rack": "r1", "gpu_model": "h200"}),
    AgentSpec(ports=(31200, 31300), attributes={"rack": "r2", "level": 3.0}),
)
"""Those of the recordings."""

SCALE = 0.1
"""What a recorded second lasts: long enough for a process to start, short enough for a test."""

SCALES: dict[str, float] = {
    "01": 0.02,
    **dict.fromkeys(("02b", "05", "05b"), 0.03),
    **dict.fromkeys(("07", "08", "08b", "26"), 0.05),
}
"""Recordings that need another one."""

PINGS = {"17": 2.0, "18": 25.0, "19": 2.0, "26": 2.0}
"""Ping timeouts the masters were run with, by the first part of the recording's name; else it is 75 s."""

_OPTIONS: dict[str, dict[str, float]] = {
    "23": {"offer_timeout": 3.0},
    "04c": {"executor_start": 0.3},
    "09": {"allocation_interval": 0.6, "executor_start": 0.45},
    "25": {"kill_grace": 3.0},
}
"""More options of masters, by the recording's name."""

_SCALED = ("allocation_interval", "heartbeat", "update_retry", "executor_linger", "agent_recovery", "kill_grace")


def _timing(name: str, scale: float) -> Timing:
    real = Timing()
    scaled = {field: getattr(real, field) * scale for field in _SCALED}
    scaled["agent_ping_timeout"] = PINGS.get(name[:2], 75.0) * scale / real.max_agent_ping_timeouts
    recovery = 0.3 if name[:2] in ("19", "26") else 0.01
    return Timing(scale=scale, recovery=recovery, **{**scaled, **_OPTIONS.get(name, {})})


class DoubleCluster(Cluster):
    """The double under the names of the recordings."""

    def __init__(self, name: str, work_dir: Path) -> None:
        super().__init__()
        self.scale = SCALES.get(name, SCALE)
        self.work_dir = str(work_dir / "agent1")
        self.double = Double(
            AGENTS,
            masters=3 if name.startswith("26") else 1,
            timing=_timing(name, self.scale),
            work_dir=work_dir,
            persistent=name != "19",
            credentials={"me": "secret"} if name == "24" else None,
        )
        self._leading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything; returns when the agents are registered."""
        await self.double.start()
        for port, master in zip((5050, 5060, 5070), self.double.masters, strict=False):
            self.addresses[port] = (master.ip, master.port)
        for port, agent in zip((5051, 5052), self.double.agents, strict=True):
            self.addresses[port] = (agent.ip, agent.port)

    async def stop(self) -> None:
        """End everything."""
        await self.recovered()
        await self.double.stop()

    async def kill_agent(self) -> None:
        self.double.agents[0].crash()

    async def start_agent(self) -> None:
        self.double.agents[0].restart()

    async def stop_agent(self) -> None:
        self.double.agents[0].shutdown_gracefully()

    async def kill_master(self) -> None:
        self.double.master.vanish()
        for agent in self.double.agents:
            agent.detected(None)

    async def start_master(self) -> None:
        await self.double.master.start()
        await self._lead(self.double.master)

    async def _lead(self, master: Master) -> None:
        for each in self.double.masters:
            each.leader = master.address
        self.double.master = master
        self._leading = asyncio.create_task(master.lead())
        await asyncio.sleep(0)

    async def recovered(self) -> None:
        if self._leading is not None:
            await self._leading

    async def agent_back(self, number: int) -> None:
        self.double.agents[number - 1].detected(self.double.master)

    async def kill_leader(self) -> None:
        await self.kill_master()

    async def elect(self) -> None:
        await self._lead(self.double.masters[1])

    async def lose_leader(self) -> None:
        await self.kill_master()
        for master in self.double.masters:
            master.leader = None

    async def authenticates(self) -> None:
        assert self.double.master.credentials is not None

    async def rescinds(self) -> None:
        assert self.double.timing.offer_timeout is not None


@asynccontextmanager
async def double(name: str, work_dir: Path) -> AsyncIterator[DoubleCluster]:
    """The cluster on which a recording is replayed."""
    cluster = DoubleCluster(name, work_dir)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
