"""The double's master, asked over plain sockets, answers as the recordings of a real one say."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.cluster import AgentSpec, Cluster, ClusterThread
from tests.doubles.mesos.model import OfferRecord, Timing
from tests.doubles.mesos.recordio import Records

Json = dict[str, Any]
PATIENCE_S = 20.0
SCHEDULER = "/api/v1/scheduler"
CAPABLE = [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "GPU_RESOURCES"}]
CAPABLE_INFO = {"name": "x", "user": "root", "roles": ["team"], "capabilities": CAPABLE, "failover_timeout": 3600.0}
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

    async def subscribe(self, headers: Json | None = None, **more: Any) -> Scheduler:
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

    async def close(self) -> None:
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


# -- HTTP and 400 ------------------------------------------------------------------------------------------------------

PARSE = "Failed to parse body into JSON: syntax error at line 1 near: "
CONVERT = "Failed to convert JSON into Call protobuf: "
VALIDATE = "Failed to validate scheduler::Call: "
CONTENT = "Expecting 'Content-Type' of application/json or application/x-protobuf"
SUBSCRIBE = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x", "user": "root"}}}


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (request(b'{"type": "SUBSCRIBE",'), 400, PARSE),
        (request(b""), 400, PARSE),
        (request(b"[]"), 400, CONVERT + "Expecting a JSON object"),
        (request({}), 400, VALIDATE + "Expecting 'type' to be present"),
        (request({"type": "NOSUCH"}), 400, VALIDATE + "Expecting 'type' to be present"),
        (request({"type": "UNKNOWN"}), 400, VALIDATE + "Expecting 'framework_id' to be present"),
        (request({"type": "SUPPRESS"}), 400, VALIDATE + "Expecting 'framework_id' to be present"),
        (request({"type": "SUBSCRIBE"}), 400, VALIDATE + "Expecting 'subscribe' to be present"),
        (
            request({"type": "SUBSCRIBE", "subscribe": {}}),
            400,
            CONVERT + "Missing required fields: subscribe.framework_info",
        ),
        (
            request({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}}),
            400,
            CONVERT + "Missing required fields: subscribe.framework_info.user",
        ),
        (
            request({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": 5}}}),
            400,
            CONVERT + "Not expecting a JSON number for field 'name'",
        ),
        (
            request({**SUBSCRIBE, "framework_id": {"value": "a"}}),
            400,
            VALIDATE + "'framework_id' differs from 'subscribe.framework_info.id'",
        ),
        (request({"type": "SUPPRESS", "framework_id": {"value": "nobody"}}), 400, "Framework cannot be found"),
        (request({}, headers={"Content-Type": "text/plain"}), 415, CONTENT),
        (request({}, headers={"Content-Type": "application/json; charset=utf-8"}), 415, CONTENT),
        (request({}, headers={"Content-Type": None}), 400, "Expecting 'Content-Type' to be present"),
        (
            request(SUBSCRIBE, headers={"Accept": "text/html"}),
            406,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        ),
        (
            request(SUBSCRIBE, headers={"Mesos-Stream-Id": "a"}),
            400,
            "Subscribe calls should not include the 'Mesos-Stream-Id' header",
        ),
        (
            request(method="GET"),
            405,
            "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.",
        ),
        (
            request({"type": "SUBSCRIBE"}, path="/api/v1/scheduler/"),
            400,
            VALIDATE + "Expecting 'subscribe' to be present",
        ),
        (
            request({"type": "SUBSCRIBE"}, path="/master/api/v1/scheduler"),
            400,
            VALIDATE + "Expecting 'subscribe' to be present",
        ),
        (request(method="GET", path="/nosuch"), 404, "404 Not Found."),
    ],
)
def test_a_request_that_is_refused(raw: bytes, status: int, body: str) -> None:
    async def scene(cluster: Cluster) -> None:
        reply = await ask(cluster.address, raw)
        assert (reply.status, reply.body) == (status, body)
        assert [name for name in reply.headers if name != "Allow"] == ["Date", "Content-Type", "Content-Length"]
        assert reply.values["Content-Type"] == "text/plain; charset=utf-8"

    play(scene, 0)


def test_calls_that_are_refused_for_their_content_or_stream() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        refused = [
            (await scheduler.call("ACCEPT"), VALIDATE + "Expecting 'accept' to be present"),
            (await scheduler.call("KILL"), VALIDATE + "Expecting 'kill' to be present"),
            (await scheduler.call("DECLINE"), VALIDATE + "Expecting 'decline' to be present"),
            (await scheduler.call("RECONCILE"), VALIDATE + "Expecting 'reconcile' to be present"),
            (
                await scheduler.call("ACCEPT", accept={"offer_ids": "x"}),
                CONVERT + "Not expecting a JSON string for field 'offer_ids'",
            ),
            (
                await scheduler.acknowledge({"agent_id": {"value": "a"}, "task_id": {"value": "b"}, "uuid": "!!"}),
                CONVERT + "Failed to base64 decode bytes field 'uuid': Invalid character '!'",
            ),
            (
                await scheduler.acknowledge({"agent_id": {"value": "a"}, "task_id": {"value": "b"}, "uuid": "AAAA"}),
                VALIDATE + "Not a valid UUID",
            ),
            (
                await scheduler.call("SUPPRESS", stream=None),
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
            ),
            (
                await scheduler.call("SUPPRESS", stream="xyz"),
                "The stream ID 'xyz' included in this request didn't match the stream ID currently associated with"
                f" framework ID {scheduler.id}",
            ),
        ]
        for reply, body in refused:
            assert (reply.status, reply.body) == (400, body)
        taken = await scheduler.call("SUPPRESS", suppress={"nosuchfield": 1}, zzz=5)
        assert (taken.status, taken.headers, taken.body) == (202, ["Date", "Content-Length"], "")
        assert (
            await scheduler.call("UPDATE_FRAMEWORK", update_framework={"framework_info": CAPABLE_INFO})
        ).status == 200
        assert [call.type for call in cluster.calls] == ["SUBSCRIBE", "SUPPRESS", "UPDATE_FRAMEWORK"]
        await scheduler.close()

    play(scene, 0)


def test_odd_http_is_taken_as_mesos_takes_it() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        body = {"framework_id": {"value": scheduler.id}, "type": "REVIVE"}
        raw = request(body, headers={"Mesos-Stream-Id": scheduler.head.values["Mesos-Stream-Id"]})
        host, port = cluster.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw + raw)
        assert [(await reply_of(reader)).status for _ in range(2)] == [202, 202]
        writer.write(raw.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert (await reply_of(reader)).status == 202
        assert await reader.read() == b""
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"hello\r\n\r\n")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await scheduler.close()

    play(scene, 0)


def test_authentication() -> None:
    async def scene(cluster: Cluster) -> None:
        wrong = [None, "Basic " + base64.b64encode(b"me:wrong").decode(), "Basic !", "Bearer x"]
        for header in wrong:
            reply = await ask(cluster.address, request(SUBSCRIBE, headers={"Authorization": header}))
            assert (reply.status, reply.body) == (401, "401 Unauthorized.")
            assert reply.values["WWW-Authenticate"] == 'Basic realm="mesos-master-scheduler"'
        reply = await ask(cluster.address, request(method="GET", path="/state"))
        assert reply.values["WWW-Authenticate"] == 'Basic realm="mesos-master-readonly"'
        good = {"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}
        scheduler = await subscribed(cluster, headers=good)
        await scheduler.close()
        other = {**SUBSCRIBE, "subscribe": {"framework_info": {**PLAIN_INFO, "principal": "other"}}}
        reply = await ask(cluster.address, request(other, headers=good))
        what = "Authenticated principal 'me' does not match principal 'other' set in `FrameworkInfo`"
        assert (reply.status, reply.body) == (400, VALIDATE + what)

    play(scene, 0, credentials={"me": "secret"})


# -- subscription ------------------------------------------------------------------------------------------------------


def test_subscribed_heartbeat_offers() -> None:
    specs = [AgentSpec(gpus=2, attributes={"rack": "r1", "level": 3.0}), AgentSpec(gpus=2)]

    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.next("OFFERS")
        assert [event["type"] for event in scheduler.events[:2]] == ["SUBSCRIBED", "HEARTBEAT"]
        assert scheduler.head.headers == ["Date", "Transfer-Encoding", "Mesos-Stream-Id", "Content-Type"]
        first = scheduler.events[0]["subscribed"]
        assert list(first) == ["framework_id", "heartbeat_interval_seconds", "master_info"]
        assert first["master_info"]["ip"] == 16777343
        offers = {offer["agent_id"]["value"]: offer for offer in scheduler.events[2]["offers"]["offers"]}
        offer = offers[cluster.agents[0].id]
        assert list(offer) == [
            *("id", "framework_id", "agent_id", "hostname", "url", "resources", "attributes", "allocation_info")
        ]
        assert [each["name"] for each in offer["resources"]] == ["ports", "cpus", "mem", "disk", "gpus"]
        assert offer["resources"][1] == scalar("cpus", 2.0, role="*", allocation_info={"role": "team"})
        assert offer["attributes"] == [
            {"name": "rack", "type": "TEXT", "text": {"value": "r1"}},
            {"name": "level", "type": "SCALAR", "scalar": {"value": 3.0}},
        ]
        await scheduler.close()

    play(scene, specs)


def test_without_multi_role_nothing_says_for_which_role_it_is() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, PLAIN_INFO)
        event = await scheduler.next("OFFERS")
        assert "allocation_info" not in json.dumps(event)
        assert first_offer(cluster).role == "*"
        await scheduler.close()

    play(scene)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"roles": ["eng"]},
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
        ),
        (
            {"role": "eng", "capabilities": CAPABLE},
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
        ({"roles": ["a", "a"], "capabilities": CAPABLE}, "'FrameworkInfo.roles' contains duplicate items: { a }"),
        (
            {"roles": ["-x"], "capabilities": CAPABLE},
            "'FrameworkInfo.roles' contains invalid role: Role component '-x' is invalid because it starts with a dash",
        ),
    ],
)
def test_a_framework_that_is_refused_gets_one_error_and_the_last_chunk(info: Json, message: str) -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**PLAIN_INFO, **info})
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.head.status == 200
        assert scheduler.events == [{"type": "ERROR", "error": {"message": message}}]
        assert scheduler.ended == "last chunk"
        await scheduler.close()

    play(scene, 0)


def test_a_second_stream_takes_over() -> None:
    async def scene(cluster: Cluster) -> None:
        old = await subscribed(cluster)
        await old.next("OFFERS")
        new = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": old.id}})
        await old.until(lambda: old.ended is not None)
        assert old.events[-1] == {"type": "ERROR", "error": {"message": "Framework failed over"}}
        assert old.ended == "last chunk"
        assert (await old.call("REVIVE")).status == 400
        assert (new.id, cluster.framework().offers) == (old.id, {})
        assert (await new.call("REVIVE")).status == 202
        await new.next("OFFERS")
        await old.close()
        await new.close()

    play(scene)


def test_an_id_nobody_saw_is_accepted() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": "my-own"}})
        assert scheduler.id == "my-own"
        await scheduler.close()

    play(scene, 0)


def test_a_disconnected_framework_waits_for_its_failover_timeout() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        running = await scheduler.run(cluster)
        framework = cluster.framework()
        await scheduler.close()
        await turns(lambda: not framework.connected)
        reply = await scheduler.call("TEARDOWN")
        assert (reply.status, reply.body) == (403, "Framework is not subscribed")
        assert framework.offers == {}
        again = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}})
        assert (await again.reconcile("t-1"))["state"] == "TASK_RUNNING"
        assert (await again.reconcile("t-1"))["container_status"] == running["container_status"]
        await again.close()

    play(scene)


def test_unacknowledged_updates_come_again_at_once_after_resubscription() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true"))
        starting = await scheduler.status()
        await scheduler.close()
        assert cluster.unacknowledged() == ["t-1"]
        again = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}})
        assert await again.status() == starting
        for state in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"):
            assert starting["state"] == state
            await again.acknowledge(starting)
            starting = starting if state == "TASK_FINISHED" else await again.status()
        assert cluster.unacknowledged() == []
        assert cluster.framework().tasks == {}
        await again.close()

    play(scene)


@pytest.mark.parametrize("how", ["teardown", "timeout"])
def test_a_removed_framework_never_comes_back(how: str) -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "failover_timeout": 0.0})
        await scheduler.run(cluster)
        seen = len(scheduler.events)
        framework = cluster.framework()
        if how == "teardown":
            assert (await scheduler.call("TEARDOWN")).status == 202
            await scheduler.until(lambda: scheduler.ended is not None)
            assert (scheduler.ended, len(scheduler.events)) == ("last chunk", seen)
        await scheduler.close()
        await turns(lambda: not cluster.master.frameworks)
        assert [(task.id, task.state) for task in framework.completed_tasks] == [("t-1", "TASK_KILLED")]
        assert cluster.live_attempts("job") == {}
        assert cluster.teardowns == (1 if how == "teardown" else 0)
        assert (await scheduler.call("REVIVE")).body == "Framework cannot be found"
        again = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}})
        assert again.events == [{"type": "ERROR", "error": {"message": "Framework has been removed"}}]
        await again.close()

    play(scene)


# -- offers ------------------------------------------------------------------------------------------------------------


def test_filters_suppression_and_revival() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        master, framework = cluster.master, cluster.framework()

        async def decline(filters: Json | None = None) -> int:
            """Offers of the next round."""
            offer = first_offer(cluster)
            message: Json = {"offer_ids": [{"value": offer.id}]}
            await scheduler.call("DECLINE", decline=message if filters is None else {**message, "filters": filters})
            assert framework.offers == {}
            master.allocate()
            return len(framework.offers)

        assert await decline({"refuse_seconds": 0}) == 1
        for filters in (None, {"refuse_seconds": -1}, {"refuse_seconds": 5}):
            assert await decline(filters) == 0
            [[(until, _)]] = master.allocator.filters.values()
            assert 4000 < until - asyncio.get_running_loop().time() <= 5000
            await scheduler.call("REVIVE")
            assert len(framework.offers) == 1
        await scheduler.call("SUPPRESS")
        assert len(framework.offers) == 1
        assert await decline({"refuse_seconds": 0}) == 0
        await scheduler.call("REVIVE", revive={"roles": ["team"]})
        assert len(framework.offers) == 1
        await scheduler.call("SUPPRESS", suppress={"roles": ["nosuchrole"]})
        assert await decline({"refuse_seconds": 0}) == 1
        await scheduler.close()

    play(scene)


def test_a_filter_ends_and_holds_back_only_what_was_refused() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        framework = cluster.framework()
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "sleep 0"), filters={"refuse_seconds": 3600})
        cluster.master.allocate()
        assert framework.offers == {}
        for _ in range(3):
            await scheduler.acknowledge(await scheduler.status())
        cluster.master.allocate()
        [more] = framework.offers.values()
        assert more.amount.scalars == offer.amount.scalars
        await scheduler.call("DECLINE", decline={"offer_ids": [{"value": more.id}]})
        cluster.master.allocate()
        assert framework.offers == {}
        for refused in cluster.master.allocator.filters.values():
            refused[:] = [(asyncio.get_running_loop().time(), bundle) for _, bundle in refused]
        cluster.master.allocate()
        assert (len(framework.offers), cluster.master.allocator.filters) == (1, {})
        await scheduler.close()

    play(scene)


def test_gpu_agents_are_not_offered_to_frameworks_without_the_capability() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, PLAIN_INFO)
        await scheduler.next("OFFERS")
        assert first_offer(cluster).agent_id == cluster.agents[1].id
        assert list(cluster.unoffered()) == [cluster.agents[0].id]
        await scheduler.close()

    play(scene, [AgentSpec(gpus=2), AgentSpec()])


def test_roles_share_agents() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "roles": ["eng", "ops"]}, suppressed_roles=[])
        await scheduler.next("OFFERS")
        assert {offer.role for offer in cluster.framework().offers.values()} == {"eng", "ops"}
        other = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}}, suppressed_roles=["team"])
        cluster.master.allocate()
        assert cluster.framework().offers == {}
        await scheduler.close()
        await other.close()

    play(scene, 2)


def test_reserved_resources_are_offered_to_their_role_only() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        cluster.master.allocate()
        assert cluster.framework().offers == {}
        other = await subscribed(cluster, {**CAPABLE_INFO, "roles": ["eng"]})
        event = await other.next("OFFERS")
        roles = {each["role"] for each in event["offers"]["offers"][0]["resources"]}
        assert roles == {"eng"}
        await scheduler.close()
        await other.close()

    play(scene, [AgentSpec(role="eng")])


def test_offers_time_out() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offered = (await scheduler.next("OFFERS"))["offers"]["offers"][0]
        rescinded = await scheduler.next("RESCIND")
        assert rescinded == {"type": "RESCIND", "rescind": {"offer_id": offered["id"]}}
        await scheduler.launch([offered["id"]["value"]], offered["agent_id"]["value"], task("t-1"))
        assert (await scheduler.status())["reason"] == "REASON_INVALID_OFFERS"
        await scheduler.close()

    play(scene, timing=quick(offer_timeout=0.0))


# -- launching ---------------------------------------------------------------------------------------------------------


def test_a_task_from_launch_to_end() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        reply = await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true"))
        assert reply.status == 202
        states = []
        for _ in range(3):
            status = await scheduler.status()
            states.append((status["state"], status.get("message"), status["source"]))
            await scheduler.acknowledge(status)
        assert states == [
            ("TASK_STARTING", None, "SOURCE_EXECUTOR"),
            ("TASK_RUNNING", None, "SOURCE_EXECUTOR"),
            ("TASK_FINISHED", "Command exited with status 0", "SOURCE_EXECUTOR"),
        ]
        assert (await scheduler.reconcile("t-1", offer.agent_id))["state"] == "TASK_GONE"
        await scheduler.close()

    play(scene)


def refused_tasks() -> list[Any]:
    more = "cpus(allocated: team):2; mem(allocated: team):2048; disk(allocated: team):4096"
    available = f"more than available ports(allocated: team):[31000-31100]; {more}"
    other = {"allocation_info": {"role": "other"}}
    return [
        (
            task("t-1", cpus=100),
            "Total resources cpus(allocated: team):100; mem(allocated: team):32 required by task and its executor is "
            + available,
        ),
        (
            {**task("t-1"), "resources": [scalar("cpus", 0.1, **other), scalar("mem", 32, **other)]},
            "Total resources cpus(allocated: other):0.1; mem(allocated: other):32 required by task and its executor is "
            + available,
        ),
        (task("t/slash"), "'t/slash' contains invalid characters"),
        (task(""), "ID must not be empty"),
        (task("x" * 256), "ID must not be greater than 255 characters"),
        (task("t-1", agent_id={"value": "nobody"}), "Task uses invalid agent nobody while agent AGENT is expected"),
        (
            task("t-1", None),
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        ({**task("t-1"), "resources": []}, "Task uses no resources"),
        (task("t-1", cpus=-1), "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"),
        (
            {**task("t-1"), "resources": [scalar("gpus", 0.5)]},
            "Task uses invalid resources: Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer",
        ),
    ]


@pytest.mark.parametrize(("info", "message"), refused_tasks())
@pytest.mark.parametrize("aware", [True, False])
def test_a_task_that_is_refused(info: Json, message: str, aware: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "capabilities": capabilities})
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, info)
        status = await scheduler.status()
        assert list(status) == ["task_id", "state", "message", "source", "reason", "agent_id", "timestamp"]
        assert (status["state"], status["reason"]) == ("TASK_ERROR", "REASON_TASK_INVALID")
        assert status["message"] == message.replace("AGENT", offer.agent_id)
        assert cluster.framework().tasks == {}
        await scheduler.close()

    play(scene)


def test_earlier_tasks_use_up_the_offer_and_a_duplicate_id_is_no_end() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        infos = [task("t-1", cpus=1.5), task("t-2", cpus=1.5), task("t-1", cpus=0.1), task("t-3", cpus=0.5)]
        await scheduler.launch([offer.id], offer.agent_id, *infos)
        errors = [await scheduler.status() for _ in range(2)]
        assert [(each["task_id"]["value"], each["state"]) for each in errors] == [
            ("t-2", "TASK_ERROR"),
            ("t-1", "TASK_ERROR"),
        ]
        assert "cpus(allocated: team):0.5" in errors[0]["message"]
        assert errors[1]["message"] == "Task has duplicate ID: t-1"
        assert list(cluster.framework().tasks) == ["t-1", "t-3"]
        await scheduler.close()

    play(scene)


@pytest.mark.parametrize(("aware", "state"), [(True, "TASK_DROPPED"), (False, "TASK_LOST")])
def test_offers_that_are_not_valid(aware: bool, state: str) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "capabilities": capabilities})
        framework = cluster.framework()

        async def refused(offers: list[str], agent: str) -> str:
            await scheduler.launch(offers, agent, task("t-1"))
            status = await scheduler.status()
            assert (status["state"], status["reason"]) == (state, "REASON_INVALID_OFFERS")
            assert status["agent_id"]["value"] == agent
            return str(status["message"]).removeprefix("Task launched with invalid offers: ")

        first_offer(cluster)
        one, two = framework.offers.values()
        assert await refused(["zzz"], one.agent_id) == "Offer zzz is no longer valid"
        assert await refused([], one.agent_id) == "No offers specified"
        assert await refused([one.id, two.id], one.agent_id) == (
            "Aggregated offers must belong to one single agent."
            f" Offer {two.id} uses agent {two.agent_id} and agent {one.agent_id}"
        )
        assert framework.offers == {}
        again = first_offer(cluster)
        assert await refused([again.id, again.id], again.agent_id) == f"Duplicate offer {again.id} in offer list"
        assert await refused([again.id], again.agent_id) == f"Offer {again.id} is no longer valid"
        assert (
            await scheduler.call("ACCEPT", accept={"offer_ids": [{"value": "zzz"}], "operations": []})
        ).status == 202
        await scheduler.close()

    play(scene, 2)


def test_several_offers_of_one_agent_make_one_launch() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        framework = cluster.framework()
        offer = first_offer(cluster)
        now = {"refuse_seconds": 0}
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true", cpus=1.5), filters=now)
        cluster.master.allocate()
        for _ in range(3):
            await scheduler.acknowledge(await scheduler.status())
        cluster.master.allocate()
        assert sorted(each.amount.amount("cpus") for each in framework.offers.values()) == [500, 1500]
        await scheduler.launch(list(framework.offers), offer.agent_id, task("t-2", cpus=2))
        assert (await scheduler.status())["state"] == "TASK_STARTING"
        await scheduler.close()

    play(scene)


def test_a_group_starts_whole_or_not_at_all() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)

        async def launch(*tasks: Json) -> list[tuple[str, str]]:
            offer = first_offer(cluster)
            infos = [{"name": "t", "agent_id": {"value": offer.agent_id}, **each} for each in tasks]
            executor = {"type": "DEFAULT", "executor_id": {"value": "ex"}, "resources": [scalar("cpus", 0.1)]}
            group = {"executor": executor, "task_group": {"tasks": infos}}
            operations = [{"type": "LAUNCH_GROUP", "launch_group": group}]
            offers = [{"value": offer.id}]
            no_filter = {"refuse_seconds": 0}
            accept = {"offer_ids": offers, "operations": operations, "filters": no_filter}
            await scheduler.call("ACCEPT", accept=accept)
            statuses = [await scheduler.status() for _ in tasks]
            return sorted((each["task_id"]["value"], each["state"]) for each in statuses)

        assert await launch(task("p1"), task("p2", cpus=3)) == [("p1", "TASK_ERROR"), ("p2", "TASK_ERROR")]
        assert await launch(task("p3"), task("p4")) == [("p3", "TASK_STARTING"), ("p4", "TASK_STARTING")]
        await scheduler.close()

    play(scene)


# -- reconciliation and kill -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aware", [True, False])
def test_reconciliation(aware: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "capabilities": capabilities, "checkpoint": True})
        agent = cluster.agents[0].id
        await scheduler.run(cluster)

        async def asked(name: str, where: str | None = None) -> tuple[str, str]:
            status = await scheduler.reconcile(name, where)
            assert (status["source"], status["reason"]) == ("SOURCE_MASTER", "REASON_RECONCILIATION")
            assert "uuid" not in status
            return status["state"], str(status["message"]).removeprefix("Reconciliation: ")

        def lost(state: str) -> str:
            return state if aware else "TASK_LOST"

        for where in (agent, None, "nosuch-S9"):
            assert await asked("t-1", where) == ("TASK_RUNNING", "Latest task state")
        assert await asked("xx", agent) == (lost("TASK_GONE"), "Task is unknown to the agent")
        assert await asked("yy") == (lost("TASK_UNKNOWN"), "Task is unknown")
        assert await asked("zz", "nosuch-S9") == (lost("TASK_UNKNOWN"), "Task is unknown")
        await scheduler.call("RECONCILE", reconcile={"tasks": []})
        assert (await scheduler.status())["task_id"]["value"] == "t-1"
        cluster.agents[0].crash()
        await scheduler.next("FAILURE")
        assert (await scheduler.status())["state"] == lost("TASK_UNREACHABLE")
        await scheduler.call("RECONCILE", reconcile={"tasks": []})
        status = await scheduler.reconcile("t-1", agent)
        assert (status["state"], status["message"]) == (
            lost("TASK_UNREACHABLE"),
            "Reconciliation: Task is unreachable",
        )
        assert "unreachable_time" in status
        assert cluster.master.mark_gone(agent)
        assert await asked("t-1", agent) == (lost("TASK_GONE_BY_OPERATOR"), "Task is gone")
        await scheduler.close()

    play(scene, timing=quick(agent_ping_timeout=0.0))


def test_kill() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.run(cluster)

        async def kill(name: str, agent: str | None = None) -> Json:
            message: Json = {"task_id": {"value": name}}
            if agent is not None:
                message["agent_id"] = {"value": agent}
            assert (await scheduler.call("KILL", kill=message)).status == 202
            return await scheduler.status()

        killed = await kill("t-1")
        assert (killed["state"], killed["message"]) == ("TASK_KILLED", "Command terminated with signal Terminated")
        await scheduler.acknowledge(killed)
        agent = cluster.agents[0].id
        assert (await kill("t-1", agent))["state"] == "TASK_GONE"
        unknown = await kill("never")
        assert (unknown["state"], unknown["message"]) == ("TASK_UNKNOWN", "Reconciliation: Task is unknown")
        assert "agent_id" not in unknown
        await scheduler.close()

    play(scene)


# -- agents ------------------------------------------------------------------------------------------------------------


def agent_of(cluster: Cluster) -> Agent:
    return cluster.agents[0]


@pytest.mark.parametrize("aware", [True, False])
def test_an_agent_lost_and_back_with_checkpoint(aware: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        info = {**CAPABLE_INFO, "capabilities": capabilities, "checkpoint": True}
        scheduler = await subscribed(cluster, info)
        await scheduler.run(cluster)
        await scheduler.call("REVIVE")
        offer = first_offer(cluster)
        seen = len(scheduler.events)
        agent_of(cluster).crash()
        await scheduler.next("FAILURE")
        rescind, update, failure = scheduler.events[seen:]
        assert rescind == {"type": "RESCIND", "rescind": {"offer_id": {"value": offer.id}}}
        status = update["update"]["status"]
        assert status["state"] == ("TASK_UNREACHABLE" if aware else "TASK_LOST")
        assert (status["reason"], status["message"]) == ("REASON_AGENT_REMOVED", "health check timed out")
        assert "unreachable_time" in status
        assert failure == {"type": "FAILURE", "failure": {"agent_id": {"value": offer.agent_id}}}
        assert await scheduler.status() == status
        agent_of(cluster).restart()
        back = await scheduler.status()
        assert (back["state"], back["reason"], back["message"]) == (
            "TASK_RUNNING",
            "REASON_AGENT_REREGISTERED",
            "Unreachable agent re-reregistered",
        )
        assert "uuid" not in back
        assert list(cluster.framework().tasks) == ["t-1"]
        assert cluster.framework().unreachable_tasks == {}
        await scheduler.close()

    play(scene, timing=quick(agent_ping_timeout=0.01, agent_recovery=0.0))


def test_an_agent_back_in_time_says_nothing() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.run(cluster)
        agent = agent_of(cluster)
        agent.crash()
        record = cluster.master.agents[agent.id]
        agent.restart()
        await turns(lambda: record.connected)
        assert (await scheduler.reconcile("t-1"))["message"] == "Reconciliation: Latest task state"
        assert cluster.states() == {"TASK_RUNNING": 1}
        await scheduler.close()

    play(scene, timing=quick(agent_recovery=0.0))


def test_without_checkpoint_tasks_are_lost_at_once() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.run(cluster)
        agent_of(cluster).crash()
        status = await scheduler.status()
        assert (status["state"], status["reason"]) == ("TASK_LOST", "REASON_AGENT_DISCONNECTED")
        assert status["message"] == "Agent 127.0.0.1 disconnected"
        assert cluster.states() == {"TASK_LOST": 1}
        await scheduler.close()

    play(scene)


def test_a_graceful_end_gone_and_drained() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.next("OFFERS")
        offers = list(cluster.framework().offers.values())
        for number, offer in enumerate(offers):
            await scheduler.launch([offer.id], offer.agent_id, task(f"t-{number}"), filters={"refuse_seconds": 0})
        cluster.master.allocate()
        by_id = {agent.id: agent for agent in cluster.agents}
        seen = len(scheduler.events)
        by_id[offers[0].agent_id].shutdown_gracefully()
        assert cluster.master.mark_gone(offers[1].agent_id)
        assert not cluster.master.mark_gone("nobody")
        await scheduler.next("FAILURE")
        await scheduler.next("FAILURE")
        news = [event for event in scheduler.events[seen:] if event["type"] != "OFFERS"]
        ends = [event for event in news if "uuid" not in json.dumps(event)]
        assert [event["type"] for event in ends] == ["UPDATE", "RESCIND", "FAILURE"] * 2
        statuses = [event["update"]["status"] for event in ends if event["type"] == "UPDATE"]
        assert [(each["state"], each["reason"], each["message"]) for each in statuses] == [
            ("TASK_LOST", "REASON_AGENT_REMOVED", "Agent 127.0.0.1 removed: the agent unregistered"),
            ("TASK_GONE_BY_OPERATOR", "REASON_AGENT_REMOVED_BY_OPERATOR", "Agent has been marked gone"),
        ]
        last = offers[2].agent_id
        record = cluster.master.agents[last]
        assert cluster.master.drain(last, {"max_grace_period": {"seconds": 2}})
        assert (await scheduler.next("RESCIND"))["rescind"]
        while record.tasks:
            status = await scheduler.status()
            if "uuid" in status:
                await scheduler.acknowledge(status)
        assert record.draining is not None
        assert record.draining["state"] == "DRAINED"
        cluster.master.allocate()
        assert cluster.framework().offers == {}
        assert cluster.master.reactivate(last)
        cluster.master.allocate()
        assert len(cluster.framework().offers) == 1
        await scheduler.close()

    play(scene, 3)


# -- masters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [True, False])
def test_a_master_killed_and_started_again(persistent: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.run(cluster)
        agent, address = agent_of(cluster).id, cluster.address
        away = asyncio.create_task(cluster.fail_over(agents_after=0.5))
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.ended == "connection lost"
        await turns(lambda: cluster.master.ready)
        assert cluster.address == address
        assert (await scheduler.call("REVIVE")).body == "Framework cannot be found"
        again = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True, "id": {"value": scheduler.id}})
        assert again.id == scheduler.id
        await again.call(
            "RECONCILE", reconcile={"tasks": [{"task_id": {"value": "t-1"}, "agent_id": {"value": agent}}]}
        )
        await away
        if persistent:
            offers = await again.next("OFFERS")
            assert offers["offers"]["offers"][0]["agent_id"]["value"] == agent
            assert not any(event["type"] == "UPDATE" for event in again.events)
        else:
            assert (await again.status())["state"] == "TASK_UNKNOWN"
            back = await again.status()
            assert (back["state"], back["message"]) == ("TASK_RUNNING", "Unknown agent reregistered")
        assert (await again.reconcile("t-1"))["state"] == "TASK_RUNNING"
        await again.close()
        await scheduler.close()

    play(scene, persistent=persistent)


def test_a_master_that_recovers_says_503() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.timing.recovery = 1000.0
        away = asyncio.create_task(cluster.fail_over())
        await turns(lambda: cluster.master.recovering)
        reply = await ask(cluster.address, request(SUBSCRIBE))
        assert (reply.status, reply.body) == (503, "Master has not finished recovery")
        away.cancel()

    play(scene, 0)


def test_followers_redirect_to_the_leader_even_when_it_is_dead() -> None:
    async def scene(cluster: Cluster) -> None:
        first, second, third = cluster.addresses
        reply = await ask(second, request(b"not even JSON"))
        assert (reply.status, reply.body) == (307, "")
        assert reply.values["Location"] == f"//{first}/master/api/v1/scheduler"
        for address in (first, second):
            reply = await ask(address, request(method="GET", path="/redirect"))
            assert reply.values["Location"] == f"//{first}"
        away = asyncio.create_task(cluster.fail_over_to(1, election=0.2))
        await turns(lambda: not cluster.masters[0].leading)
        reply = await ask(third, request(SUBSCRIBE))
        assert reply.values["Location"] == f"//{first}/master/api/v1/scheduler"
        await away
        reply = await ask(third, request(SUBSCRIBE))
        assert reply.values["Location"] == f"//{second}/master/api/v1/scheduler"
        await cluster.revive(0)
        scheduler = await subscribed(cluster)
        assert (await scheduler.next("OFFERS"))["offers"]["offers"][0]["agent_id"]["value"] == agent_of(cluster).id
        assert cluster.address == second
        await scheduler.close()

    play(scene, masters=3)


def test_a_stalled_master_answers_when_it_goes_on() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.next("OFFERS")
        cluster.stall()
        waiting = asyncio.create_task(scheduler.call("SUPPRESS"))
        cluster.send_raw_event(b'{"type":"WHATEVER"}')
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        assert scheduler.events[-1]["type"] == "OFFERS"
        cluster.resume()
        assert (await waiting).status == 202
        await scheduler.next("WHATEVER")
        await scheduler.close()

    play(scene)


def test_streams_are_dropped_and_updates_disturbed() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.disturb_updates(duplicate=1.0, delay=(0.001, 0.002))
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true"))
        first, second = await scheduler.status(), await scheduler.status()
        assert first == second
        cluster.calm_updates()
        await scheduler.acknowledge(first)
        assert (await scheduler.status())["state"] == "TASK_RUNNING"
        cluster.drop_streams()
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.ended == "connection lost"
        await scheduler.close()

    play(scene)


def test_a_call_on_the_streams_own_connection_is_done() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        body = {"framework_id": {"value": scheduler.id}, "type": "SUPPRESS"}
        scheduler._writer.write(request(body, headers={"Mesos-Stream-Id": scheduler.head.values["Mesos-Stream-Id"]}))
        await turns(lambda: cluster.framework().suppressed)
        scheduler._reading.cancel()
        scheduler._writer.close()

    play(scene, 0)


def test_a_cluster_in_a_thread_of_its_own() -> None:
    with ClusterThread(lambda: Cluster(3, timing=quick())) as thread:
        assert thread.do(lambda cluster: len(cluster.master.agents)) == 3
        assert thread.address.startswith("127.0.0.1:")
        thread.do(lambda cluster: cluster.fail_over())
        assert thread.do(lambda cluster: sorted(cluster.unoffered()) == sorted(cluster.master.agents))
