"""The operator API of the double: what it tells of agents, frameworks and tasks, and its events."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.cluster import AgentSpec, Cluster
from tests.doubles.mesos.model import Json, Timing
from tests.doubles.mesos.recordio import Records

PATIENCE_S = 20.0
TIMING = Timing(recovery=0.0, first_offer=0.0, allocation_interval=0.01, heartbeat=3600.0, kill_grace=0.05)
INFO: Json = {
    "user": "root",
    "name": "ev",
    "roles": ["team"],
    "failover_timeout": 60.0,
    "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "GPU_RESOURCES"}],
}
AGENTS = [
    AgentSpec(gpus=2, attributes={"rack": "r1", "level": 3.0}),
    AgentSpec(ports=None),
]


class Stream:
    """Events, one after the other."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self.reply = reply
        self._pieces = reply.content.iter_any()
        self._records = Records()
        self._ready: Iterator[bytes] = iter(())
        self.seen: list[Json] = []
        self.offers: dict[str, Json] = {}
        """The latest of each agent."""

    async def next(self) -> Json:
        while True:
            for record in self._ready:
                self.seen.append(json.loads(record))
                for offer in self.seen[-1].get("offers", {}).get("offers", ()):
                    self.offers[offer["agent_id"]["value"]] = offer
                return self.seen[-1]
            self._ready = self._records.feed(await anext(self._pieces))

    async def until(self, kind: str, true: Callable[[Json], bool] = lambda event: True) -> Json:
        """The next event of this type for which it is true: what it carries."""
        while True:
            event = await asyncio.wait_for(self.next(), PATIENCE_S)
            content: Json = event.get(kind.lower(), {})
            if event["type"] == kind and true(content):
                return content


