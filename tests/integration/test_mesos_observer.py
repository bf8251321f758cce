"""The observer against the double of a cluster: agents, what is held on them, usage, GPUs, and all that fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from retz.engine.mesos import operator_stream, rounds, wire
from retz.engine.mesos.agents import BY_INDEX, NO_TELEMETRY, AgentTable
from retz.engine.mesos.observer import Observer
from retz.engine.mesos.operator_stream import Records
from retz.model.agent import Agent as Shown
from retz.model.agent import Gpu
from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.cluster import AgentSpec, Cluster
from tests.doubles.mesos.executor import Behaviour
from tests.doubles.mesos.exporter import Exporter
from tests.doubles.mesos.model import Timing

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0
QUICK = Timing(
    allocation_interval=0.05, agent_ping_timeout=0.1, max_agent_ping_timeouts=2, recovery=0.0, agent_recovery=0.0
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_stream, "RETRY_MIN_S", 0.02)
    monkeypatch.setattr(operator_stream, "RETRY_MAX_S", 0.1)


def observe(master: str, framework: str = "", **more: Any) -> wire.Observe:
    settings: dict[str, Any] = {
        "principal": None, "secret": None, "poll_s": 0.05, "sample_s": 0.05, "exporter": None, **more,
    }  # fmt: skip
    return wire.Observe(master, framework, **settings)


class Server:
    """The server's half: takes what the observer says, as the engine does."""

    def __init__(self, *, telemetry: bool = False) -> None:
        self.observer = Observer()
        self.table = AgentTable(telemetry=telemetry)
        self.samples: list[wire.Sample] = []
        self.trouble = ""
        self.anew = 0

    def pump(self) -> None:
        for message in self.observer.news():
            if isinstance(message, wire.Samples):
                self.samples += message.samples
            elif isinstance(message, wire.Trouble):
                self.trouble = message.why
            elif isinstance(message, wire.Agents | wire.AgentsGone | wire.Telemetry):
                self.anew += isinstance(message, wire.Agents) and message.anew
                self.table.apply(message)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)
                self.pump()

    def agent(self, agent: Agent) -> Shown:
        found = self.table.get(agent.id)
        assert found is not None, "not known"
        return found

    def state(self, agent: Agent) -> str:
        found = self.table.get(agent.id)
        return "" if found is None else found.state


@asynccontextmanager
async def looking(message: wire.Observe, *, telemetry: bool = False) -> AsyncIterator[Server]:
    server = Server(telemetry=telemetry)
    server.observer.take(message)
    try:
        yield server
    finally:
        await server.observer.close()


class Scheduler:
    """The least framework that runs something: it acknowledges what it is told."""

    def __init__(self, session: aiohttp.ClientSession, cluster: Cluster) -> None:
        self._session, self._cluster = session, cluster
        self.id = self._stream_id = ""
        self.offers: dict[str, str] = {}

    async def run(self, name: str, begun: asyncio.Event) -> None:
        capabilities = [{"type": kind} for kind in ("PARTITION_AWARE", "GPU_RESOURCES")]
        info = {"user": "", "name": name, "checkpoint": True, "failover_timeout": 60, "capabilities": capabilities}
        async with self._post({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}) as response:
            self._stream_id = response.headers["Mesos-Stream-Id"]
            cutter = Records()
            async for data in response.content.iter_any():
                for record in cutter.feed(data):
                    await self._take(json.loads(record))
                    if self.id:
                        begun.set()

    async def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "SUBSCRIBED":
            self.id = event["subscribed"]["framework_id"]["value"]
        for offer in event.get("offers", {}).get("offers", ()):
            self.offers[offer["agent_id"]["value"]] = offer["id"]["value"]
        status = event.get("update", {}).get("status", {})
        if "uuid" in status:
            wanted = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
            await self.call("ACKNOWLEDGE", acknowledge=wanted)

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Mesos-Stream-Id": self._stream_id}
        if body["type"] == "SUBSCRIBE":
            del headers["Mesos-Stream-Id"]
        url = f"http://{self._cluster.address}/api/v1/scheduler"
        return self._session.post(url, data=json.dumps(body), headers=headers)

    async def call(self, kind: str, **content: Any) -> None:
        async with self._post({"type": kind, "framework_id": {"value": self.id}, **content}) as response:
            assert response.status == 202, await response.text()

    async def launch(self, server: Server, agent: Agent, *tasks: str, command: str = "sleep 1000") -> None:
        """Run tasks of half a processor and 32 MB once the agent is offered."""
        await server.until(lambda: agent.id in self.offers)
        resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (("cpus", 0.5), ("mem", 32))
        ]
        infos = [
            {
                "name": task,
                "task_id": {"value": task},
                "agent_id": {"value": agent.id},
                "resources": resources,
                "command": {"value": command},
            }
            for task in tasks
        ]
        operation = {"type": "LAUNCH", "launch": {"task_infos": infos}}
        offers = [{"value": self.offers.pop(agent.id)}]
        accept = {"offer_ids": offers, "operations": [operation], "filters": {"refuse_seconds": 1000}}
        await self.call("ACCEPT", accept=accept)

    async def kill(self, task: str) -> None:
        await self.call("KILL", kill={"task_id": {"value": task}})


