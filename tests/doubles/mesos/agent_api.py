"""The HTTP endpoints of agents: state, containers, statistics, files and the calls of /api/v1."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from . import legacy, processes
from .agent import Agent
from .answers import Answer, HttpServer, bad_request, document, empty, not_found, text, unauthorized
from .model import TERMINAL, Json
from .run import Hosted, Run
from .sandbox import Files

PREFIX = re.compile(r"^(/slave\(\d+\))(/.*)?$")

EXECUTOR_CPUS, EXECUTOR_MEM = 0.1, 32.0
"""What an agent adds for the command executor of a task; the master knows nothing of it."""

LAUNCHER_DIR = "/usr/libexec/mesos"

COMPRESS_FROM = 1024
"""Answers of so many bytes are compressed for clients that take that."""

Query = Mapping[str, str]


class AgentEndpoints(HttpServer):
    """Listens for one agent, or for many that pretend and share a port (``/slave(1)``, ``/slave(2)`` ...)."""

    def __init__(self) -> None:
        super().__init__(self._handle)
        self._agents: dict[str, AgentApi] = {}
        self._address = ("127.0.0.1", 0)
        self._opening: asyncio.Task[int] | None = None

    def add(self, agent: Agent) -> None:
        """Answer for this agent too."""
        agent.ip, agent.port = self._address
        agent.life = lambda alive: self._life(agent, alive)
        self._agents[agent.path] = AgentApi(agent)

    async def open(self, ip: str, port: int = 0) -> int:
        """Listen; gives the port."""
        self._address = ip, await self.listen(ip, port)
        for api in self._agents.values():
            api.agent.ip, api.agent.port = self._address
        return self._address[1]

    def _life(self, agent: Agent, alive: bool) -> None:
        """The socket of an agent that has one to itself goes and comes with its process."""
        if len(self._agents) > 1:
            return
        self.vanish()
        if alive:
            self._opening = asyncio.create_task(self.listen(*self._address))

    async def close(self) -> None:
        """Stop listening, drop all connections."""
        if self._opening is not None:
            await self._opening
        self.vanish()
        await self.shutdown(0.0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        prefix, path = split(request.path)
        api = self._agents.get(prefix) if prefix else next(iter(self._agents.values()), None)
        if api is None:
            return not_found()
        agent = api.agent
        await agent.reached()
        if agent.delay_s:
            await asyncio.sleep(agent.delay_s)
        if not agent.alive:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the agent is dead")
        return await api.answer(request, path)


def split(path: str) -> tuple[str, str]:
    """The agent's prefix, empty if there is none, and the rest."""
    found = PREFIX.match(path)
    return (found[1], found[2] or "/") if found else ("", path)


def compressed(answer: Answer, request: web.BaseRequest) -> Answer:
    """The same answer, with gzip if it is long and the client takes that. A stream of bytes stays as it is."""
    body = answer._text
    if len(body) < COMPRESS_FROM or "gzip" not in request.headers.get("Accept-Encoding", ""):
        return answer
    headers = (("Content-Encoding", "gzip"), *answer._extra)
    return Answer(200, gzip.compress(body, 1), answer._type, headers)


def query_of(request: web.BaseRequest) -> Query:
    """The query. Names of files are bytes: aiohttp's own reading loses what is no UTF-8."""
    return dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, errors="surrogateescape"))


def authorized(request: web.BaseRequest, credentials: tuple[str, str] | None) -> bool:
    """Whether the request carries them, if there are any."""
    if credentials is None:
        return True
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    expected = base64.b64encode(":".join(credentials).encode()).decode()
    return kind.lower() == "basic" and given.strip() == expected


