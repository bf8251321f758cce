"""The double's agents: what becomes of tasks, their updates and files, and what happens when agents fail."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.doubles.mesos import processes
from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.agent_api import AgentEndpoints
from tests.doubles.mesos.executor import Behaviour, by_command
from tests.doubles.mesos.exporter import Exporter
from tests.doubles.mesos.model import AgentLink, Framework, HeldTask, Json, MasterLink, Timing

PATIENCE_S = 20.0
QUICK = Timing(update_retry=0.02, executor_linger=0.02, agent_recovery=0.01, kill_grace=0.05)
SLOW_RETRY = Timing(executor_linger=0.02, agent_recovery=0.01, kill_grace=0.05)
AWARE = ({"type": "PARTITION_AWARE"},)
FRAMEWORK = "m-0000"
AGENT_ID = "m-S0"
RESOURCES: list[Json] = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 2.0}, "role": "*"},
    {"name": "mem", "type": "SCALAR", "scalar": {"value": 2048.0}, "role": "*"},
    {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31100}]}, "role": "*"},
]


class Listener:
    """A master that only listens: it keeps what agents say, and acknowledges updates unless told not to."""

    def __init__(self, timing: Timing, acknowledges: bool = True) -> None:
        self.id, self.timing, self.acknowledges = "m", timing, acknowledges
        self.updates: list[Json] = []
        self.latest: list[str] = []
        self.registered: list[str] = []
        self.held: list[list[HeldTask]] = []
        self.said: list[str] = []
        self.ended: list[tuple[str, int]] = []
        self._news = asyncio.Condition()
        self._waking: set[asyncio.Task[None]] = set()

    def _tell(self) -> None:
        task = asyncio.create_task(self._wake())
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that an agent says to make this true."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(true), PATIENCE_S)

    def of(self, task_id: str) -> list[Json]:
        return [each for each in self.updates if each["task_id"]["value"] == task_id]

    def states(self, task_id: str) -> list[str]:
        return [each["state"] for each in self.of(task_id)]

    async def told(self, task_id: str, state: str) -> Json:
        await self.until(lambda: state in self.states(task_id))
        return next(each for each in self.of(task_id) if each["state"] == state)

    # -- what agents call

    def register(self, agent: AgentLink) -> bool:
        agent.id = f"m-S{len(self.registered)}"
        self.registered.append(agent.id)
        self._tell()
        return True

    def reregister(self, agent: AgentLink, held: Iterable[HeldTask]) -> bool:
        self.held.append(list(held))
        self._tell()
        return True

    def status_update(self, agent: AgentLink, framework_id: str, status: Json, latest: str) -> None:
        self.updates.append(status)
        self.latest.append(latest)
        self._tell()
        if self.acknowledges:
            agent.acknowledge(framework_id, status["task_id"]["value"], status["uuid"])

    def executor_ended(self, agent: AgentLink, framework_id: str, executor_id: str, status: int) -> None:
        self.ended.append((executor_id, status))

    def disconnected(self, agent: AgentLink) -> None:
        self.said.append("disconnected")

    def silent(self, agent: AgentLink) -> None:
        self.said.append("silent")

    def answering(self, agent: AgentLink) -> None:
        self.said.append("answering")

    def unregister(self, agent: AgentLink) -> None:
        self.said.append("unregister")


class World:
    """One agent with its endpoints, and the master it talks to."""

    def __init__(self, agent: Agent, master: Listener, endpoints: AgentEndpoints) -> None:
        self.agent, self.master, self.endpoints = agent, master, endpoints

    def framework(self, capabilities: Iterable[Json] = AWARE, **info: Any) -> Framework:
        told = {"user": "", "name": "x", "checkpoint": True, "capabilities": list(capabilities), **info}
        return Framework(FRAMEWORK, told)

    def launch(self, task_id: str, command: str | Json, *, framework: Framework | None = None, **more: Any) -> None:
        self.agent.launch(framework or self.framework(), task(task_id, command, **more))

    async def sandbox(self, task_id: str) -> Path:
        """The sandbox of a task that ran."""
        assert self.agent.work_dir is not None
        return self.agent.root / "frameworks" / FRAMEWORK / "executors" / task_id / "runs" / "latest"

    async def get(self, endpoint: str, /, **query: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.agent.port}{endpoint}"
        async with aiohttp.ClientSession() as session, session.get(url, params=query) as reply:
            return reply.status, await reply.read()


def task(task_id: str, command: str | Json, **more: Any) -> Json:
    """A TaskInfo as the master gives it to an agent."""
    role = {"role": "*", "allocation_info": {"role": "team"}}
    return {
        "name": task_id,
        "task_id": {"value": task_id},
        "agent_id": {"value": AGENT_ID},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, **role},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}, **role},
        ],
        "command": {"shell": True, "value": command} if isinstance(command, str) else command,
        **more,
    }


def play(
    scene: Callable[[World], Awaitable[None]],
    work_dir: Path | None,
    *,
    timing: Timing = QUICK,
    acknowledges: bool = True,
    **agent: Any,
) -> None:
    """Run a scene with a registered agent; nothing of it is left afterwards."""

    async def all_of_it() -> None:
        master = Listener(timing, acknowledges)
        _check: MasterLink = master
        actor = Agent(RESOURCES, work_dir=work_dir, timing=timing, **agent)
        endpoints = AgentEndpoints()
        endpoints.add(actor)
        await endpoints.open("127.0.0.1")
        actor.detected(master)
        try:
            await asyncio.wait_for(scene(World(actor, master, endpoints)), PATIENCE_S)
        finally:
            await actor.stop()
            await endpoints.close()

    asyncio.run(all_of_it())


def told(status: Json) -> tuple[str, str | None, str | None, str | None]:
    """What a status says."""
    return status["state"], status["source"], status.get("reason"), status.get("message")


def basic(credentials: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody tells us of."""
    while not true():  # noqa: ASYNC110 - files and processes know no events
        await asyncio.sleep(0.002)