@asynccontextmanager
async def scheduler(cluster: Cluster, name: str) -> AsyncIterator[Scheduler]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        framework, begun = Scheduler(session, cluster), asyncio.Event()
        running = asyncio.create_task(framework.run(name, begun))
        try:
            await asyncio.wait_for(begun.wait(), PATIENCE_S)
            yield framework
        finally:
            running.cancel()
            await asyncio.wait([running])


# -- agents and what is held on them -----------------------------------------------------------------------------


async def test_what_we_and_others_hold_is_known_at_once() -> None:
    async with (
        Cluster(2, timing=QUICK) as cluster,
        scheduler(cluster, "us") as us,
        looking(observe(cluster.address, us.id, poll_s=1000.0)) as server,
    ):
        one, two = cluster.agents
        await server.until(lambda: len(server.table.agents()) == 2)
        await us.launch(server, one, "1.1", "2.1")
        async with scheduler(cluster, "them") as them:
            await them.call("REVIVE")
            await us.call("DECLINE", decline={"offer_ids": [{"value": us.offers[two.id]}]})
            await them.launch(server, two, "t1", "t2", "t3")
            await server.until(lambda: server.agent(two).others.cpus == 1.5)
        assert server.agent(one).others.cpus == 0, "what is ours is not others'"
        assert server.table.url(one.id) == f"http://{one.ip}:{one.port}{one.path}"
        assert (server.agent(one).total.cpus, server.agent(one).total.ports) == (2.0, 101)


async def test_ends_free_what_was_held() -> None:
    async with (
        Cluster(1, timing=QUICK) as cluster,
        scheduler(cluster, "them") as them,
        looking(observe(cluster.address, "another", poll_s=1000.0)) as server,
    ):
        (agent,) = cluster.agents
        await server.until(server.table.agents)
        await them.launch(server, agent, "a", "b")
        await server.until(lambda: server.agent(agent).others.cpus == 1.0)
        await them.kill("a")
        await server.until(lambda: server.agent(agent).others.cpus == 0.5)


async def test_what_is_on_offer_is_seen_by_and_by() -> None:
    async with Cluster(1, timing=QUICK) as cluster, looking(observe(cluster.address)) as server:
        (agent,) = cluster.agents
        await server.until(server.table.agents)
        assert server.agent(agent).offered.cpus == 0
        async with scheduler(cluster, "us"):
            await server.until(lambda: server.agent(agent).offered.cpus == 2.0)


async def test_states_of_an_agent() -> None:
    async with Cluster(1, timing=QUICK) as cluster, looking(observe(cluster.address)) as server:
        (agent,) = cluster.agents
        await server.until(lambda: server.state(agent) == "active")
        cluster.master.deactivate(agent.id)
        await server.until(lambda: server.state(agent) == "deactivated")
        cluster.master.reactivate(agent.id)
        await server.until(lambda: server.state(agent) == "active")
        agent.crash()
        await server.until(lambda: server.state(agent) == "unreachable")
        agent.restart()
        await server.until(lambda: server.state(agent) == "active")