class AgentApi:
    """Answers for one agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.files = Files(agent.locate)
        self._get: dict[str, Callable[[Query], Answer]] = {
            "/health": lambda query: empty(),
            "/version": lambda query: document(legacy.VERSION),
            "/flags": lambda query: document({"flags": self.flags()}),
            "/state": lambda query: document(self.state()),
            "/containers": lambda query: document(self.containers(query.get("container_id"))),
            "/monitor/statistics": lambda query: document(self.statistics()),
            "/metrics/snapshot": lambda query: document(self.metrics()),
            "/files/read": self.files.read,
            "/files/browse": self.files.browse,
            "/files/download": self.files.download,
            "/files/debug": lambda query: document(self.attached()),
        }
        self._calls: dict[str, Callable[[Json], Answer]] = {
            "GET_HEALTH": lambda call: v1("GET_HEALTH", {"healthy": True}),
            "GET_VERSION": lambda call: v1("GET_VERSION", {"version_info": legacy.VERSION_INFO}),
            "GET_FLAGS": lambda call: v1("GET_FLAGS", {"flags": flag_list(self.flags())}),
            "GET_AGENT": lambda call: v1("GET_AGENT", {"agent_info": self.info()}),
            "GET_CONTAINERS": lambda call: v1("GET_CONTAINERS", {"containers": self.v1_containers()}),
            "GET_TASKS": lambda call: v1("GET_TASKS", self.tasks()),
            "GET_EXECUTORS": lambda call: v1("GET_EXECUTORS", self.executors()),
            "LIST_FILES": lambda call: self.files.list_call(call["list_files"]),
            "READ_FILE": lambda call: self.files.read_call(call["read_file"]),
        }

    async def answer(self, request: web.BaseRequest, path: str) -> Answer:
        """One request. ``path`` is without the agent's prefix."""
        if path != "/health" and not authorized(request, self.agent.credentials):
            return unauthorized("mesos-agent-readwrite" if path == "/api/v1" else "mesos-agent-readonly")
        if path == "/api/v1":
            return compressed(self._call(await request.read(), request), request)
        found = self._get.get(path)
        return not_found() if found is None else compressed(found(query_of(request)), request)

    def _call(self, body: bytes, request: web.BaseRequest) -> Answer:
        if request.method != "POST":
            expected = "Expecting one of { 'POST' }"
            return text(405, f"405 Method Not Allowed. {expected}, but received '{request.method}'.", ("Allow", "POST"))
        return answer_call(body, self._calls, "agent")

    # -- what it tells -----------------------------------------------------------------------------------------

    def flags(self) -> dict[str, str]:
        """Those that say something about a double."""
        agent = self.agent
        return {
            "authenticate_http_readonly": "false" if agent.credentials is None else "true",
            "executor_registration_timeout": "1mins",
            "executor_shutdown_grace_period": "5secs",
            "hostname_lookup": "false",
            "ip": agent.ip,
            "isolation": "posix/cpu,posix/mem",
            "launcher": "posix",
            "port": str(agent.port),
            "switch_user": "true",
            "work_dir": str(agent.work_dir or ""),
        }

    def info(self) -> Json:
        """AgentInfo."""
        agent = self.agent
        info: Json = {
            "hostname": agent.hostname,
            "port": agent.port,
            "resources": [legacy.without_role(each) for each in agent.resources],
            "attributes": agent.attributes,
            "id": {"value": agent.id},
        }
        return info

    def state(self) -> Json:
        """/state"""
        agent = self.agent
        unreserved, by_role = legacy.unreserved(agent.resources), legacy.reserved(agent.resources)
        frameworks = [self._framework(hosted) for hosted in agent.frameworks.values()]
        ended = [self._framework(hosted) for hosted in agent.completed_frameworks]
        return {
            **legacy.VERSION_INFO,
            "start_time": agent.start_time,
            "id": agent.id,
            "pid": agent.pid,
            "hostname": agent.hostname,
            "capabilities": legacy.AGENT_CAPABILITIES,
            "resources": legacy.amounts(agent.resources),
            "reserved_resources": {role: legacy.amounts(each) for role, each in by_role.items()},
            "unreserved_resources": legacy.amounts(unreserved),
            "reserved_resources_full": by_role,
            "unreserved_resources_full": unreserved,
            "reserved_resources_allocated": {},
            "unreserved_resources_allocated": legacy.amounts(
                each for run in agent.live() for each in with_executor(run)
            ),
            "resource_providers": [],
            "attributes": legacy.attributes(agent.attributes),
            "master_hostname": "localhost",
            "flags": self.flags(),
            "frameworks": [each for each in frameworks if each["executors"]],
            "completed_frameworks": [each for each in frameworks if not each["executors"]] + ended,
        }

    def _framework(self, hosted: Hosted) -> Json:
        runs = [run for run in self.agent.runs.values() if run.hosted is hosted]
        return {
            "id": hosted.id,
            "name": hosted.info.get("name", ""),
            "user": hosted.info.get("user", ""),
            "failover_timeout": float(hosted.info.get("failover_timeout", 0.0)),
            "checkpoint": hosted.checkpoint,
            "hostname": hosted.info.get("hostname", ""),
            "roles": list(hosted.roles),
            "executors": [self._executor(run, True) for run in runs],
            "completed_executors": [self._executor(run, False) for run in hosted.completed],
        }

    def _executor(self, run: Run, live: bool) -> Json:
        task = legacy.task(run.info, run.hosted.id, run.state, run.statuses)
        return {
            "id": run.executor_id,
            "name": legacy.executor_name(run.info),
            "source": run.task_id,
            "container": run.container_id,
            "directory": str(self.agent.directory(run)),
            "resources": legacy.amounts(with_executor(run) if live and run.running else run.info["resources"]),
            "role": task["role"],
            "tasks": [task] if live and not run.launching else [],
            "queued_tasks": [run.info] if live and run.launching else [],
            "completed_tasks": [] if live else [task],
        }

    def statistics(self) -> list[Json]:
        """/monitor/statistics"""
        keep = ("executor_id", "executor_name", "framework_id", "source", "statistics")
        return [{key: each[key] for key in keep} for each in self.containers(None)]

    def containers(self, container_id: str | None) -> list[Json]:
        """/containers: those that run."""
        table = processes.scan() if self.agent.pretend is None else {}
        live = (run for run in self.agent.live() if run.state not in TERMINAL)
        runs = [run for run in live if container_id in (None, run.container_id)]
        return [self._container(run, table) for run in runs]

    def _container(self, run: Run, table: Mapping[int, processes.Process]) -> Json:
        assert run.executor is not None
        told: Json = {
            "container_id": run.container_id,
            "executor_id": run.executor_id,
            "executor_name": legacy.executor_name(run.info),
            "framework_id": run.hosted.id,
            "source": run.task_id,
        }
        usage = run.executor.usage(table)
        if usage is not None:
            told["statistics"] = statistics(legacy.amounts(with_executor(run)), usage)
        told["status"] = {"container_id": {"value": run.container_id}, "executor_pid": run.executor.pid}
        return told

    def v1_containers(self) -> list[Json]:
        """GET_CONTAINERS"""
        return [
            {
                "framework_id": {"value": each["framework_id"]},
                "executor_id": {"value": each["executor_id"]},
                "executor_name": each["executor_name"],
                "container_id": {"value": each["container_id"]},
                "container_status": each["status"],
                **({"resource_statistics": each["statistics"]} if "statistics" in each else {}),
            }
            for each in self.containers(None)
        ]

    def tasks(self) -> Json:
        """GET_TASKS"""
        runs = list(self.agent.runs.values())
        ended = [run for hosted in self.agent.frameworks.values() for run in hosted.completed]
        return {
            "pending_tasks": [],
            "queued_tasks": [v1_task(run) for run in runs if run.launching],
            "launched_tasks": [v1_task(run) for run in runs if not run.launching and run.state not in TERMINAL],
            "terminated_tasks": [v1_task(run) for run in runs if run.state in TERMINAL],
            "completed_tasks": [v1_task(run) for run in ended],
        }

    def executors(self) -> Json:
        """GET_EXECUTORS"""
        ended = [run for hosted in self.agent.frameworks.values() for run in hosted.completed]
        return {
            "executors": [v1_executor(run) for run in self.agent.runs.values()],
            "completed_executors": [v1_executor(run) for run in ended],
        }

    def metrics(self) -> dict[str, float]:
        """/metrics/snapshot: what can be said of a double."""
        agent = self.agent
        runs = list(agent.runs.values())
        total = legacy.amounts(agent.resources)
        used = legacy.amounts(each for run in agent.live() for each in with_executor(run))
        figures = {f"slave/{name}_total": total[name] for name in legacy.SCALARS}
        figures |= {f"slave/{name}_used": used[name] for name in legacy.SCALARS}
        for state in ("STAGING", "STARTING", "RUNNING", "KILLING"):
            figures[f"slave/tasks_{state.lower()}"] = float(sum(run.state == f"TASK_{state}" for run in runs))
        figures["slave/registered"] = float(bool(agent.id))
        figures["slave/uptime_secs"] = time.time() - agent.start_time
        return dict(sorted(figures.items()))

    def attached(self) -> dict[str, str]:
        """/files/debug: virtual paths and where they lead."""
        agent = self.agent
        if agent.work_dir is None:
            return {}
        runs = [*agent.runs.values(), *(run for hosted in agent.frameworks.values() for run in hosted.completed)]
        paths: dict[str, str] = {}
        for run in runs:
            real = str(agent.directory(run))
            virtual = f"/frameworks/{run.hosted.id}/executors/{run.executor_id}/runs/latest"
            paths |= {virtual: real, real: real, real.rpartition("/")[0] + "/latest": real}
        return dict(sorted(paths.items()))


