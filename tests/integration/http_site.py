"""A whole server on a free port, with an engine that does as the test says. Real store, real core, real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from yarl import URL

from retz.auth import authorization
from retz.config_server import load_server
from retz.engine.base import Assignment, FileEntry, FileRefused, KnownTask, Listener, Task, Update
from retz.model.agent import Agent, Gpu, Offer
from retz.model.container import Container
from retz.model.job import Usage
from retz.model.resources import Resources, subtract
from retz.model.user import User
from retz.scheduler.scheduler import Scheduler
from retz.server.core import Core
from retz.server.http import build_runner
from retz.server.scheduling import scheduler_of
from retz.store.aggregates import AggregateStore
from retz.store.archive import Archive
from retz.store.database import Change, Database, StoreOptions
from retz.store.files import FileLayer

ANN = User(key="ann", secret="ann's secret", created=1.0)
BOB = User(key="bob", secret="bob's secret", created=1.0)
ROOT = User(key="root", secret="root's secret", admin=True, info="Admin user", created=1.0)


class Reader:
    """An open file of :class:`PuppetEngine`."""

    def __init__(self, engine: PuppetEngine, data: bytearray) -> None:
        self._engine = engine
        self._data = data
        engine.open_readers += 1
        self._open = True

    @property
    def size(self) -> int:
        return len(self._data)

    async def refresh(self) -> int:
        return len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        assert self._open
        return bytes(self._data[offset : offset + length])

    def close(self) -> None:
        if self._open:
            self._open = False
            self._engine.open_readers -= 1


class PuppetEngine:
    """Runs nothing: tests say what happens to tasks, and what their sandboxes hold."""

    name = "puppet"
    honours: frozenset[str] = frozenset()
    shared = False
    master: str | None = None

    def __init__(self, agents: Sequence[Agent] | None = None) -> None:
        self._agents = agents or [
            Agent(id="a1", host="host1", total=Resources(4, 4096, 10_000, 1, 10), gpus=(Gpu("GPU-1", 0, "T4", 1024),))
        ]
        self._listener: Listener | None = None
        self._offers = 0
        self.launched: list[Task] = []
        self.killed: list[str] = []
        self.files: dict[str, dict[str, bytearray]] = {}
        self.open_readers = 0
        self.held: dict[str, Resources] = {}

    async def start(self, listener: Listener, known: Sequence[KnownTask]) -> None:
        self._listener = listener
        self.offer()

    async def stop(self) -> None:
        self._listener = None

    def offer(self) -> None:
        """Offer what is free on the first agent, in place of what was offered before."""
        assert self._listener is not None
        self._listener.rescinded([f"o{self._offers}"])
        agent = self._agents[0]
        self._offers += 1
        room = agent.total.vector
        for held in self.held.values():
            room = subtract(room, held.vector)
        offer = Offer(id=f"o{self._offers}", agent=agent.id, room=room, attributes=agent.attributes)
        self._listener.offers([offer])

    def agents(self) -> Sequence[Agent]:
        return self._agents

    async def refusal(self, container: Container) -> str | None:
        return None

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        return Assignment(gpus=("GPU-1",) if resources.gpus else (), ports=tuple(range(31000, 31000 + resources.ports)))

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        self.launched += tasks
        for task in tasks:
            self.held[task.id] = task.resources
            self.files[task.id] = {"stdout": bytearray(), "stderr": bytearray()}
        self.offer()

    def decline(self, offer_ids: Sequence[str]) -> None:
        return

    def revive(self) -> None:
        return

    def suppress(self) -> None:
        return

    def kill(self, task_id: str, grace_s: float) -> None:
        self.killed.append(task_id)

    def acknowledge(self, seqs: Sequence[int]) -> None:
        return

    async def usage(self, task_ids: Sequence[str], *, series: bool = True) -> dict[str, Usage]:
        return {task: Usage(cpu_s=1.5, max_rss_mb=20.0, interval_s=1.0, series=((150, 20),)) for task in task_ids}

    async def list_files(self, task_id: str, path: str, agent: str = "") -> list[FileEntry]:
        here = self._sandbox(task_id, path)
        if path in ("", "."):
            return [_entry(name, data) for name, data in sorted(here.items())]
        return [_entry(path, here[path])] if path in here else self._missing(path)

    async def open_file(self, task_id: str, path: str, agent: str = "") -> Reader:
        here = self._sandbox(task_id, path)
        return Reader(self, here[path]) if path in here else self._missing(path)

    def _sandbox(self, task_id: str, path: str) -> dict[str, bytearray]:
        if ".." in path.split("/") or path.startswith("/") or path == "link":
            raise FileRefused(f"{path!r} leads out of the sandbox")
        if task_id not in self.files:
            raise FileNotFoundError(task_id)
        return self.files[task_id]

    def _missing(self, path: str) -> Any:
        raise FileNotFoundError(path)

    def collect(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self.files.pop(task_id, None)

    # -- what the test makes happen --------------------------------------------------------------------------

    def started(self, task_id: str) -> None:
        """The task's process runs."""
        self._tell(Update(seq=0, task=task_id, kind="started", at=time.time()))

    def ended(self, task_id: str, code: int = 0) -> None:
        """It is over."""
        self.held.pop(task_id, None)
        usage = Usage(cpu_s=2.0, max_rss_mb=30.0, interval_s=1.0, series=((100, 30), (50, 10)))
        self._tell(Update(seq=0, task=task_id, kind="ended", at=time.time(), exit_code=code, usage=usage))

    def lost(self, task_id: str) -> None:
        """Its machine is gone."""
        self.held.pop(task_id, None)
        self._tell(Update(seq=0, task=task_id, kind="lost", at=time.time(), message="the machine burnt"))

    def _tell(self, update: Update) -> None:
        assert self._listener is not None
        self._listener.updates([update])
        if update.kind != "started":
            self.offer()