async def test_a_draining_agent() -> None:
    slow = Timing(allocation_interval=0.05, kill_grace=1000.0)
    behaviour = Behaviour(seconds=None)
    async with (
        Cluster(1, timing=slow, pretend=lambda _: behaviour) as cluster,
        scheduler(cluster, "us") as us,
        looking(observe(cluster.address, us.id)) as server,
    ):
        (agent,) = cluster.agents
        await us.launch(server, agent, "1.1")
        await server.until(lambda: cluster.states()["TASK_RUNNING"])
        cluster.master.drain(agent.id, {})
        await server.until(lambda: server.state(agent) in ("draining", "deactivated"))
        await server.until(lambda: server.state(agent) == "deactivated")


async def test_an_unreachable_agent_stays_and_one_that_left_does_not() -> None:
    async with Cluster(2, timing=QUICK) as cluster, looking(observe(cluster.address)) as server:
        lost, left = cluster.agents
        await server.until(lambda: len(server.table.agents()) == 2)
        lost_id, left_id = lost.id, left.id
        lost.lose()
        await server.until(lambda: lost_id in cluster.master.unreachable and server.state(lost) == "unreachable")
        lost.find()
        await server.until(lambda: server.state(lost) == "active")
        left.shutdown_gracefully()
        await server.until(lambda: server.table.get(left_id) is None)
        assert server.table.get(lost_id) is not None


async def test_another_master_leads() -> None:
    async with (
        Cluster(1, masters=2, timing=QUICK) as cluster,
        looking(observe(cluster.addresses[1], poll_s=1000.0)) as server,
    ):
        (agent,) = cluster.agents
        await server.until(lambda: server.state(agent) == "active")
        await cluster.fail_over_to(1, election=0.2)
        await server.until(lambda: server.anew == 2 and server.state(agent) == "active")
        assert server.trouble == ""


async def test_the_master_is_away_for_a_while() -> None:
    async with Cluster(1, timing=QUICK) as cluster, looking(observe(cluster.address)) as server:
        (agent,) = cluster.agents
        await server.until(lambda: server.state(agent) == "active")
        returning = asyncio.create_task(cluster.fail_over(0.5))
        await server.until(lambda: "cannot observe the Mesos master" in server.trouble)
        assert server.state(agent) == "active", "nobody said otherwise"
        await returning
        await server.until(lambda: server.trouble == "" and server.anew == 2)


async def test_credentials() -> None:
    async with (
        Cluster(1, timing=QUICK, credentials={"us": "secret"}) as cluster,
        looking(observe(cluster.address)) as server,
    ):
        await server.until(lambda: "retz.mesos.secret-file" in server.trouble)
        assert "(401)" in server.trouble
        server.observer.take(observe(cluster.address, principal="us", secret="secret"))
        await server.until(lambda: server.table.agents() and server.trouble == "")


async def test_saying_the_same_again_changes_nothing() -> None:
    async with Cluster(1, timing=QUICK) as cluster, looking(observe(cluster.address)) as server:
        await server.until(server.table.agents)
        server.observer.take(observe(cluster.address))
        cluster.master.deactivate(cluster.agents[0].id)
        await server.until(lambda: server.state(cluster.agents[0]) == "deactivated")
        assert server.anew == 1


# -- usage and GPUs ------------------------------------------------------------------------------------------------


def watch(server: Server, *agents: Agent) -> None:
    urls = {agent.id: url for agent in agents if (url := server.table.url(agent.id)) is not None}
    assert len(urls) == len(agents)
    server.observer.take(wire.Watch(urls, []))


async def test_usage_of_our_tasks() -> None:
    behaviour = Behaviour(seconds=None, cpus=2.0, rss=64 << 20)
    async with (
        Cluster(1, timing=QUICK, pretend=lambda _: behaviour) as cluster,
        scheduler(cluster, "them") as them,
        scheduler(cluster, "us") as us,
        looking(observe(cluster.address, us.id)) as server,
    ):
        (agent,) = cluster.agents
        await them.launch(server, agent, "strange")
        await us.launch(server, agent, "1.1")
        await server.until(server.table.agents)
        watch(server, agent)
        await server.until(lambda: len(server.samples) > 3)
        assert {sample.task for sample in server.samples} == {"1.1"}
        first, last = server.samples[0], server.samples[-1]
        assert last.at > first.at and last.cpu_s > first.cpu_s
        assert last.rss_mb >= 64
        server.observer.take(wire.Watch({}, [agent.id]))
        server.pump()


