"""The double's master: HTTP in front of what it knows. Paths other than the scheduler's come from the operator API."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
import uuid
from collections import deque
from dataclasses import dataclass

from aiohttp import web

from . import answers, validation
from .answers import Answer, HttpServer, Stream
from .calls import Calls
from .core import Registry
from .model import Json, Timing

PREFIX = "/master"
JSON = "application/json"
PROTOBUF = "application/x-protobuf"
CALLS_KEPT = 100_000


@dataclass(slots=True)
class Call:
    """A call that was received, well-formed or not refused for its stream."""

    at: float
    type: str
    framework_id: str
    body: Json


class Master(Calls):
    """A master on a port of its own.

    Args:
        credentials: Principals and secrets; with them every request must authenticate, except for /health.
        keep_calls: How many calls :attr:`calls` remembers.
    """

    def __init__(
        self,
        timing: Timing | None = None,
        *,
        ip: str = "127.0.0.1",
        registry: Registry | None = None,
        credentials: dict[str, str] | None = None,
        keep_calls: int = CALLS_KEPT,
    ) -> None:
        super().__init__(timing, ip=ip, registry=registry)
        self.credentials = credentials
        self.calls: deque[Call] = deque(maxlen=keep_calls)
        self.leader: str | None = None
        """Where a master that does not lead sends everybody: ``host:port``."""
        self.http: HttpServer | None = None
        self.routes["/api/v1/scheduler"] = self._scheduler

    # -- the process -----------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        """Listen; on the same port as before if there was one."""
        self.start_time = time.time()
        self.http = HttpServer(self._handle)
        self.port = await self.http.listen(self.ip, port or self.port)

    async def lead(self) -> None:
        """Become the leader; returns when the registry is recovered."""
        self.leading = self.recovering = True
        self.leader = self.address
        self.elected_time = time.time()
        epoch = self._epoch
        await asyncio.sleep(self.timing.recovery)
        if epoch == self._epoch:
            self.recovering = False
            self.recover_registry()
            self._tick()

    def vanish(self) -> None:
        """End as by SIGKILL: connections drop, everything but the registry is forgotten."""
        self.leading = self.recovering = False
        self.resume()
        for stream in self.streams.values():
            stream.lost = None
        if self.http is not None:
            self.http.vanish()
            self.http = None
        self.forget()

    async def stop(self) -> None:
        """End, and wait for the connections to be gone."""
        http = self.http
        self.vanish()
        if http is not None:
            await http.shutdown(1.0)

    def stall(self) -> None:
        """Accept connections, answer nothing, send nothing (as SIGSTOP does) until :meth:`resume`."""
        if self.stalled is None:
            self.stalled = asyncio.Event()
            for stream in self.streams.values():
                stream.hold()

    def resume(self) -> None:
        """Go on where it was stopped."""
        stalled, self.stalled = self.stalled, None
        if stalled is not None:
            stalled.set()
            for stream in self.streams.values():
                stream.release()

    # -- requests --------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.stalled is not None:
            await self.stalled.wait()
        path = _bare(request.path)
        local = self.local.get(path)
        if path == "/health" and local is not None:
            return await local(request)
        principal = self._authenticate(request)
        if self.credentials is not None and principal is None:
            return answers.unauthorized(_realm(path, request.method))
        if local is not None:
            return await local(request)
        if path == "/redirect":
            return self._redirect("")
        handler = self.routes.get(path)
        if handler is None:
            return answers.not_found()
        if not self.leading:
            return self._redirect(PREFIX + path)
        if self.recovering and path.startswith("/api/"):
            return answers.text(503, "Master has not finished recovery")
        return await handler(request)

    def _redirect(self, path: str) -> Answer:
        if self.leader is None:
            return answers.text(503, "No leader elected")
        return answers.empty(307, ("Location", f"//{self.leader}{path}"))

    def _authenticate(self, request: web.BaseRequest) -> str | None:
        """The principal; None if there is none, or a wrong one."""
        if self.credentials is None:
            return None
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        try:
            principal, _, secret = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return principal if scheme == "Basic" and self.credentials.get(principal) == secret else None

    async def _scheduler(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return answers.method_not_allowed(request.method)
        headers = request.headers
        content_type = headers.get("Content-Type")
        if content_type is None:
            return answers.bad_request("Expecting 'Content-Type' to be present")
        if content_type != JSON:
            # Also for protobuf, which the real one takes: nobody here speaks it.
            return answers.text(415, f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}")
        try:
            call = validation.parse(await request.read())
            if call["type"] == "SUBSCRIBE":
                return self._subscribe(request, call)
        except validation.Refused as refused:
            return answers.bad_request(str(refused))
        return self._call(call, headers.get("Mesos-Stream-Id"))

    def _subscribe(self, request: web.BaseRequest, call: Json) -> web.StreamResponse:
        principal = self._authenticate(request)
        validation.check_principal(principal, call["subscribe"]["framework_info"])
        accept = request.headers.get("Accept", JSON)
        if not any(kind in accept for kind in (JSON, PROTOBUF, "*/*", "application/*")):
            return answers.text(406, f"Expecting 'Accept' to allow '{PROTOBUF}' or '{JSON}'")
        if "Mesos-Stream-Id" in request.headers:
            return answers.bad_request("Subscribe calls should not include the 'Mesos-Stream-Id' header")
        stream_id = str(uuid.uuid4())
        stream = Stream((("Mesos-Stream-Id", stream_id),))
        stream.open(request)
        self.subscribe(call, stream, stream_id, principal)
        self._log(call)
        return stream

    def _call(self, call: Json, stream_id: str | None) -> Answer:
        framework_id = call["framework_id"]["value"]
        framework = self.frameworks.get(framework_id)
        if framework is None:
            return answers.bad_request("Framework cannot be found")
        if not framework.connected:
            return answers.text(403, "Framework is not subscribed")
        if stream_id is None:
            return answers.bad_request("All non-subscribe calls should include the 'Mesos-Stream-Id' header")
        if stream_id != framework.stream_id:
            return answers.bad_request(
                f"The stream ID '{stream_id}' included in this request didn't match the stream ID currently"
                f" associated with framework ID {framework_id}"
            )
        self._log(call)
        self.call(framework, call)
        return answers.empty() if call["type"] == "UPDATE_FRAMEWORK" else answers.accepted()

    def _log(self, call: Json) -> None:
        if self.calls.maxlen:
            self.calls.append(Call(time.time(), call["type"], call.get("framework_id", {}).get("value", ""), call))


def _bare(path: str) -> str:
    """A path without ``/master`` and without a slash at its end."""
    if path.startswith(PREFIX + "/"):
        path = path[len(PREFIX) :]
    return path.rstrip("/") or "/"


def _realm(path: str, method: str) -> str:
    if path == "/api/v1/scheduler":
        return "mesos-master-scheduler"
    return "mesos-master-readonly" if method in ("GET", "HEAD") else "mesos-master-readwrite"