def _entry(path: str, data: bytearray) -> FileEntry:
    return FileEntry(path=path, size=len(data), mtime=1.5, mode="-rw-r--r--", uid="ann", gid="users")


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """A running server and a client that signs."""

    def __init__(self, core: Core, engine: PuppetEngine, runner: web.AppRunner, session: aiohttp.ClientSession) -> None:
        self.shut = runner.cleanup
        port: int = runner.addresses[0][1]
        self.core = core
        self.engine = engine
        self.port = port
        self.session = session

    def open(
        self,
        method: str,
        target: str,
        user: User | None = ANN,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Begin a request; use with ``async with``."""
        signed = authorization(user.key, user.secret, method, target, body, time.time()) if user else {}
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        return self.session.request(
            method, url, data=body or None, headers={**signed, **(headers or {})}, skip_auto_headers=["Content-Type"]
        )

    async def ask(
        self,
        method: str,
        target: str,
        user: User | None = ANN,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Reply:
        """Send a request (``fields`` become its JSON) and read the whole answer."""
        data = json.dumps(fields).encode() if fields else body
        async with self.open(method, target, user, data, headers) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, user: User | None = ANN, **options: Any) -> Reply:
        """GET below /api/v2."""
        return await self.ask("GET", f"/api/v2{path}", user, **options)

    async def submit(self, command: str = "true", user: User = ANN, **fields: Any) -> int:
        """Submit one job; its id."""
        reply = await self.ask("POST", "/api/v2/jobs", user, jobs=[{"command": command, **fields}])
        assert reply.status == 201, reply
        return int(reply.json["ids"][0])

    async def running(self, command: str = "true", user: User = ANN, **fields: Any) -> int:
        """Submit one job and let it start."""
        job_id = await self.submit(command, user, **fields)
        await self.until(lambda: any(task.id == f"{job_id}.1" for task in self.engine.launched))
        self.engine.started(f"{job_id}.1")
        await self.core.settled()
        return job_id

    async def until(self, condition: Any) -> None:
        """Wait until something the server does has happened."""
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 (no event exists for what tests look at)
                await asyncio.sleep(0.001)


@asynccontextmanager
async def running_site(
    directory: Path,
    options: dict[str, object] | None = None,
    engine: Any = None,
    scheduler: Scheduler | None = None,
    files: FileLayer | None = None,
    **store: Any,
) -> AsyncIterator[Site]:
    """A server with users ann, bob and root (an admin), and any engine; a puppet, if none is given."""
    config = load_server({"retz.data-dir": str(directory), **(options or {})})
    with Database.open(directory, files=files, options=StoreOptions(**store)) as db:
        db.attach(asyncio.get_running_loop())
        await db.apply([Change("users", user.key, user) for user in (ANN, BOB, ROOT)])
        archive = Archive.open(directory / "archive")
        engine = engine or PuppetEngine()
        core = Core(
            db=db,
            archive=archive,
            aggregates=AggregateStore(directory / "aggregates"),
            scheduler=scheduler_of(config) if scheduler is None else scheduler,
            engine=engine,
            config=config,
        )
        await core.start()
        runner = build_runner(core)
        try:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            async with aiohttp.ClientSession(auto_decompress=False) as session:
                yield Site(core, engine, runner, session)
        finally:
            await runner.cleanup()
            await core.stop()
            archive.close()