async def test_a_slow_agent_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "AT_A_TIME", 1)
    behaviour = Behaviour(seconds=None)
    async with (
        Cluster(3, timing=QUICK, pretend=lambda _: behaviour) as cluster,
        scheduler(cluster, "us") as us,
        looking(observe(cluster.address, us.id)) as server,
    ):
        for number, agent in enumerate(cluster.agents):
            await us.launch(server, agent, f"{number}.1")
        await server.until(lambda: len(server.table.agents()) == 3)
        cluster.agents[0].slow(1.0)
        monkeypatch.setattr(rounds.Rounds.__init__, "__kwdefaults__", {"timeout_s": 0.2})
        server.observer.take(observe(cluster.address, us.id, poll_s=1000.0))
        watch(server, *cluster.agents)
        await server.until(lambda: [s.task for s in server.samples].count("2.1") > 5)
        assert "0.1" not in {sample.task for sample in server.samples}
        assert server.trouble == ""
        for agent in cluster.agents:
            agent.slow(1.0)
        await server.until(lambda: "none of 3 agents answers" in server.trouble)
        for agent in cluster.agents:
            agent.slow(0.0)
        await server.until(lambda: server.trouble == "" and "0.1" in {sample.task for sample in server.samples})


async def test_agents_that_do_not_know_us() -> None:
    async with (
        Cluster(1, timing=QUICK, agent_credentials=("us", "secret")) as cluster,
        looking(observe(cluster.address, "f")) as server,
    ):
        await server.until(server.table.agents)
        watch(server, *cluster.agents)
        await server.until(lambda: "retz.mesos.secret-file" in server.trouble)
        assert server.trouble.startswith("the agent does not answer when asked for the use of their tasks: the agent")


async def test_gpus_without_an_exporter() -> None:
    async with (
        Cluster([AgentSpec(gpus=2.0)], timing=QUICK) as cluster,
        looking(observe(cluster.address)) as server,
    ):
        await server.until(server.table.agents)
        (agent,) = server.table.agents()
        assert [(gpu.uuid, gpu.note) for gpu in agent.gpus] == [
            (f"{agent.id}/gpu0", NO_TELEMETRY),
            (f"{agent.id}/gpu1", NO_TELEMETRY),
        ]


async def test_gpus_with_an_exporter() -> None:
    exporter = Exporter("127.0.0.1", 2)
    port = await exporter.listen("127.0.0.1", 0)
    try:
        async with (
            Cluster([AgentSpec(gpus=2.0), AgentSpec()], timing=QUICK) as cluster,
            looking(observe(cluster.address, exporter=f"http://{{host}}:{port}/metrics"), telemetry=True) as server,
        ):

            def gpus() -> tuple[Gpu, ...]:
                return server.agent(cluster.agents[0]).gpus

            await server.until(server.table.agents)
            await server.until(lambda: gpus()[1].util == 0)
            assert (gpus()[1].note, gpus()[1].mem_mb, gpus()[1].model) == (BY_INDEX, 143_771, "NVIDIA H200")
            idle_since = gpus()[1].idle_since
            assert idle_since is not None
            exporter.gpus[0].work(True)
            await server.until(lambda: gpus()[0].util == 87)
            assert (gpus()[0].idle_since, gpus()[1].idle_since) == (None, idle_since)
            exporter.vanish()
            await server.until(lambda: "does not answer" in gpus()[0].note)
            assert gpus()[0].util is None
            await exporter.listen("127.0.0.1", port)
            await server.until(lambda: gpus()[0].util == 87)
    finally:
        await exporter.close()


# -- masters that behave badly ---------------------------------------------------------------------------------------


