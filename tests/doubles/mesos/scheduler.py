"""A scheduler for tests of the double: plain sockets, an event stream, and clusters in which a scene is played."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from .cluster import Cluster
from .model import OfferRecord, Timing
from .recordio import Records

Json = dict[str, Any]
PATIENCE_S = 20.0
SCHEDULER = "/api/v1/scheduler"
CAPABLE = [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "GPU_RESOURCES"}]
CAPABLE_INFO = {"name": "x", "user": "root", "roles": ["team"], "capabilities": CAPABLE, "failover_timeout": 3600.0}
SUBSCRIBE = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x", "user": "root"}}}
PLAIN_INFO = {"name": "x", "user": "root", "failover_timeout": 3600.0}
NO_TICKS = 3600.0
"""An allocation interval so long that rounds of offers happen only when a test asks for them."""


def quick(**changes: Any) -> Timing:
    """Everything at once, offers on demand, a second of a call lasts a thousand times as long."""
    values = {"allocation_interval": NO_TICKS, "recovery": 0.0, "first_offer": 0.0, "scale": 1000.0}
    return Timing(**{**values, **changes})


class Reply:
    """Status, headers in their order, body."""

    def __init__(self, head: bytes, body: bytes = b"") -> None:
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = [line.split(": ", 1)[0] for line in lines[1:] if line]
        self.values = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.body = body.decode()


def request(
    body: bytes | Json = b"", *, method: str = "POST", path: str = SCHEDULER, headers: Json | None = None
) -> bytes:
    """The bytes of a request; a header that is None is left out."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"Host": "x", "Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def reply_of(reader: asyncio.StreamReader) -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    reply = Reply(head)
    reply.body = (await reader.readexactly(int(reply.values.get("Content-Length", 0)))).decode()
    return reply


async def ask(address: str, raw: bytes) -> Reply:
    """One request on a connection of its own."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    reply = await reply_of(reader)
    writer.close()
    return reply


class Scheduler:
    """A scheduler with its event stream."""

    def __init__(self, address: str, info: Json) -> None:
        self.address, self.info = address, info
        self.events: list[Json] = []
        self.ended: str | None = None
        self.head: Reply
        self._seen: Counter[str] = Counter()
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None]
        self._writer: asyncio.StreamWriter

    async def subscribe(self, headers: Json | None = None, **more: Any) -> Self:
        host, port = self.address.split(":")
        reader, self._writer = await asyncio.open_connection(host, int(port))
        call: Json = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.info, **more}}
        if "id" in self.info:
            call["framework_id"] = self.info["id"]
        self._writer.write(request(call, headers=headers))
        self.head = Reply(await reader.readuntil(b"\r\n\r\n"))
        self._reading = asyncio.create_task(self._read(reader))
        return self

    async def _read(self, reader: asyncio.StreamReader) -> None:
        records = Records()
        try:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                for record in records.feed((await reader.readexactly(size + 2))[:-2]):
                    self.events.append(json.loads(record))
                    self._news.set()
            self.ended = "last chunk"
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended = "connection lost"
        self._news.set()

    def half_close(self) -> None:
        """Shut down the write side of the stream's connection."""
        self._writer.write_eof()

    async def close(self) -> None:
        """Drop the stream's connection."""
        self._writer.close()
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait for this to be true after some event."""
        while not what():
            self._news.clear()
            await self._news.wait()

    async def next(self, kind: str) -> Json:
        """The next event of a type: each of them once, in their order."""
        number = self._seen[kind]
        self._seen[kind] += 1
        await self.until(lambda: len(self._of(kind)) > number)
        return self._of(kind)[number]

    def _of(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["type"] == kind]

    async def status(self) -> Json:
        """The next task status."""
        return dict((await self.next("UPDATE"))["update"]["status"])

    @property
    def id(self) -> str:
        first = next(event for event in self.events if event["type"] == "SUBSCRIBED")
        return str(first["subscribed"]["framework_id"]["value"])

    async def call(self, kind: str, stream: str | None = "", **message: Any) -> Reply:
        """Any call, with the stream id of this stream unless told otherwise."""
        body = {"framework_id": {"value": self.id}, "type": kind, **message}
        stream = self.head.values["Mesos-Stream-Id"] if stream == "" else stream
        return await ask(self.address, request(body, headers={"Mesos-Stream-Id": stream}))

    async def launch(self, offers: list[str], agent: str, *tasks: Json, **more: Any) -> Reply:
        infos = [{"name": "t", "agent_id": {"value": agent}, **task} for task in tasks]
        operations = [{"type": "LAUNCH", "launch": {"task_infos": infos}}]
        ids = [{"value": offer} for offer in offers]
        return await self.call("ACCEPT", accept={"offer_ids": ids, "operations": operations, **more})

    async def acknowledge(self, status: Json) -> Reply:
        message = {key: status[key] for key in ("agent_id", "task_id", "uuid")}
        return await self.call("ACKNOWLEDGE", acknowledge=message)

    async def reconcile(self, task: str, agent: str | None = None) -> Json:
        asked: Json = {"task_id": {"value": task}}
        if agent is not None:
            asked["agent_id"] = {"value": agent}
        await self.call("RECONCILE", reconcile={"tasks": [asked]})
        return await self.status()

    async def run(self, cluster: Cluster, name: str = "t-1", seconds: float = 1e6) -> Json:
        """Launch a task, acknowledge until it runs; gives the RUNNING status."""
        offer = first_offer(cluster)
        await self.launch([offer.id], offer.agent_id, task(name, f"sleep {seconds}"))
        await self.acknowledge(await self.status())
        running = await self.status()
        await self.acknowledge(running)
        assert running["state"] == "TASK_RUNNING"
        return running


def task(name: str, command: str | None = "sleep 1000000", cpus: float = 0.1, **more: Any) -> Json:
    resources = [scalar("cpus", cpus), scalar("mem", 32)]
    info: Json = {"task_id": {"value": name}, "resources": resources, **more}
    if command is not None:
        info["command"] = {"shell": True, "value": command}
    return info


def scalar(name: str, value: float, **more: Any) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def first_offer(cluster: Cluster) -> OfferRecord:
    """An offer that is outstanding; there is one, if need be by a round of its own."""
    cluster.master.allocate()
    return next(iter(cluster.framework().offers.values()))


async def turns(what: Callable[[], object]) -> None:
    """Let the loop turn until this is true."""
    turned = asyncio.Event()
    while not what():
        asyncio.get_running_loop().call_soon(turned.set)
        await turned.wait()
        turned.clear()


Scene = Callable[[Cluster], Awaitable[None]]


def play(scene: Scene, *args: Any, **options: Any) -> None:
    """Run a scene in a cluster."""

    async def body() -> None:
        async with asyncio.timeout(PATIENCE_S), Cluster(*args, **{"timing": quick(), **options}) as cluster:
            await scene(cluster)
            cluster.check_accounts()

    asyncio.run(body())


async def subscribed(cluster: Cluster, info: Json | None = None, **more: Any) -> Scheduler:
    scheduler = await Scheduler(cluster.address, CAPABLE_INFO if info is None else info).subscribe(**more)
    await scheduler.until(lambda: bool(scheduler.events))
    return scheduler
