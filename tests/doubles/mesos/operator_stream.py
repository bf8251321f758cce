"""The event stream of the operator API: SUBSCRIBE on /api/v1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from aiohttp import web

from . import views
from .answers import Stream, encode
from .model import AgentRecord, Framework, Json, MasterState, TaskRecord

HEARTBEAT = b'{"type":"HEARTBEAT"}'

Subject = TaskRecord | AgentRecord | Framework


class OperatorStreams:
    """All subscribers of one master."""

    def __init__(self, master: MasterState, state: Callable[[], Json]) -> None:
        self._master, self._state = master, state
        self._streams: dict[Stream, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def subscribe(self, body: bytes, request: web.BaseRequest) -> Stream | None:
        """Begin a stream, with the whole state; None if the call is something else."""
        try:
            call = json.loads(body)
        except ValueError:
            return None
        if not isinstance(call, dict) or call.get("type") != "SUBSCRIBE":
            return None
        stream = Stream(lost=lambda: self._lost(stream))
        stream.open(request)
        interval = self._master.timing.heartbeat
        content = {"get_state": self._state(), "heartbeat_interval_seconds": interval}
        stream.write(encode({"type": "SUBSCRIBED", "subscribed": content}))
        if not self._streams:
            self._master.observers.append(self._observe)
        self._beat(stream)
        return stream

    def _beat(self, stream: Stream) -> None:
        stream.write(HEARTBEAT)
        delay = self._master.timing.heartbeat
        self._streams[stream] = asyncio.get_running_loop().call_later(delay, self._beat, stream)

    def _lost(self, stream: Stream) -> None:
        self._streams.pop(stream).cancel()
        if not self._streams:
            self._master.observers.remove(self._observe)

    def _observe(self, kind: str, subject: Subject, status: Json | None) -> None:
        record = encode({"type": kind, kind.lower(): self._content(kind, subject, status)})
        for stream in list(self._streams):
            stream.write(record)

    def _content(self, kind: str, subject: Subject, status: Json | None) -> Json:
        if isinstance(subject, TaskRecord):
            if kind == "TASK_ADDED":
                return {"task": views.v1_task(subject)}
            framework_id = {"value": subject.framework_id}
            return {"framework_id": framework_id, "status": status, "state": subject.state}
        if isinstance(subject, AgentRecord):
            if kind == "AGENT_ADDED":
                return {"agent": views.agent(self._master, subject)}
            return {"agent_id": {"value": subject.id}}
        if kind == "FRAMEWORK_REMOVED":
            return {"framework_info": views.framework_info(subject)}
        return {"framework": views.framework_event(subject)}