@asynccontextmanager
async def scripted(answers: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that answers every request as it likes; gives its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answers(writer)
            await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the observer went away: that is its right
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()


def chunked(*records: bytes) -> bytes:
    framed = [b"%d\n%s" % (len(record), record) for record in records]
    return b"".join(b"%x\r\n%s\r\n" % (len(record), record) for record in framed)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def subscribed(heartbeat: float = 15.0) -> bytes:
    return msgspec.json.encode(
        {"type": "SUBSCRIBED", "subscribed": {"get_state": {}, "heartbeat_interval_seconds": heartbeat}}
    )


def added(agent_id: str) -> bytes:
    agent = {"agent_info": {"id": {"value": agent_id}, "hostname": "n1"}, "pid": "slave(1)@n1:5051"}
    return msgspec.json.encode({"type": "AGENT_ADDED", "agent_added": {"agent": agent}})


async def test_events_that_nobody_understands_are_ignored() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        odd = (b"{}", b'{"type":"NEW","new":{"agent":3}}', b'{"type":"TASK_ADDED","task_added":{"task":7}}', b"\xff")
        writer.write(HEAD + chunked(b'{"type":"HEARTBEAT"}', subscribed(), *odd, added("a")))

    async with scripted(answer) as address, looking(observe(address, poll_s=1000.0)) as server:
        await server.until(lambda: server.table.get("a"))
        assert (server.anew, server.trouble) == (1, "")


async def test_a_silent_master_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_stream, "HEARTBEATS", 0.1)
    connections: list[asyncio.StreamWriter] = []

    async def answer(writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(HEAD + chunked(subscribed(0.1), added(f"a{len(connections)}")))

    async with scripted(answer) as address, looking(observe(address, poll_s=1000.0)) as server:
        await server.until(lambda: server.table.get("a3"))
        assert server.anew >= 3


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "does not let us look (403)"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nnot", "is not ready yet (503: not)"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n404.", "answers 404: 404."),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "cannot observe the Mesos master"),
        (HEAD + b"5\r\nhello\r\n0\r\n\r\n", "the stream ended"),
        (HEAD + b"20\r\nthis is a page, no length of 32 \r\n", "cannot observe the Mesos master"),
        (HEAD + chunked(b'{"type":"SUBSCRIBED","subscribed":[]}'), "cannot observe the Mesos master"),
        (
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: //127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n",
            "cannot observe",
        ),
    ],
)
async def test_what_is_wrong_with_the_master_is_told(reply: bytes, said: str) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with scripted(answer) as address, looking(observe(address)) as server:
        await server.until(lambda: said in server.trouble)


async def test_masters_that_send_us_round_in_circles() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 307 Temporary Redirect\r\nConnection: close\r\nLocation: //{address}/master/api/v1\r\n"
        writer.write(head.encode() + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with scripted(answer) as address, looking(observe(address)) as server:
        await server.until(lambda: "from one to the other and back" in server.trouble)


# -- the process -----------------------------------------------------------------------------------------------------


class Child:
    """The observer as the server starts it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[Any] = []
        self._frames = wire.Frames()
        self._decode = msgspec.msgpack.Decoder(wire.FromObserver).decode

    def send(self, *messages: wire.Message) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(wire.frame(messages))

    async def heard(self, kind: type[wire.Message]) -> Any:
        """Wait for a message of a kind."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [message for message in self.said if isinstance(message, kind)]):
                data = await self.process.stdout.read(1 << 16)
                assert data, "it has ended"
                self._frames.feed(data)
                while (body := self._frames.next()) is not None:
                    self.said.append(self._decode(body))
        return found[0]

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "retz.engine.mesos.observer",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    yield Child(process)
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_the_child_tells_what_it_sees_and_ends_with_its_input(child: Child) -> None:
    async with Cluster(1, timing=QUICK) as cluster:
        child.send(observe(cluster.address, poll_s=1000.0))
        await child.heard(wire.Alive)
        agents = await child.heard(wire.Agents)
        assert (agents.anew, [seen.id for seen in agents.agents]) == (True, [cluster.agents[0].id])
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child.process.pid, number)
        cluster.agents[0].crash()
        cluster.master.deactivate(cluster.agents[0].id)
        child.send(observe(cluster.address, poll_s=0.05))
        child.said.clear()
        await child.heard(wire.Agents)
        cluster.stall()
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert await child.ended() == 0


async def test_the_child_ends_when_told(child: Child) -> None:
    child.send(wire.Stop())
    assert await child.ended() == 0


async def test_the_child_ends_when_it_does_not_understand(child: Child) -> None:
    assert child.process.stdin is not None
    child.process.stdin.write(b"\x00\x00\x00\x03abc")
    assert await child.ended() == 1


async def test_the_child_ends_when_nobody_reads(child: Child) -> None:
    transport = child.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    transport.close()
    assert await child.ended() == 0