def with_executor(run: Run) -> list[Json]:
    """The resources of a task and of the executor the agent adds."""
    own: list[Json] = [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": EXECUTOR_CPUS}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": EXECUTOR_MEM}},
    ]
    return [*run.info["resources"], *([] if run.custom else own)]


def statistics(limits: Json, usage: processes.Usage) -> Json:
    """ResourceStatistics."""
    memory = int(limits["mem"] * 2**20)
    return {
        "cpus_soft_limit": limits["cpus"],
        "cpus_system_time_secs": usage.system_s,
        "cpus_user_time_secs": usage.user_s,
        "mem_limit_bytes": memory,
        "mem_rss_bytes": usage.rss,
        "mem_soft_limit_bytes": memory,
        "timestamp": time.time(),
    }


def v1_task(run: Run) -> Json:
    """A task in the notation of /api/v1."""
    return legacy.v1_task(run.info, run.hosted.id, run.state, run.statuses)


def v1_executor(run: Run) -> Json:
    """An ExecutorInfo in its wrapper."""
    command = run.command
    if not run.custom:
        arguments = ["mesos-executor", f"--launcher_dir={LAUNCHER_DIR}"]
        command = {"shell": False, "value": f"{LAUNCHER_DIR}/mesos-executor", "arguments": arguments}
    info = {
        "executor_id": {"value": run.executor_id},
        "framework_id": {"value": run.hosted.id},
        "command": command,
        "resources": [legacy.without_role(each) for each in run.info["resources"]],
        "name": legacy.executor_name(run.info),
        "source": run.task_id,
    }
    return {"executor_info": info}


