"""A small scheduler for what happens beside a recording: it runs tasks and acknowledges their updates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.conformance import wire

Json = dict[str, Any]


class Framework:
    """A framework in the role "team" of the cluster at ``address``.

    ``agent`` is the id of the agent it launched on last, ``statuses`` all that were reported.
    """

    def __init__(self, address: wire.Address, stream: wire.Stream, id: str) -> None:
        self.address = address
        self.stream = stream
        self.id = id
        self.agent = ""
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.offers: list[Json] = []
        self.statuses: list[Json] = []

    @classmethod
    async def subscribe(cls, address: wire.Address, name: str, **info: object) -> Framework:
        """Register. ``info`` are more fields of FrameworkInfo."""
        capabilities = [{"type": kind} for kind in ("MULTI_ROLE", "PARTITION_AWARE", "GPU_RESOURCES")]
        described = {"name": name, "user": "root", "roles": ["team"], "capabilities": capabilities, **info}
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": described}}
        stream = await wire.subscribe(address, _request(address, body, ""), 10)
        if isinstance(stream, wire.Message):
            raise RuntimeError(f"no stream: {stream}")
        framework = cls(address, stream, "")
        framework._reader = asyncio.create_task(framework._read())
        await framework._until(lambda: framework.id != "")
        return framework

    async def call(self, kind: str, **content: object) -> None:
        """Make a call; its content under its own name.

        Raises:
            RuntimeError: It was not accepted.
        """
        body = {"framework_id": {"value": self.id}, "type": kind, **content}
        stream_id = self.stream.head.header("Mesos-Stream-Id") or ""
        answer = await wire.call(self.address, _request(self.address, body, stream_id), 10)
        if answer.status != 202:
            raise RuntimeError(f"{kind}: {answer}")

    async def launch(self, rack: str, tasks: Sequence[Json]) -> None:
        """Run tasks (name, command and more fields of TaskInfo) on the agent of a rack, once it is offered."""
        await self._until(lambda: any(_rack(offer) == rack for offer in self.offers))
        offer = next(offer for offer in self.offers if _rack(offer) == rack)
        self.offers.remove(offer)
        self.agent = offer["agent_id"]["value"]
        infos = [_task(task, offer["agent_id"]) for task in tasks]
        operation = {"type": "LAUNCH", "launch": {"task_infos": infos}}
        await self.call("ACCEPT", accept={"offer_ids": [offer["id"]], "operations": [operation]})

    async def reached(self, task: str, state: str) -> Json:
        """Wait until a task was reported in a state; that status. All updates are acknowledged meanwhile."""
        await self._until(lambda: self._status(task, state) is not None)
        found = self._status(task, state)
        assert found is not None
        return found

    def _status(self, task: str, state: str) -> Json | None:
        return next((s for s in self.statuses if s["task_id"]["value"] == task and s["state"] == state), None)

    async def close(self) -> None:
        """End, with all tasks."""
        await self.call("TEARDOWN")
        await self.drop()

    async def drop(self) -> None:
        """Drop the connection, without a word."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.stream.close()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _read(self) -> None:
        """Take events and acknowledge updates, for ever."""
        read = 0
        while True:
            self.stream.news.clear()
            if read == len(self.stream.events):
                await self.stream.news.wait()
            new = self.stream.events[read:]
            read += len(new)
            for event in new:
                await self._take(event.data)
            self._news.set()

    async def _take(self, event: Json) -> None:
        match event["type"]:
            case "SUBSCRIBED":
                self.id = event["subscribed"]["framework_id"]["value"]
            case "OFFERS":
                self.offers += event["offers"]["offers"]
            case "UPDATE":
                await self._updated(event["update"]["status"])

    async def _updated(self, status: Json) -> None:
        self.statuses.append(status)
        if "uuid" in status:
            fields = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
            await self.call("ACKNOWLEDGE", acknowledge=fields)


def _rack(offer: Mapping[str, Any]) -> str:
    return next((each["text"]["value"] for each in offer.get("attributes", ()) if each["name"] == "rack"), "")


def _task(task: Json, agent: Json) -> Json:
    amounts = {"cpus": 0.1, "mem": 32}
    resources = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in amounts.items()]
    command = {"shell": True, "value": task["command"]}
    name = task["name"]
    own = {"name": name, "task_id": {"value": name}, "agent_id": agent, "resources": resources}
    return {**own, **task, "command": command}


def _request(address: wire.Address, body: object, stream_id: str) -> bytes:
    content = json.dumps(body).encode()
    identity = f"Mesos-Stream-Id: {stream_id}\r\n" if stream_id else ""
    head = (
        f"POST /api/v1/scheduler HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\n{identity}Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