async def gone(pids: Iterable[int]) -> None:
    """Wait until none of them runs."""
    await until(lambda: not any(alive(pid) for pid in pids))


async def written(path: Path, lines: int) -> list[str]:
    """Wait until a file has so many lines."""
    await until(lambda: path.exists() and path.read_text().count("\n") >= lines)
    return (await asyncio.to_thread(path.read_text)).splitlines()


# -- how tasks end ---------------------------------------------------------------------------------------------------

ENDINGS: dict[str, tuple[str | Json, str, str]] = {
    "well": ("true", "TASK_FINISHED", "Command exited with status 0"),
    "exit3": ("echo bye; exit 3", "TASK_FAILED", "Command exited with status 3"),
    "killed": ("kill -9 $$", "TASK_FAILED", "Command terminated with signal Killed"),
    "segv": ("kill -SEGV $$", "TASK_FAILED", "Command terminated with signal Segmentation fault"),
    "unknown": ("no_such_command", "TASK_FAILED", "Command exited with status 127"),
    "nobinary": ({"shell": False, "value": "/no/such"}, "TASK_FAILED", "Command exited with status 1"),
    "args": ({"shell": False, "value": "/bin/sh", "arguments": ["sh", "-c", "exit $0", "4"]}, "TASK_FAILED",
             "Command exited with status 4"),
}  # fmt: skip