def v1(kind: str, content: Any) -> Answer:
    """The answer to a GET call."""
    return document({"type": kind, kind.lower(): content})


def flag_list(flags: Mapping[str, str]) -> list[Json]:
    """Flags as v1 lists them."""
    return [{"name": name, "value": value} for name, value in flags.items()]


NEEDS_CONTENT = frozenset(
    {
        "LIST_FILES",
        "READ_FILE",
        "GET_METRICS",
        "SET_LOGGING_LEVEL",
        "DRAIN_AGENT",
        "DEACTIVATE_AGENT",
        "REACTIVATE_AGENT",
        "MARK_AGENT_GONE",
        "TEARDOWN",
    }
)
"""Calls with a message of the same name."""


def answer_call(body: bytes, calls: Mapping[str, Callable[[Json], Answer]], who: str) -> Answer:
    """Parse a v1 call, and let the one of ``calls`` for its type answer.

    Args:
        who: ``master`` or ``agent``, for the texts of errors.
    """
    try:
        call = json.loads(body)
    except ValueError:
        return bad_request("Failed to parse body into JSON: syntax error at line 1 near: ")
    if not isinstance(call, dict):
        return bad_request("Failed to convert JSON into Call protobuf: Expecting a JSON object")
    kind = str(call.get("type"))
    if kind not in calls:
        return bad_request(f"Failed to validate {who}::Call: Expecting 'type' to be present")
    if kind in NEEDS_CONTENT and kind.lower() not in call:
        return bad_request(f"Failed to validate {who}::Call: Expecting '{kind.lower()}' to be present")
    return calls[kind](call)