class Client:
    """An operator, and a framework that acknowledges everything."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self.cluster, self.session = cluster, session
        self.base = f"http://{cluster.address}"
        self.framework_id = ""
        self._stream_id = ""

    async def get(self, path: str) -> Any:
        async with self.session.get(self.base + path) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json()

    async def call(self, kind: str, **content: Any) -> tuple[int, Any]:
        body = {"type": kind, **({kind.lower(): content} if content else {})}
        async with self.session.post(self.base + "/api/v1", json=body) as reply:
            data = await reply.read()
            return reply.status, json.loads(data) if data[:1] == b"{" else data.decode()

    async def subscribe(self) -> Stream:
        return Stream(await self.session.post(self.base + "/api/v1", json={"type": "SUBSCRIBE"}))

    async def connect(self, **info: Any) -> Stream:
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {**INFO, **info}}}
        stream = Stream(await self.session.post(self.base + "/api/v1/scheduler", json=body))
        self._stream_id = stream.reply.headers["Mesos-Stream-Id"]
        self.framework_id = (await stream.until("SUBSCRIBED"))["framework_id"]["value"]
        return stream

    async def say(self, kind: str, **content: Any) -> None:
        body = {"framework_id": {"value": self.framework_id}, "type": kind, kind.lower(): content}
        headers = {"Mesos-Stream-Id": self._stream_id}
        async with self.session.post(self.base + "/api/v1/scheduler", json=body, headers=headers) as reply:
            assert reply.status == 202, await reply.text()

    async def launch(self, stream: Stream, task_id: str, command: str, agent: Agent, **more: Any) -> None:
        """Use an offer of this agent."""
        while agent.id not in stream.offers:
            await stream.until("OFFERS")
        offer = stream.offers.pop(agent.id)
        resources = [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
        ]
        ids = {"name": task_id, "task_id": {"value": task_id}, "agent_id": offer["agent_id"]}
        info = {**ids, "resources": resources, "command": {"shell": True, "value": command}, **more}
        operations = [{"type": "LAUNCH", "launch": {"task_infos": [info]}}]
        await self.say("ACCEPT", offer_ids=[offer["id"]], operations=operations)

    async def follow(self, stream: Stream, state: str) -> Json:
        """Acknowledge until there is this state: its status."""
        while True:
            status: Json = (await stream.until("UPDATE"))["status"]
            if "uuid" in status:
                keys = ("agent_id", "task_id", "uuid")
                await self.say("ACKNOWLEDGE", **{key: status[key] for key in keys})
            if status["state"] == state:
                return status


def play(scene: Callable[[Client], Awaitable[None]], **cluster: Any) -> None:
    """Run a scene with a cluster."""

    async def all_of_it() -> None:
        async with Cluster(AGENTS, timing=TIMING, **cluster) as made, aiohttp.ClientSession() as session:
            await asyncio.wait_for(scene(Client(made, session)), PATIENCE_S)

    asyncio.run(all_of_it())


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_come_as_recorded() -> None:
    async def scene(client: Client) -> None:
        events = await client.subscribe()
        assert (await events.next())["type"] == "SUBSCRIBED"
        assert (await events.next()) == {"type": "HEARTBEAT"}
        stream = await client.connect()
        await client.launch(stream, "t-ev", "sleep 100", client.cluster.agents[0])
        await client.follow(stream, "TASK_RUNNING")
        await client.say("KILL", task_id={"value": "t-ev"})
        await client.follow(stream, "TASK_KILLED")
        await client.say("TEARDOWN")
        await events.until("FRAMEWORK_REMOVED")
        assert [each["type"] for each in events.seen[2:]] == [
            *("FRAMEWORK_ADDED", "TASK_ADDED", "TASK_UPDATED", "TASK_UPDATED", "TASK_UPDATED", "FRAMEWORK_REMOVED")
        ]
        added, task, starting, running, killed, removed = (each[each["type"].lower()] for each in events.seen[2:])
        framework = added["framework"]
        assert list(framework) == [
            *("framework_info", "active", "connected", "recovered"),
            *("registered_time", "reregistered_time", "unregistered_time"),
        ]
        assert framework["active"] and framework["unregistered_time"] == {"nanoseconds": 0}
        assert list(framework["framework_info"]) == [
            *("user", "name", "id", "failover_timeout", "checkpoint", "roles", "capabilities")
        ]
        assert list(task["task"]) == ["name", "task_id", "framework_id", "agent_id", "state", "resources"]
        assert task["task"]["state"] == "TASK_STAGING"
        assert task["task"]["resources"][0] == {
            "name": "cpus",
            "type": "SCALAR",
            "scalar": {"value": 0.1},
            "allocation_info": {"role": "team"},
        }
        for update, state in ((starting, "STARTING"), (running, "RUNNING"), (killed, "KILLED")):
            assert list(update) == ["framework_id", "status", "state"]
            assert update["state"] == update["status"]["state"] == f"TASK_{state}"
        assert killed["status"]["message"] == "Command terminated with signal Terminated"
        assert removed["framework_info"]["id"] == framework["framework_info"]["id"]

    play(scene)


def test_a_subscriber_is_told_the_whole_state_first() -> None:
    async def scene(client: Client) -> None:
        stream = await client.connect()
        await client.launch(stream, "t", "sleep 100", client.cluster.agents[0])
        await client.follow(stream, "TASK_RUNNING")
        events = await client.subscribe()
        told = (await events.next())["subscribed"]
        assert told["heartbeat_interval_seconds"] == 3600.0
        state = told["get_state"]
        assert list(state) == ["get_tasks", "get_executors", "get_frameworks", "get_agents"]
        (task,) = state["get_tasks"]["tasks"]
        assert task["state"] == task["status_update_state"] == "TASK_RUNNING"
        assert task["status_update_uuid"] == task["statuses"][-1]["uuid"]
        assert len(state["get_agents"]["agents"]) == 2
        assert (await client.call("GET_STATE"))[1]["get_state"]["get_tasks"] == state["get_tasks"]

    play(scene)


def test_agents_that_come_and_go_are_events() -> None:
    async def scene(client: Client) -> None:
        events = await client.subscribe()
        await events.until("SUBSCRIBED")
        agent = await client.cluster.add_agent(AgentSpec(attributes={"rack": "new"}))
        added = (await events.until("AGENT_ADDED"))["agent"]
        assert added["agent_info"]["id"] == {"value": agent.id}
        assert added["agent_info"]["attributes"] == [{"name": "rack", "type": "TEXT", "text": {"value": "new"}}]
        agent.shutdown_gracefully()
        assert (await events.until("AGENT_REMOVED"))["agent_id"] == {"value": agent.id}

    play(scene)


def test_nobody_is_told_when_nobody_listens() -> None:
    async def scene(client: Client) -> None:
        first, second = await client.subscribe(), await client.subscribe()
        await first.next(), await second.next()
        observers = client.cluster.master.observers
        assert len(observers) == 1
        for stream in (first, second):
            stream.reply.close()
        while observers:  # noqa: ASYNC110 - the connection tells nobody here that it is closed
            await asyncio.sleep(0.002)

    play(scene)


# -- agents ----------------------------------------------------------------------------------------------------------

SLAVE = [
    *("id", "hostname", "port", "attributes", "pid", "registered_time", "resources", "used_resources"),
    *("offered_resources", "reserved_resources", "unreserved_resources", "active", "deactivated", "version"),
    *("capabilities", "reserved_resources_full", "unreserved_resources_full", "used_resources_full"),
    "offered_resources_full",
]


def test_slaves_show_what_is_used_and_offered() -> None:
    async def scene(client: Client) -> None:
        stream = await client.connect()
        agent = client.cluster.agents[0]
        await client.launch(stream, "t", "sleep 100", agent)
        await client.follow(stream, "TASK_RUNNING")
        (found,) = (await client.get(f"/slaves?slave_id={agent.id}"))["slaves"]
        assert list(found) == SLAVE
        assert found["attributes"] == {"rack": "r1", "level": 3.0}
        assert found["pid"] == f"slave(1)@127.0.0.1:{agent.port}" and found["active"] is True
        assert found["resources"] == {
            "disk": 4096.0,
            "mem": 2048.0,
            "gpus": 2.0,
            "cpus": 2.0,
            "ports": "[31000-31100]",
        }
        assert found["used_resources"] == {"disk": 0.0, "mem": 32.0, "gpus": 0.0, "cpus": 0.1}
        assert found["used_resources_full"][0]["allocation_info"] == {"role": "team"}
        other = (await client.get("/master/slaves"))["slaves"][1]
        assert other["offered_resources"] == {"disk": 4096.0, "mem": 2048.0, "gpus": 0.0, "cpus": 2.0}
        assert await client.get("/slaves?slave_id=none") == {"slaves": [], "recovered_slaves": []}

    play(scene)


def test_get_agents_tells_the_same_in_the_other_notation() -> None:
    async def scene(client: Client) -> None:
        stream = await client.connect()
        await stream.until("OFFERS")
        content = (await client.call("GET_AGENTS"))[1]["get_agents"]
        assert content["recovered_agents"] == []
        first = next(each for each in content["agents"] if "attributes" in each["agent_info"])
        assert list(first) == [
            *("agent_info", "active", "deactivated", "version", "pid", "registered_time"),
            *("total_resources", "offered_resources", "capabilities"),
        ]
        assert "role" not in first["agent_info"]["resources"][0] and first["total_resources"][0]["role"] == "*"
        assert first["offered_resources"][0]["allocation_info"] == {"role": "team"}

    play(scene)


def test_draining_ends_what_runs_and_is_shown() -> None:
    async def scene(client: Client) -> None:
        stream = await client.connect()
        agent = client.cluster.agents[0]
        await client.launch(stream, "t", "sleep 100", agent)
        await client.follow(stream, "TASK_RUNNING")
        grace = {"max_grace_period": {"nanoseconds": 2_000_000_000}}
        assert (await client.call("DRAIN_AGENT", agent_id={"value": agent.id}, **grace))[0] == 200
        status = await client.follow(stream, "TASK_KILLED")
        assert status["reason"] == "REASON_AGENT_DRAINING"
        (found,) = (await client.get(f"/slaves?slave_id={agent.id}"))["slaves"]
        config = {"max_grace_period": {"nanoseconds": 2_000_000_000}, "mark_gone": False}
        assert found["drain_info"] == {"state": "DRAINED", "config": config}
        assert (found["active"], found["deactivated"]) == (False, True)
        assert found["estimated_drain_start_time_seconds"] > 0
        listed = (await client.call("GET_AGENTS"))[1]["get_agents"]["agents"]
        (told,) = (each for each in listed if each["agent_info"]["id"]["value"] == agent.id)
        assert told["drain_info"]["state"] == "DRAINED" and "nanoseconds" in told["estimated_drain_start_time"]
        assert (await client.call("REACTIVATE_AGENT", agent_id={"value": agent.id}))[0] == 200
        (found,) = (await client.get(f"/slaves?slave_id={agent.id}"))["slaves"]
        assert "drain_info" not in found and found["active"] is True

    play(scene)


def test_an_agent_that_is_deactivated_or_gone_is_shown_so() -> None:
    async def scene(client: Client) -> None:
        one, other = client.cluster.agents
        assert (await client.call("DEACTIVATE_AGENT", agent_id={"value": one.id}))[0] == 200
        assert (await client.call("MARK_AGENT_GONE", agent_id={"value": other.id}))[0] == 200
        (found,) = (await client.get("/slaves"))["slaves"]
        assert (found["id"], found["active"], found["deactivated"]) == (one.id, False, True)
        assert other.removed and not other.alive
        status, text = await client.call("DEACTIVATE_AGENT", agent_id={"value": "nobody"})
        assert (status, text) == (400, "Agent nobody not found")

    play(scene)


# -- frameworks, tasks, roles ----------------------------------------------------------------------------------------


def test_tasks_are_listed_newest_first_and_can_be_chosen() -> None:
    async def scene(client: Client) -> None:
        stream = await client.connect()
        labels = {"labels": [{"key": "k", "value": "v"}]}
        await client.launch(stream, "one", "exit 3", client.cluster.agents[0], labels=labels)
        await client.follow(stream, "TASK_FAILED")
        await client.launch(stream, "two", "sleep 100", client.cluster.agents[1])
        await client.follow(stream, "TASK_RUNNING")
        assert [each["id"] for each in (await client.get("/tasks"))["tasks"]] == ["two", "one"]
        (first,) = (await client.get("/tasks?limit=1&order=asc"))["tasks"]
        assert list(first) == [
            *("id", "name", "framework_id", "executor_id", "slave_id", "state", "resources", "role"),
            *("statuses", "labels"),
        ]
        assert (first["id"], first["state"], first["executor_id"]) == ("one", "TASK_FAILED", "")
        assert list(first["statuses"][-1]) == ["state", "timestamp", "container_status"]
        assert "executor_pid" not in first["statuses"][-1]["container_status"]
        assert [each["id"] for each in (await client.get("/tasks?task_id=two"))["tasks"]] == ["two"]
        assert await client.get("/tasks?framework_id=none") == {"tasks": []}
        (framework,) = (await client.get("/frameworks"))["frameworks"]
        assert [each["id"] for each in framework["tasks"]] == ["two"]
        assert [each["id"] for each in framework["completed_tasks"]] == ["one"]
        assert framework["roles"] == ["team"] and framework["connected"] is True
        summary = await client.get("/state-summary")
        assert summary["frameworks"][0]["TASK_RUNNING"] == 1 and summary["frameworks"][0]["TASK_FAILED"] == 1
        assert [each["TASK_RUNNING"] for each in summary["slaves"]] == [0, 1]
        (role,) = (await client.get("/roles"))["roles"]
        assert role["name"] == "team" and role["allocated"] == {"cpus": 0.1, "mem": 32.0}
        assert role["frameworks"] == [client.framework_id]
        (told,) = (await client.call("GET_FRAMEWORKS"))[1]["get_frameworks"]["frameworks"]
        assert told["allocated_resources"][0]["scalar"] == {"value": 0.1}

    play(scene)


def test_the_state_has_all_keys_of_a_real_one() -> None:
    async def scene(client: Client) -> None:
        await client.connect(labels={"labels": [{"key": "a", "value": "b"}]})
        state = await client.get("/state")
        assert list(state) == [
            *("version", "build_date", "build_time", "build_user", "start_time", "elected_time", "id", "pid"),
            *("hostname", "capabilities", "activated_slaves", "deactivated_slaves", "unreachable_slaves", "leader"),
            *("leader_info", "flags", "slaves", "recovered_slaves", "frameworks", "completed_frameworks"),
            *("orphan_tasks", "unregistered_frameworks"),
        ]
        assert list(state["frameworks"][0]) == [
            *("id", "name", "used_resources", "offered_resources", "capabilities", "hostname", "webui_url", "active"),
            *("connected", "recovered", "user", "failover_timeout", "checkpoint", "registered_time"),
            *("unregistered_time", "resources", "roles", "tasks", "unreachable_tasks", "completed_tasks", "offers"),
            *("executors", "labels", "offer_constraints"),
        ]
        assert state["activated_slaves"] == 2.0
        assert [name for name in SLAVE if name not in state["slaves"][0]] == [
            *("reserved_resources_full", "unreserved_resources_full", "used_resources_full", "offered_resources_full")
        ]

    play(scene)


# -- HTTP ------------------------------------------------------------------------------------------------------------


def test_documents_can_be_padded_compressed_and_asked_for_by_any_method() -> None:
    async def scene(client: Client) -> None:
        plain = {"Accept-Encoding": "identity"}
        async with client.session.get(client.base + "/slaves?jsonp=cb", headers=plain) as reply:
            body = await reply.read()
            assert reply.headers["Content-Type"] == "text/javascript"
            assert body.startswith(b'cb({"slaves":') and body.endswith(b"})")
        async with client.session.post(client.base + "/slaves", headers=plain) as reply:
            whole = await reply.read()
        head = b"HEAD /slaves HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for request in (head, head.replace(b"Host: x", b"Host: x\r\nAccept-Encoding: gzip")):
            reader, writer = await asyncio.open_connection(*client.cluster.address.split(":"))
            writer.write(request)
            answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert b"Server" not in answer and answer.splitlines()[1].startswith(b"Date: ")
            packed = b"Content-Encoding: gzip" in answer
            assert packed == (request is not head)
            assert json.loads(gzip.decompress(body) if packed else body) == json.loads(whole)
            writer.close()

    play(scene)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/health", 200, ""),
        ("/state.json", 404, "404 Not Found."),
        ("/files/read?path=/x&offset=0", 404, ""),
        ("/files/browse", 400, "Expecting 'path=value' in query.\n"),
        ("/quota", 200, "{}"),
        ("/weights", 200, "[]"),
        ("/maintenance/status", 200, "{}"),
    ],
)
def test_small_answers(path: str, status: int, body: str) -> None:
    async def scene(client: Client) -> None:
        for prefix in ("", "/master"):
            async with client.session.get(client.base + prefix + path) as reply:
                assert (reply.status, await reply.text()) == (status, body)

    play(scene)


CALLS: dict[str, tuple[dict[str, Any], int, Any]] = {
    "GET_HEALTH": ({}, 200, {"type": "GET_HEALTH", "get_health": {"healthy": True}}),
    "GET_WEIGHTS": ({}, 200, {"type": "GET_WEIGHTS"}),
    "GET_EXECUTORS": ({}, 200, {"type": "GET_EXECUTORS", "get_executors": {"executors": []}}),
    "GET_QUOTA": ({}, 200, {"type": "GET_QUOTA", "get_quota": {"status": {}}}),
    "GET_METRICS": ({}, 400, "Failed to validate master::Call: Expecting 'get_metrics' to be present"),
    "LIST_FILES": ({}, 400, "Failed to validate master::Call: Expecting 'list_files' to be present"),
    "NOSUCH": ({}, 400, "Failed to validate master::Call: Expecting 'type' to be present"),
    "TEARDOWN": ({"framework_id": {"value": "nobody"}}, 400, "No framework found with specified ID"),
}


def test_calls_answer_as_recorded() -> None:
    async def scene(client: Client) -> None:
        for kind, (content, status, body) in CALLS.items():
            assert await client.call(kind, **content) == (status, body), kind
        info = (await client.call("GET_MASTER"))[1]["get_master"]["master_info"]
        assert info["address"]["port"] == client.cluster.master.port
        metrics = (await client.call("GET_METRICS", timeout={"nanoseconds": 1}))[1]["get_metrics"]["metrics"]
        assert {"name": "master/slaves_active", "value": 2.0} in metrics
        assert (await client.get("/metrics/snapshot"))["master/cpus_total"] == 4.0
        url = client.base + "/api/v1"
        async with client.session.get(url) as reply:
            assert reply.status == 405
        async with client.session.post(url, data=b"[]", headers={"Content-Type": "application/json"}) as reply:
            assert await reply.text() == "Failed to convert JSON into Call protobuf: Expecting a JSON object"
        async with client.session.post(url, data=b"x", headers={"Content-Type": "text/plain"}) as reply:
            assert reply.status == 415

    play(scene)


def test_teardown_by_an_operator() -> None:
    async def scene(client: Client) -> None:
        stream = await client.connect()
        await stream.until("OFFERS")
        url = client.base + "/master/teardown"
        async with client.session.post(url, data={"frameworkId": client.framework_id}) as reply:
            assert (reply.status, await reply.text()) == (200, "")
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await asyncio.wait_for(stream.next(), PATIENCE_S)
        async with client.session.post(url, data={"frameworkId": "nobody"}) as reply:
            assert (reply.status, await reply.text()) == (400, "No framework found with specified ID")
        frameworks = await client.get("/frameworks")
        assert [each["id"] for each in frameworks["completed_frameworks"]] == [client.framework_id]

    play(scene)


def test_secrets_are_asked_for() -> None:
    async def scene(client: Client) -> None:
        async with client.session.get(client.base + "/state") as reply:
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"] == 'Basic realm="mesos-master-readonly"'
        status, text = await client.call("GET_AGENTS")
        assert (status, text) == (401, "401 Unauthorized.")

    play(scene, credentials={"ops": "secret"})