def test_states_sources_reasons_and_messages_are_as_recorded(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        for name, (command, _, _) in ENDINGS.items():
            world.launch(name, command)
        for name, (_, state, message) in ENDINGS.items():
            last = await world.master.told(name, state)
            assert told(last) == (state, "SOURCE_EXECUTOR", None, message), name
            assert world.master.states(name) == ["TASK_STARTING", "TASK_RUNNING", state]

    play(scene, tmp_path, timing=SLOW_RETRY)


def test_a_status_has_the_fields_of_a_real_one_in_their_order(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "true")
        last = await world.master.told("t", "TASK_FINISHED")
        first = world.master.of("t")[0]
        ids = ["agent_id", "executor_id", "timestamp", "uuid", "container_status"]
        assert list(first) == ["task_id", "state", "source", *ids]
        assert list(last) == ["task_id", "state", "message", "source", *ids]
        assert list(last["container_status"]) == ["container_id", "network_infos", "executor_pid"]
        assert last["executor_id"] == {"value": "t"} and last["agent_id"] == {"value": AGENT_ID}
        assert len(base64.b64decode(last["uuid"])) == 16
        assert len({each["uuid"] for each in world.master.of("t")}) == 3

    play(scene, tmp_path)


REFUSALS: dict[str, tuple[Json, str, str, str]] = {
    "nouser": ({"command": {"shell": True, "value": "true", "user": "nosuchuser"}}, "TASK_DROPPED",
               "REASON_EXECUTOR_TERMINATED",
               r"Failed to create executor directory '.+': Failed to chown directory to 'nosuchuser': "
               r"No such user 'nosuchuser'"),
    "nofetch": ({"command": {"shell": True, "value": "true", "uris": [{"value": "file:///no/such/file"}]}},
                "TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED",
                r"Failed to launch container: Failed to fetch all URIs for container '.+': exited with status 1"),
    "docker": ({"container": {"type": "DOCKER", "docker": {"image": "busybox"}}}, "TASK_FAILED",
               "REASON_EXECUTOR_TERMINATED", "Abnormal executor termination: unknown container"),
    "image": ({"container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "b"}}}}},
              "TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED",
              "Failed to launch container: Unsupported container image type: DOCKER"),
}  # fmt: skip


def test_what_an_agent_cannot_start_is_one_update_of_its_own(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        for name, (more, state, reason, message) in REFUSALS.items():
            world.launch(name, "true", **more) if "command" not in more else world.agent.launch(
                world.framework(), {**task(name, "true"), **more}
            )
            status = await world.master.told(name, state)
            assert told(status)[:3] == (state, "SOURCE_AGENT", reason), name
            assert re.fullmatch(message, status["message"]), status["message"]
            assert world.master.states(name) == [state]
            assert "container_status" not in status

    play(scene, tmp_path)


def test_without_partition_awareness_dropped_is_lost(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        command = {"shell": True, "value": "true", "user": "nosuchuser"}
        world.launch("t", command, framework=world.framework(()))
        assert (await world.master.told("t", "TASK_LOST"))["reason"] == "REASON_EXECUTOR_TERMINATED"

    play(scene, tmp_path)


def test_an_agent_that_takes_images_runs_the_command_without_them(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "true", container=REFUSALS["image"][0]["container"])
        await world.master.told("t", "TASK_FINISHED")

    play(scene, tmp_path, images=True)


def test_a_task_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100", max_completion_time={"nanoseconds": 50_000_000})
        status = await world.master.told("t", "TASK_FAILED")
        assert status["reason"] == "REASON_MAX_COMPLETION_TIME_REACHED"
        assert status["message"] == "Command terminated with signal Terminated"

    play(scene, tmp_path)


def test_a_custom_executor_that_ends_fails_its_task_and_is_reported(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        info = task("t", "")
        del info["command"]
        info["executor"] = {"executor_id": {"value": "ex"}, "command": {"shell": True, "value": "exit 5"}}
        world.agent.launch(world.framework(), info)
        status = await world.master.told("t", "TASK_FAILED")
        assert told(status)[1:] == ("SOURCE_AGENT", "REASON_EXECUTOR_TERMINATED", "Executor terminated")
        assert world.master.ended == [("ex", 1280)] and world.master.states("t") == ["TASK_FAILED"]

    play(scene, tmp_path)


def test_an_id_may_be_used_again_only_when_its_executor_is_gone(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "true")
        await world.master.told("t", "TASK_FINISHED")
        world.launch("t", "true")
        status = await world.master.told("t", "TASK_DROPPED")
        assert told(status)[1:3] == ("SOURCE_AGENT", "REASON_TASK_INVALID")
        assert status["message"] == "Cannot reuse an already existing executor for a command task"
        await until(lambda: not world.agent.runs)
        world.launch("t", "exit 7")
        await world.master.told("t", "TASK_FAILED")

    play(scene, tmp_path, timing=Timing(executor_linger=0.1))


# -- killing ---------------------------------------------------------------------------------------------------------


def test_kill_ends_the_whole_tree_and_says_how(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 1000 & setsid sleep 1001 & echo $$ >>pids; pgrep -P $$ >>pids; echo >>pids; wait")
        lines = await written((await world.sandbox("t")) / "pids", 4)
        pids = [int(line) for line in lines if line]
        assert len(pids) == 3
        world.agent.kill(FRAMEWORK, "t")
        status = await world.master.told("t", "TASK_KILLED")
        assert told(status)[1:] == ("SOURCE_EXECUTOR", None, "Command terminated with signal Terminated")
        assert "TASK_KILLING" not in world.master.states("t")
        await gone(pids)

    play(scene, tmp_path)


def test_killing_is_told_to_those_who_know_it(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        capable = world.framework([*AWARE, {"type": "TASK_KILLING_STATE"}])
        world.launch("t", "trap 'exit 0' TERM; touch ready; while :; do sleep 0.01; done", framework=capable)
        await written((await world.sandbox("t")) / "ready", 0)
        world.agent.kill(FRAMEWORK, "t")
        world.agent.kill(FRAMEWORK, "t")
        status = await world.master.told("t", "TASK_KILLED")
        assert status["message"] == "Command exited with status 0"
        assert world.master.states("t") == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]

    play(scene, tmp_path, timing=Timing(kill_grace=PATIENCE_S))


def test_what_ignores_sigterm_is_killed_after_the_grace_of_its_own_policy(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        policy = {"grace_period": {"nanoseconds": 20_000_000}}
        world.launch("t", "trap '' TERM; touch ready; while :; do sleep 0.01; done", kill_policy=policy)
        await written((await world.sandbox("t")) / "ready", 0)
        world.agent.kill(FRAMEWORK, "t")
        status = await world.master.told("t", "TASK_KILLED")
        assert status["message"] == "Command terminated with signal Killed"

    play(scene, tmp_path, timing=Timing(kill_grace=PATIENCE_S * 10))


def test_what_is_killed_while_it_is_launched_never_ran(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "touch ran")
        world.agent.kill(FRAMEWORK, "t")
        status = await world.master.told("t", "TASK_KILLED")
        assert told(status)[1:3] == ("SOURCE_AGENT", "REASON_TASK_KILLED_DURING_LAUNCH")
        assert status["message"] == "Killed before delivery to the executor"
        assert world.master.states("t") == ["TASK_KILLED"] and not world.agent.runs

    play(scene, tmp_path)


def test_draining_kills_all_and_says_why(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100")
        await world.master.told("t", "TASK_RUNNING")
        world.agent.drain(1.0)
        assert (await world.master.told("t", "TASK_KILLED"))["reason"] == "REASON_AGENT_DRAINING"

    play(scene, tmp_path)


def test_a_command_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 1000 & echo $! >pid")
        await world.master.told("t", "TASK_FINISHED")
        pid = int(((await world.sandbox("t")) / "pid").read_text())
        await gone([pid])

    play(scene, tmp_path)


def test_a_removed_framework_takes_its_tasks_with_it_without_a_word(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "echo $$ >pid; exec sleep 1000")
        pid = int((await written((await world.sandbox("t")) / "pid", 1))[0])
        await world.master.told("t", "TASK_RUNNING")
        world.agent.shutdown_framework(FRAMEWORK)
        await gone([pid])
        assert world.master.states("t") == ["TASK_STARTING", "TASK_RUNNING"] and not world.agent.runs

    play(scene, tmp_path)


# -- sandbox, environment, URIs --------------------------------------------------------------------------------------


def test_the_environment_is_the_recorded_one_and_the_commands_own(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        own = {"variables": [{"name": "FOO", "value": 'a b "c" é'}, {"name": "BAR", "value": ""}]}
        world.launch("t", {"shell": True, "value": "env -0", "environment": own})
        await world.master.told("t", "TASK_FINISHED")
        sandbox = (await world.sandbox("t")).resolve()
        found = dict(line.split("=", 1) for line in (sandbox / "stdout").read_text().split("\0") if line)
        found.pop("_", None), found.pop("SHLVL", None)
        assert found == {
            "LIBPROCESS_IP": "127.0.0.1",
            "LIBPROCESS_PORT": "0",
            "MESOS_AGENT_ENDPOINT": f"127.0.0.1:{world.agent.port}",
            "MESOS_ALLOCATION_ROLE": "team",
            "MESOS_CHECKPOINT": "1",
            "MESOS_DIRECTORY": str(sandbox),
            "MESOS_EXECUTOR_ID": "t",
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
            "MESOS_FRAMEWORK_ID": FRAMEWORK,
            "MESOS_HTTP_COMMAND_EXECUTOR": "0",
            "MESOS_SANDBOX": str(sandbox),
            "MESOS_SLAVE_ID": AGENT_ID,
            "MESOS_SLAVE_PID": f"slave(1)@127.0.0.1:{world.agent.port}",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PWD": str(sandbox),
            "FOO": 'a b "c" é',
            "BAR": "",
        }

    play(scene, tmp_path)


def test_stderr_begins_with_the_executors_log_and_stdout_is_the_commands(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "echo out; echo err >&2")
        await world.master.told("t", "TASK_FINISHED")
        sandbox = await world.sandbox("t")
        lines = (sandbox / "stderr").read_text().splitlines()
        assert (sandbox / "stdout").read_text() == "out\n" and lines[-1] == "err"
        assert re.fullmatch(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ exec\.cpp:164\] Version: 1\.12\.0", lines[0])
        assert "Starting task t" in lines[-3] and "Forked command at" in lines[-2]

    play(scene, tmp_path)


def test_uris_are_copied_unpacked_made_executable_and_cached(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "tool").write_text("#!/bin/sh\necho tool runs\n")
    (data / "kept").write_text("first")
    with tarfile.open(data / "a.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("dir/inside")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"deep"))
    uris = [
        {"value": f"file://{data}/tool", "executable": True, "output_file": "bin/tool"},
        {"value": f"{data}/a.tar.gz"},
        {"value": f"file://{data}/a.tar.gz", "extract": False, "output_file": "b.tar.gz"},
        {"value": f"file://{data}/kept", "cache": True},
    ]

    async def scene(world: World) -> None:
        command = {"shell": True, "value": "bin/tool; cat dir/inside kept; ls", "uris": uris}
        world.launch("t1", command)
        await world.master.told("t1", "TASK_FINISHED")
        (data / "kept").write_text("second")
        world.launch("t2", command)
        await world.master.told("t2", "TASK_FINISHED")
        for name in ("t1", "t2"):
            text = ((await world.sandbox(name)) / "stdout").read_text()
            assert text.startswith("tool runs\ndeepfirst") and "b.tar.gz" in text

    play(scene, tmp_path / "agent")


# -- updates ---------------------------------------------------------------------------------------------------------


def test_only_the_first_unacknowledged_update_is_sent_again_and_again(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "true")
        await world.master.until(lambda: len(world.master.of("t")) == 3 and world.master.latest[-1] == "TASK_FINISHED")
        first, *rest = world.master.of("t")
        assert first["state"] == "TASK_STARTING" and all(each == first for each in rest)
        world.agent.acknowledge(FRAMEWORK, "t", base64.b64encode(bytes(16)).decode())
        assert set(world.master.states("t")) == {"TASK_STARTING"}
        world.agent.acknowledge(FRAMEWORK, "t", first["uuid"])
        assert world.master.states("t")[-1] == "TASK_RUNNING"
        world.agent.acknowledge(FRAMEWORK, "t", first["uuid"])
        assert world.master.states("t")[-1] == "TASK_RUNNING"
        world.agent.acknowledge(FRAMEWORK, "t", world.master.of("t")[-1]["uuid"])
        assert world.master.states("t")[-1] == "TASK_FINISHED"

    play(scene, tmp_path, acknowledges=False)


def test_each_wait_for_an_acknowledgement_is_twice_the_one_before() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100")
        run = next(iter(world.agent.runs.values()))
        waits: list[float] = []
        for sent in range(1, 5):
            await world.master.until(lambda sent=sent: len(world.master.of("t")) == sent)  # type: ignore[misc]
            waits.append(run.interval)
        assert waits == [0.002, 0.004, 0.008, 0.008]

    play(scene, None, timing=Timing(update_retry=0.001, update_retry_max=0.008), acknowledges=False)


def test_a_framework_that_is_back_gets_what_it_did_not_acknowledge_at_once() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100")
        await world.master.told("t", "TASK_STARTING")
        world.agent.framework_updated(FRAMEWORK)
        assert world.master.states("t") == ["TASK_STARTING", "TASK_STARTING"]

    play(scene, None, timing=SLOW_RETRY, acknowledges=False)


def test_tasks_the_master_believes_in_and_nobody_knows_are_dropped() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100")
        await world.master.told("t", "TASK_RUNNING")
        world.agent.unknown_tasks(world.framework(), [task("t", "true"), task("u", "true")])
        status = await world.master.told("u", "TASK_DROPPED")
        assert status["reason"] == "REASON_RECONCILIATION" and "uuid" in status
        assert "TASK_DROPPED" not in world.master.states("t")

    play(scene, None)


# -- agents that fail ------------------------------------------------------------------------------------------------


def test_results_of_commands_that_end_without_their_agent_are_lost(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("ends", "sleep 1000")
        world.launch("goes-on", "sleep 1000")
        await world.master.told("ends", "TASK_RUNNING")
        await world.master.told("goes-on", "TASK_RUNNING")
        port, run = world.agent.port, world.agent.runs[FRAMEWORK, "ends"]
        world.agent.crash()
        assert world.master.said == ["disconnected"]
        with pytest.raises(aiohttp.ClientConnectorError):
            await world.get("/health")
        assert run.executor is not None
        os.kill(run.executor.pid, signal.SIGKILL)
        await until(lambda: not run.running)
        world.agent.restart()
        await world.master.until(lambda: len(world.master.of("ends")) >= 3)
        assert {each.info["name"]: each.state for each in world.master.held[-1]} == {
            "ends": "TASK_FAILED",
            "goes-on": "TASK_RUNNING",
        }
        status = world.master.of("ends")[-1]
        assert told(status)[1:] == ("SOURCE_AGENT", "REASON_EXECUTOR_TERMINATED", "Executor terminated")
        assert world.agent.id == AGENT_ID and world.agent.port == port
        assert (await world.get("/health"))[0] == 200
        world.agent.kill(FRAMEWORK, "goes-on")
        await world.master.told("goes-on", "TASK_KILLED")

    play(scene, tmp_path, timing=Timing(executor_linger=0.01, agent_recovery=0.05))


def test_a_result_survives_an_agent_that_is_back_soon(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 1000")
        await world.master.told("t", "TASK_RUNNING")
        run = world.agent.runs[FRAMEWORK, "t"]
        assert run.executor is not None
        world.agent.crash()
        os.kill(run.executor.pid, signal.SIGKILL)
        await until(lambda: run.ended is not None)
        world.agent.restart()
        status = await world.master.told("t", "TASK_FAILED")
        assert status["message"] == "Command terminated with signal Killed"

    play(scene, tmp_path, timing=Timing(executor_linger=PATIENCE_S, agent_recovery=0.01))


def test_after_its_return_an_unacknowledged_update_comes_twice(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "exit 3")
        await world.master.until(lambda: "TASK_FAILED" in world.master.latest or len(world.master.of("t")) == 1)
        run = world.agent.runs[FRAMEWORK, "t"]
        await until(lambda: run.ended is not None)
        world.agent.crash()
        world.agent.restart()
        await world.master.until(lambda: len(world.master.of("t")) == 3)
        assert len({each["uuid"] for each in world.master.of("t")}) == 1

    play(scene, tmp_path, timing=SLOW_RETRY, acknowledges=False)


def test_tasks_of_a_framework_without_checkpoint_die_with_their_agent(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "echo $$ >pid; exec sleep 1000", framework=world.framework(checkpoint=False))
        pid = int((await written((await world.sandbox("t")) / "pid", 1))[0])
        world.agent.crash()
        await gone([pid])
        world.agent.restart()
        await world.master.until(lambda: world.master.held == [[]])

    play(scene, tmp_path)


def test_nothing_gets_through_a_partition_and_all_of_it_afterwards() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100")
        await world.master.told("t", "TASK_RUNNING")
        world.agent.lose()
        world.agent.kill(FRAMEWORK, "t")
        world.launch("u", "true")
        world.agent.framework_updated(FRAMEWORK)
        asking = asyncio.create_task(world.get("/health"))
        assert not world.agent.connected and list(world.agent.runs) == [(FRAMEWORK, "t")]
        assert world.master.said == ["silent"]
        world.agent.find()
        assert world.master.said == ["silent", "answering"]
        assert (await asking)[0] == 200
        world.agent.kill(FRAMEWORK, "t")
        await world.master.told("t", "TASK_KILLED")

    play(scene, None)


def test_what_happens_during_a_partition_is_told_after_it() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 100")
        await world.master.told("t", "TASK_RUNNING")
        world.agent.lose()
        world.agent.drain(None)
        run = world.agent.runs[FRAMEWORK, "t"]
        assert run.executor is not None
        run.executor.kill(0.0, False)
        assert world.master.states("t")[-1] == "TASK_RUNNING"
        world.agent.find()
        assert world.master.states("t")[-1] == "TASK_KILLED"

    play(scene, None, timing=SLOW_RETRY)


def test_an_agent_whose_disk_is_empty_is_a_new_one(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "echo $$ >pid; exec sleep 1000")
        pid = int((await written((await world.sandbox("t")) / "pid", 1))[0])
        old = world.agent.root
        world.agent.wipe()
        await gone([pid])
        await world.master.until(lambda: world.master.registered == ["m-S0", "m-S1"])
        assert world.agent.id == "m-S1" and not world.agent.runs and not old.exists()

    play(scene, tmp_path)


def test_a_graceful_end_unregisters_and_ends_all(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "echo $$ >pid; exec sleep 1000")
        pid = int((await written((await world.sandbox("t")) / "pid", 1))[0])
        world.agent.shutdown_gracefully()
        assert world.master.said == ["unregister"] and not world.agent.connected
        await gone([pid])
        world.agent.restart()
        await world.master.until(lambda: world.master.held == [[]])
        assert world.agent.id == AGENT_ID

    play(scene, tmp_path)


def test_an_agent_marked_gone_stays_away_until_it_is_new(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "echo $$ >pid; exec sleep 1000")
        pid = int((await written((await world.sandbox("t")) / "pid", 1))[0])
        world.agent.gone()
        await gone([pid])
        with pytest.raises(RuntimeError, match="wipe"):
            world.agent.restart()
        world.agent.wipe()
        await world.master.until(lambda: len(world.master.registered) == 2)

    play(scene, tmp_path)


def test_an_agent_knocks_until_the_master_answers() -> None:
    async def scene(world: World) -> None:
        answers = iter([False, False, True])
        world.master.reregister = lambda agent, held: next(answers)  # type: ignore[method-assign]
        world.agent.detected(world.master)
        await until(lambda: world.agent._registered)
        assert next(answers, None) is None
        world.agent.detected(None)
        assert not world.agent._registered

    play(scene, None)


# -- pretending ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "behaviour"),
    [
        ("sleep 5", Behaviour(5.0)),
        ("sleep 0.5; exit 3", Behaviour(0.5, 3)),
        ("exit 2", Behaviour(0.0, 2)),
        ("false", Behaviour(0.0, 1)),
        ("true", Behaviour()),
        ("python train.py", Behaviour()),
        ('A="$B"; export A; sleep 2; exit 3', Behaviour(2.0, 3)),
        ("export A; false", Behaviour(0.0, 1)),
        ("export A; python train.py", Behaviour()),
        ("", Behaviour()),
    ],
)
def test_simple_commands_are_understood_by_agents_that_pretend(command: str, behaviour: Behaviour) -> None:
    assert by_command(task("t", command)) == behaviour
    assert by_command(task("t", {"shell": False, "value": "sleep", "arguments": ["sleep", "3"]})) == Behaviour(3.0)
    script = {"shell": False, "value": "/bin/sh", "arguments": ["sh", "-c", 'A=1; exec "$@"', "sh", "sleep", "3"]}
    assert by_command(task("t", script)) == Behaviour(3.0)


def test_pretended_tasks_end_as_real_ones() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "sleep 0.01; exit 3")
        assert (await world.master.told("t", "TASK_FAILED"))["message"] == "Command exited with status 3"
        world.launch("late", "sleep 100", max_completion_time={"nanoseconds": 1_000_000})
        late = await world.master.told("late", "TASK_FAILED")
        assert late["reason"] == "REASON_MAX_COMPLETION_TIME_REACHED"
        world.launch("k", "sleep 100")
        world.agent.kill(FRAMEWORK, "k")
        assert (await world.master.told("k", "TASK_KILLED"))["source"] == "SOURCE_AGENT"

    play(scene, None)


def test_many_agents_that_pretend_share_a_port() -> None:
    async def scene() -> None:
        master, endpoints = Listener(QUICK), AgentEndpoints()
        agents = [Agent(RESOURCES, path=f"/slave({n})", timing=QUICK) for n in range(1, 201)]
        for agent in agents:
            endpoints.add(agent)
        port = await endpoints.open("127.0.0.1")
        for agent in agents:
            agent.detected(master)
            agent.launch(Framework(FRAMEWORK, {"name": "x"}), task(agent.id, "sleep 100"))
        await master.until(lambda: master.latest.count("TASK_RUNNING") == 200)
        async with aiohttp.ClientSession() as session:
            for agent in (agents[0], agents[99], agents[199]):
                async with session.get(f"http://127.0.0.1:{port}{agent.path}/containers") as reply:
                    assert [each["source"] for each in await reply.json()] == [agent.id]
            async with session.get(f"http://127.0.0.1:{port}/slave(201)/containers") as reply:
                assert reply.status == 404
            agents[99].crash()
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(f"http://127.0.0.1:{port}/slave(100)/containers")
        for agent in agents:
            await agent.stop()
        await endpoints.close()

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


# -- files -----------------------------------------------------------------------------------------------------------

LINES = "hi\n" + "".join(f"line {n}\n" for n in range(300))
SIZE = len(LINES)


async def with_files(world: World) -> str:
    """A task that left files; gives the path of its sandbox."""
    script = f"printf '%s' '{LINES}'; mkdir sub; echo x >sub/f; ln -s /etc/passwd link; ln -s stdout inside"
    world.launch("t", script)
    await world.master.told("t", "TASK_FINISHED")
    return str((await world.sandbox("t")).resolve())


READS: dict[str, tuple[Json, int, bytes]] = {
    "a part": ({"offset": "0", "length": "10"}, 200, b'{"data":"hi\\nline 0\\n","offset":0}'),
    "its middle": ({"offset": "2", "length": "7"}, 200, b'{"data":"\\nline 0","offset":2}'),
    "no offset: the size": ({}, 200, b'{"data":"","offset":%d}' % SIZE),
    "offset -1: the size": ({"offset": "-1"}, 200, b'{"data":"","offset":%d}' % SIZE),
    "offset -1 and a length": ({"offset": "-1", "length": "10"}, 200, b'{"data":"","offset":%d}' % SIZE),
    "a length alone": ({"length": "5"}, 200, b'{"data":"","offset":%d}' % SIZE),
    "past the end": ({"offset": "99999999", "length": "10"}, 200, b'{"data":"","offset":99999999}'),
    "nothing": ({"offset": "0", "length": "0"}, 200, b'{"data":"","offset":0}'),
    "below -1": ({"offset": "-2"}, 400, b"Negative offset provided: -2.\n"),
    "no number": ({"offset": "abc"}, 400, b"Failed to parse offset: Failed to convert 'abc' to number.\n"),
}


def test_reading_is_as_recorded(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        box = await with_files(world)
        for name, (query, status, body) in READS.items():
            assert await world.get("/files/read", path=f"{box}/stdout", **query) == (status, body), name
        whole = json.dumps({"data": LINES, "offset": 0}, separators=(",", ":")).encode()
        for length in ({}, {"length": "-1"}, {"length": "1000000"}):
            assert await world.get("/files/read", path=f"{box}/stdout", offset="0", **length) == (200, whole)

    play(scene, tmp_path)


def test_paths_that_lead_nowhere_or_out_are_refused_as_recorded(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        box = await with_files(world)
        get = world.get
        assert await get("/files/read") == (400, b"Expecting 'path=value' in query.\n")
        assert await get("/files/read", path=f"{box}/nosuch", offset="0") == (404, b"")
        assert await get("/files/read", path=box, offset="0") == (400, b"Cannot read a directory.\n")
        assert await get("/files/read", path="/etc/passwd", offset="0") == (404, b"")
        inaccessible = f"'{box}/link' is inaccessible.\n".encode()
        assert await get("/files/read", path=f"{box}/link", offset="0") == (400, inaccessible)
        assert await get("/files/read", path=f"{box}/../../x", offset="0") == (404, b"")
        assert await get("/files/browse", path=f"{box}/..") == (400, f"'{box}/..' is inaccessible.\n".encode())
        assert await get("/files/browse", path=f"{box}/nosuch") == (404, b"")
        assert await get("/files/browse", path=f"{box}/stdout") == (200, b"[]")
        assert await get("/files/download", path=f"{box}/nosuch") == (404, b"404 Not Found.")
        assert await get("/files/download", path=box) == (400, b"Cannot download a directory.\n")
        assert await get("/files/download", path=f"{box}/stdout") == (200, LINES.encode())
        assert await get("/state.json") == (404, b"404 Not Found.")

    play(scene, tmp_path)


def test_virtual_paths_and_latest_lead_to_the_sandbox(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        box = await with_files(world)
        virtual = f"/frameworks/{FRAMEWORK}/executors/t/runs/latest"
        for path in (virtual, str(Path(box).parent / "latest")):
            status, body = await world.get("/slave(1)/files/browse", path=path)
            listed = json.loads(body)
            names = [each["path"].removeprefix(path + "/") for each in listed]
            assert status == 200 and names == ["inside", "link", "stderr", "stdout", "sub"]
            assert await world.get("/files/read", path=f"{path}/stdout", offset="0", length="3") == (
                200,
                b'{"data":"hi\\n","offset":0}',
            )
        assert list(listed[3]) == ["gid", "mode", "mtime", "nlink", "path", "size", "uid"]
        assert listed[3]["mode"] == "-rw-r--r--" and listed[3]["size"] == SIZE
        assert listed[4]["mode"] == "drwxr-xr-x" and isinstance(listed[3]["mtime"], float)
        assert (await world.get("/files/browse", path=f"/framework/{FRAMEWORK}/executor/t/run/latest"))[0] == 404

    play(scene, tmp_path)


def test_data_are_the_raw_bytes_and_a_page_is_64_kib(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", r"printf '\377\376 caf\303\251 \000 end\n'; head -c 100000 /dev/zero | tr '\0' x >big")
        await world.master.told("t", "TASK_FINISHED")
        box = str((await world.sandbox("t")).resolve())
        _, body = await world.get("/files/read", path=f"{box}/stdout", offset="0")
        assert body == b'{"data":"\xff\xfe caf\xc3\xa9 \\u0000 end\\n","offset":0}'
        _, body = await world.get("/files/read", path=f"{box}/stdout", offset="6", length="1")
        assert body == b'{"data":"\xc3","offset":6}'
        for length in ({}, {"length": "65537"}, {"length": "16777216"}):
            _, body = await world.get("/files/read", path=f"{box}/big", offset="0", **length)
            assert len(json.loads(body)["data"]) == 65536
        _, body = await world.get("/files/read", path=f"{box}/big", offset="65536")
        assert len(json.loads(body)["data"]) == 100000 - 65536

    play(scene, tmp_path)


def test_large_files_are_downloaded_whole(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "true")
        await world.master.told("t", "TASK_FINISHED")
        box = (await world.sandbox("t")).resolve()
        data = os.urandom(3_000_000)
        (box / "result.bin").write_bytes(data)
        url = f"http://127.0.0.1:{world.agent.port}/files/download"
        async with aiohttp.ClientSession() as session:
            async with session.get(url, params={"path": f"{box}/result.bin"}) as reply:
                assert await reply.read() == data
                assert reply.headers["Content-Disposition"] == "attachment; filename=result.bin"
                assert reply.headers["Content-Type"] == "application/octet-stream"
            async with session.get(f"http://127.0.0.1:{world.agent.port}/health") as reply:
                assert reply.status == 200

    play(scene, tmp_path)


def test_files_by_call(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        box = await with_files(world)
        url = f"http://127.0.0.1:{world.agent.port}/api/v1"

        async def call(kind: str, **content: Any) -> tuple[int, Any]:
            async with session.post(url, json={"type": kind, kind.lower(): content}) as reply:
                body = await reply.read()
                return reply.status, json.loads(body) if reply.status == 200 else body

        async with aiohttp.ClientSession() as session:
            found = await call("READ_FILE", path=f"{box}/stdout", offset=0, length=3)
            assert found == (200, {"type": "READ_FILE", "read_file": {"size": SIZE, "data": "aGkK"}})
            assert await call("READ_FILE", path=f"{box}/nosuch", offset=0) == (404, b"")
            past = await call("READ_FILE", path=f"{box}/stdout", offset=999999, length=20)
            assert past[1]["read_file"] == {"size": SIZE, "data": ""}
            listed = (await call("LIST_FILES", path=f"{box}/sub"))[1]["list_files"]["file_infos"]
            assert [each["path"] for each in listed] == [f"{box}/sub/f"] and listed[0]["size"] == 2
            assert (await call("GET_HEALTH"))[1]["get_health"] == {"healthy": True}
            tasks = (await call("GET_TASKS"))[1]["get_tasks"]
            ended = tasks["completed_tasks"] + tasks["terminated_tasks"]
            assert [each["state"] for each in ended] == ["TASK_FINISHED"]
            async with session.post(url, json={"type": "READ_FILE"}) as reply:
                assert await reply.text() == "Failed to validate agent::Call: Expecting 'read_file' to be present"

    play(scene, tmp_path)


# -- what agents tell ------------------------------------------------------------------------------------------------


def test_containers_show_what_runs_and_what_it_uses(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; touch ready; exec sleep 1000")
        await written((await world.sandbox("t")) / "ready", 0)
        (found,) = json.loads((await world.get("/containers"))[1])
        assert list(found) == [
            *("container_id", "executor_id", "executor_name", "framework_id", "source", "statistics", "status"),
        ]
        assert found["executor_name"] == "Command Executor (Task: t) (Command: sh -c 'i=0; while [...')"
        usage = found["statistics"]
        assert usage["cpus_soft_limit"] == 0.2 and usage["mem_limit_bytes"] == 64 * 2**20
        assert usage["mem_rss_bytes"] > 0
        assert await world.get("/containers", container_id="none") == (200, b"[]")
        (short,) = json.loads((await world.get("/monitor/statistics"))[1])
        assert set(found) - set(short) == {"container_id", "status"}
        world.agent.kill(FRAMEWORK, "t")
        await world.master.told("t", "TASK_KILLED")
        assert await world.get("/containers") == (200, b"[]")

    play(scene, tmp_path)


def test_what_pretends_uses_what_it_is_told_to() -> None:
    async def scene(world: World) -> None:
        world.launch("t", "x")
        await world.master.told("t", "TASK_RUNNING")
        (found,) = json.loads((await world.get("/containers"))[1])
        assert found["statistics"]["mem_rss_bytes"] == 12345
        assert found["statistics"]["cpus_user_time_secs"] > 0

    play(scene, None, pretend=lambda info: Behaviour(None, cpus=2.0, rss=12345))


def test_the_state_shows_tasks_where_they_are(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.launch("t", "exec sleep 1000", labels={"labels": [{"key": "k", "value": "v"}]})
        await world.master.told("t", "TASK_RUNNING")
        state = json.loads((await world.get("/slave(1)/state"))[1])
        (framework,) = state["frameworks"]
        (executor,) = framework["executors"]
        (shown,) = executor["tasks"]
        assert state["id"] == AGENT_ID and state["resources"]["ports"] == "[31000-31100]"
        assert executor["directory"] == str((await world.sandbox("t")).resolve())
        assert executor["resources"] == {"disk": 0.0, "mem": 64.0, "gpus": 0.0, "cpus": 0.2}
        assert shown["state"] == "TASK_RUNNING" and shown["labels"] == [{"key": "k", "value": "v"}]
        assert [each["state"] for each in shown["statuses"]] == ["TASK_STARTING", "TASK_RUNNING"]
        world.agent.kill(FRAMEWORK, "t")
        await until(lambda: not world.agent.runs)
        state = json.loads((await world.get("/state"))[1])
        assert not state["frameworks"]
        (executor,) = state["completed_frameworks"][0]["completed_executors"]
        assert executor["completed_tasks"][0]["state"] == "TASK_KILLED"

    play(scene, tmp_path)


def test_endpoints_ask_who_is_there_if_they_should() -> None:
    async def scene(world: World) -> None:
        base = f"http://127.0.0.1:{world.agent.port}"
        good, bad = (basic("ops:secret"), basic("ops:wrong"))
        async with aiohttp.ClientSession() as session:
            for headers, status in (({}, 401), (bad, 401), (good, 200)):
                async with session.get(f"{base}/state", headers=headers) as reply:
                    assert reply.status == status
                    if status == 401:
                        assert await reply.text() == "401 Unauthorized."
                        assert reply.headers["WWW-Authenticate"] == 'Basic realm="mesos-agent-readonly"'
            async with session.get(f"{base}/health") as reply:
                assert reply.status == 200

    play(scene, None, credentials=("ops", "secret"))


# -- around it -------------------------------------------------------------------------------------------------------


def test_an_exporter_tells_what_it_is_told() -> None:
    async def scene() -> None:
        text = Exporter("node1", 2, lambda: 1).text()
        values = dict(re.findall(r'DCGM_FI_DEV_GPU_UTIL\{gpu="(\d)",UUID="GPU-.*\} (\S+)', text))
        assert float(values["0"]) > 0 and float(values["1"]) == 0
        quiet = Exporter("node1", 1)
        quiet.gpus[0].util = 45
        port = await quiet.listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            assert re.search(r'DCGM_FI_DEV_GPU_UTIL\{.*Hostname="node1".*\} 45\n', await reply.text())
        await quiet.close()

    asyncio.run(scene())


def test_a_process_tree_holds_the_session_and_all_that_left_it() -> None:
    usage = processes.Usage(0.5, 0.25, 100)
    table = {
        1: processes.Process(0, 1, usage, 1),
        10: processes.Process(1, 10, usage, 2),
        11: processes.Process(1, 10, usage, 3),
        12: processes.Process(11, 12, usage, 4),
        13: processes.Process(12, 12, usage, 5),
        20: processes.Process(1, 20, usage, 6),
    }
    assert set(processes.tree(10, table)) == {10, 11, 12, 13}
    assert processes.total(processes.tree(10, table)) == processes.Usage(2.0, 1.0, 400)
    mine = processes.read(os.getpid())
    assert mine is not None and mine.parent == os.getppid()


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``python -m tests.doubles.mesos``"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.doubles.mesos", "--agents", "2", "--port", "0", "--masters", "2"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_by_hand_it_says_what_to_do_and_leaves_nothing(by_hand: subprocess.Popen[str], tmp_path: Path) -> None:
    assert by_hand.stdout is not None
    lines = iter(by_hand.stdout.readline, "")
    said = "".join(
        line for line in iter(lambda: next(lines), "  retz run -- sh -c 'echo hello from $MESOS_SLAVE_ID'\n")
    )
    found = re.search(r"--mesos-master (127\.0\.0\.1:\d+)", said)
    assert found and "2 agents" in said and "do not lead" in said
    assert list(tmp_path.iterdir())

    async def slaves() -> list[Json]:
        url = f"http://{found[1]}/slaves"
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            return list((await reply.json())["slaves"])

    assert [each["hostname"] for each in asyncio.run(slaves())] == ["127.0.0.1", "127.0.0.2"]
    by_hand.send_signal(signal.SIGINT)
    assert by_hand.wait(PATIENCE_S) == 0
    assert not list(tmp_path.iterdir())
