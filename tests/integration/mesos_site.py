"""A whole server whose engine drives a double of a Mesos cluster, all in the test's loop (but for the children)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from retz.engine.mesos.engine import MesosEngine
from retz.engine.mesos.framework import MesosOptions
from retz.model.job import Job
from retz.model.user import User
from retz.scheduler.scheduler import Scheduler
from retz.store.files import FileLayer
from tests.doubles.mesos.cluster import Cluster
from tests.doubles.mesos.executor import Behaviour
from tests.doubles.mesos.model import Json, Timing

from .http_site import ANN, Site, running_site

PATIENCE_S = 20.0
SLOW = 3600.0


def quick(**more: Any) -> Timing:
    """What takes Mesos seconds takes the double less."""
    fields: dict[str, Any] = {
        "allocation_interval": 0.02,
        "update_retry": 0.5,
        "executor_linger": 0.02,
        "agent_recovery": 0.05,
        "recovery": 0.02,
        "agent_ping_timeout": 0.1,
        "max_agent_ping_timeouts": 2,
    }
    return Timing(**{**fields, **more})


def command_of(info: Json) -> str:
    """The shell line of a task, without what the engine puts before it."""
    return str(info["command"]["value"]).rpartition("export RETZ_SANDBOX HOME; ")[2]


def behave(info: Json) -> Behaviour:
    """What the commands of these tests do.

    ``wait`` goes on for ever, ``brief`` for half a second, ``exit 3`` and ``signal 9`` end so, all else well.
    """
    word, _, number = command_of(info).partition(" ")
    if word == "wait":
        return Behaviour(seconds=None)
    if word == "brief":
        return Behaviour(seconds=0.5)
    if word == "exit":
        return Behaviour(returncode=int(number))
    return Behaviour(returncode=-int(number) if word == "signal" else 0)


def cluster_of(agents: Any = 1, **more: Any) -> Cluster:
    """A quick cluster. Its agents pretend, if they have no ``work_dir``."""
    more.setdefault("timing", quick())
    return Cluster(agents, pretend=None if "work_dir" in more else behave, **more)


class Clock:
    """A clock that tests move."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._now() + self.ahead


class MesosSite:
    """The server, its engine and its cluster."""

    def __init__(self, site: Site, engine: MesosEngine, cluster: Cluster, clock: Clock, wall: Clock) -> None:
        self.http, self.engine, self.cluster, self.clock, self.wall = site, engine, cluster, clock, wall
        self.core = site.core

    async def submit(self, command: str = "true", user: User = ANN, **fields: Any) -> int:
        """Submit a job; its id. The answer came once it was durable."""
        return await self.http.submit(command, user, **fields)

    def job(self, job_id: int) -> Job:
        """Its record."""
        job = self.core.db.jobs.record(job_id)
        assert job is not None
        return job

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until ``condition()`` is true; its value."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := condition()):  # noqa: ASYNC110 (no event exists for what tests look at)
                await asyncio.sleep(0.002)
        return value

    async def ended(self, job_id: int) -> Job:
        """Wait for its end; its record."""
        await self.until(lambda: self.job(job_id).ended is not None)
        return self.job(job_id)

    async def started(self, job_id: int) -> Job:
        """Wait until it runs; its record."""
        await self.until(lambda: self.job(job_id).state == "STARTED")
        return self.job(job_id)

    async def running(self, command: str = "wait", **fields: Any) -> int:
        """Submit a job that runs for ever, and wait until it does."""
        job_id = await self.submit(command, **fields)
        await self.started(job_id)
        return job_id

    async def done(self, command: str = "true", **fields: Any) -> Job:
        """Submit a job and wait for its end."""
        return await self.ended(await self.submit(command, **fields))

    async def kill(self, job_id: int) -> None:
        """As its owner. Returns when the answer came."""
        reply = await self.http.ask("DELETE", f"/api/v2/jobs/{job_id}")
        assert reply.status in (200, 202), reply

    async def connected(self) -> None:
        """Wait until the master knows us."""
        await self.until(lambda: self.connections() and self.core.engine_failure is None)

    def connections(self) -> int:
        """Event streams that the leader serves."""
        return len(self.cluster.master.streams)

    def info(self, task_id: str) -> Json:
        """The TaskInfo that Mesos was given for a task."""
        for body in self.cluster.bodies("ACCEPT"):
            for operation in body["accept"]["operations"]:
                for info in operation["launch"]["task_infos"]:
                    if info["task_id"]["value"] == task_id:
                        found: Json = info
                        return found
        raise LookupError(task_id)

    def live(self) -> list[str]:
        """Tasks alive on the agents, whatever anybody believes."""
        return sorted(run.task_id for agent in self.cluster.agents for run in agent.live())

    async def status(self) -> Json:
        """``GET /api/v2/status``."""
        reply = await self.http.get("/status")
        assert reply.status == 200
        found: Json = reply.json
        return found

    async def why(self, job_id: int) -> str:
        """Why it waits, in one line."""
        return str((await self.http.get(f"/jobs/{job_id}/why")).json["summary"])


@asynccontextmanager
async def server(
    directory: Path, cluster: Cluster, *, max_running: int = 0, files: FileLayer | None = None, **options: Any
) -> AsyncIterator[MesosSite]:
    """A server on this directory for a cluster that runs already (or will)."""
    clock, wall = Clock(time.monotonic), Clock(time.time)
    settings: dict[str, Any] = {"refuse_s": SLOW, "poll_s": 0.2, "sample_s": 0.2, "unreachable_wait_s": 0.5}
    settings |= {"master": cluster.address, **options}
    engine = MesosEngine(directory / "mesos", MesosOptions(**settings), clock=clock, wall=wall)
    async with running_site(directory, None, engine, Scheduler(max_running=max_running), files) as site:
        yield MesosSite(site, engine, cluster, clock, wall)


@asynccontextmanager
async def mesos(directory: Path, agents: Any = 1, **options: Any) -> AsyncIterator[MesosSite]:
    """A server and a cluster that pretends; returns when they know each other."""
    cluster = agents if isinstance(agents, Cluster) else cluster_of(agents)
    async with cluster, server(directory, cluster, **options) as site:
        await site.connected()
        yield site
