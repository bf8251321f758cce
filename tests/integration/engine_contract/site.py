"""What the engine tests share: a listener that records, and a place for an engine with everything around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from retz.engine.base import Assignment, Engine, KnownTask, Task, Update
from retz.engine.local import processes
from retz.engine.local.engine import LocalEngine
from retz.engine.mesos.engine import MesosEngine
from retz.engine.mesos.framework import MesosOptions
from retz.engine.null import NullEngine
from retz.model.agent import Gpu, Offer
from retz.model.resources import Resources
from tests.doubles.mesos.cluster import AgentSpec, Cluster, ClusterThread
from tests.doubles.mesos.model import Timing

TOTAL = Resources(cpus=4.0, mem=4096, disk=4096, gpus=2, ports=8)
GPUS = (Gpu(uuid="GPU-a", index=0), Gpu(uuid="GPU-b", index=1))
ONE = Resources(cpus=1.0, mem=64)
PATIENCE_S = 20.0
FINAL = ("ended", "lost", "not_started")


class Recorder:
    """A listener that remembers everything and lets tests wait for what they expect."""

    def __init__(self) -> None:
        self.standing: dict[str, Offer] = {}
        self.offer_ids: list[str] = []
        self.news: list[Update] = []
        self.failures: list[str] = []
        self.recoveries = 0
        self.acknowledge: Callable[[list[int]], None] = lambda seqs: None
        self._changed = asyncio.Event()

    def offers(self, offers: Sequence[Offer]) -> None:
        for offer in offers:
            assert offer.id not in self.offer_ids
            self.offer_ids.append(offer.id)
            self.standing[offer.id] = offer
        self._changed.set()

    def rescinded(self, offer_ids: Sequence[str]) -> None:
        for offer_id in offer_ids:
            self.standing.pop(offer_id, None)
        self._changed.set()

    def updates(self, updates: Sequence[Update]) -> None:
        self.news.extend(updates)
        # The end may wait until the start is acknowledged; ends themselves are left to the tests.
        self.acknowledge([update.seq for update in updates if update.kind == "started" and update.seq])
        self._changed.set()

    def agents_changed(self) -> None:
        self._changed.set()

    def failed(self, message: str) -> None:
        self.failures.append(message)
        self._changed.set()

    def recovered(self) -> None:
        self.recoveries += 1
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until ``condition()`` is true; its value."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := condition()):
                self._changed.clear()
                await self._changed.wait()
        return value

    async def offer(self) -> Offer:
        """Some standing offer, waiting for one."""
        offer: Offer = await self.until(lambda: next(iter(self.standing.values()), None))
        return offer

    async def final(self, task: str) -> Update:
        """The last truth about a task."""
        update: Update = await self.until(lambda: self.about(task, *FINAL))
        return update

    async def started(self, task: str) -> Update:
        """The news that it runs."""
        update: Update = await self.until(lambda: self.about(task, "started"))
        return update

    def about(self, task: str, *kinds: str) -> Update | None:
        """The latest of such news about a task, if there is any."""
        return next((update for update in reversed(self.news) if update.task == task and update.kind in kinds), None)


class Site:
    """An engine, its listener and its directory. ``restart`` is a new server on the same directory."""

    def __init__(self, kind: str, directory: Path, **options: Any) -> None:
        self.kind = kind
        self.directory = directory
        self.options = options
        self.engine: Engine
        self.recorder: Recorder
        self.agent = "a"
        self._stack = contextlib.ExitStack()
        if kind == "mesos":
            self.cluster = self._stack.enter_context(ClusterThread(self._make_cluster))
            self.agent = self.cluster.do(lambda cluster: cluster.agents[0].id)

    def _make_cluster(self) -> Cluster:
        """One agent that runs commands for real; what takes Mesos seconds takes it less."""
        agent = AgentSpec(cpus=4.0, mem=4096.0, disk=4096.0, gpus=2.0, ports=(31000, 31007))
        timing = Timing(allocation_interval=0.05, update_retry=1.0, executor_linger=0.05)
        return Cluster([agent], work_dir=self.directory / "cluster", timing=timing)

    def make(self) -> Engine:
        if self.kind == "null":
            return NullEngine(total=TOTAL)
        if self.kind == "mesos":
            options = MesosOptions(
                master=self.cluster.address, refuse_s=0.05, poll_s=0.2, sample_s=0.1, unreachable_wait_s=0.5
            )
            return MesosEngine(self.directory, options)
        return LocalEngine(self.directory, **{"total": TOTAL, "gpus": GPUS, **self.options})

    async def start(self, known: Sequence[KnownTask] = ()) -> Recorder:
        self.engine, self.recorder = self.make(), Recorder()
        self.recorder.acknowledge = self.engine.acknowledge
        await self.engine.start(self.recorder, known)
        return self.recorder

    async def restart(self, *known: str, kill: bool = False, graceful: bool = True) -> Recorder:
        """Stop this engine (or drop it as a kill -9 would) and start another one that knows these tasks."""
        if graceful:
            await self.engine.stop()
        else:
            drop(self.engine)
        return await self.start([self.known(task, kill=kill) for task in known])

    def known(self, task: str, **more: Any) -> KnownTask:
        """What the store would say of a running task."""
        return KnownTask(id=task, agent=self.agent, **{"resources": ONE, **more})

    async def launch(self, *tasks: Task) -> None:
        """Launch on a standing offer."""
        offer = await self.recorder.offer()
        del self.recorder.standing[offer.id]
        self.engine.launch(offer, [replace(task, agent=offer.agent) for task in tasks])

    async def run(self, command: str | tuple[str, ...], task: str = "1.1", **more: Any) -> Update:
        """Launch one task and wait for its end."""
        await self.launch(self.task(command, task, **more))
        return await self.recorder.final(task)

    def task(self, command: str | tuple[str, ...], task: str = "1.1", **more: Any) -> Task:
        environment = {"PATH": os.environ["PATH"], **more.pop("environment", {})}
        more.setdefault("resources", ONE)
        return Task(id=task, agent=self.agent, command=command, environment=environment, **more)

    def sandbox(self, task: str = "1.1") -> Path:
        if self.kind == "mesos":
            return next(self.directory.glob(f"cluster/**/executors/{task}/runs/*"), self.directory / "none")
        return self.directory / "sandboxes" / str(int(task.partition(".")[0]) // 1000) / task

    def play(self, scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario with a started engine, and stop it."""

        async def whole() -> None:
            await self.start()
            try:
                await scenario(self)
            finally:
                await self.engine.stop()

        asyncio.run(whole())

    def launcher_pid(self) -> int:
        return int((self.directory / "launcher.lock").read_text())

    def clean(self) -> None:
        """End the launcher, and whatever is left; say what should not have been."""
        self._stack.close()
        if self.kind == "local" and (self.directory / "launcher.lock").exists():
            end(self.launcher_pid(), signal.SIGTERM)
        left = self.strays()
        for pid in left:
            end(pid, signal.SIGKILL)
        assert not left, f"processes left behind: {left}"

    def strays(self) -> list[int]:
        """Processes that carry this directory's mark."""
        agent = self.directory / "agent"
        if not agent.exists():
            return []
        mark = b"\0RETZ_LAUNCHER=%b\0" % agent.read_text().strip().encode()
        return [pid for pid in processes.all_pids() if mark in processes.environment_of(pid) and alive(pid)]


def drop(engine: Engine) -> None:
    """What a kill -9 of the server does to an engine: its descriptors close, and nothing else happens."""
    assert isinstance(engine, LocalEngine)
    engine._link._closed = lambda: None
    engine._ready = False
    engine._link.close()


def alive(pid: int) -> bool:
    stat = processes.read_stat(pid)
    return stat is not None and stat[5] != b"Z"


def end(pid: int, number: signal.Signals) -> None:
    """Signal a process and wait until it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), f"process {pid} does not end"
    os.close(pidfd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for something outside the loop: look again every few milliseconds, fail when patience is over."""
    async with asyncio.timeout(PATIENCE_S):
        while not (value := condition()):  # noqa: ASYNC110 -- nothing tells us
            await asyncio.sleep(0.005)
    return value


def assignment(ports: Iterable[int] = (), gpus: Iterable[str] = ()) -> Assignment:
    return Assignment(gpus=tuple(gpus), ports=tuple(ports))
