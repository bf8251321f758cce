"""The operator API of the double's master: /state and its kin, and the calls of /api/v1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from . import legacy, views
from .agent_api import answer_call, compressed, flag_list, v1
from .answers import Answer, bad_request, document, empty, method_not_allowed, text
from .model import Framework, Handler, Json, MasterState, TaskRecord
from .operator_stream import OperatorStreams

METRICS_INTERVAL_S = 0.5
"""/metrics/snapshot takes two requests a second; others wait."""

TASKS_LIMIT = 100

PAGE = b"<!DOCTYPE html><html><head><title>Mesos</title></head><body>A double of a Mesos master.</body></html>"
"""Instead of the web interface."""

Query = Mapping[str, str]


def install(master: MasterState) -> OperatorStreams:
    """Give a master its operator API; what it gives is told of events as long as somebody subscribes."""
    return OperatorApi(master).streams


class OperatorApi:
    """Answers for one master."""

    def __init__(self, master: MasterState) -> None:
        self.master = master
        self.streams = OperatorStreams(master, self.get_state)
        self._metrics_free = 0.0
        gets: dict[str, Callable[[Query], Any]] = {
            "/state": lambda query: self.state(),
            "/slaves": lambda query: self.slaves(query.get("slave_id"), full=True),
            "/tasks": self.tasks,
            "/roles": lambda query: {"roles": self.roles()},
            "/frameworks": lambda query: self.frameworks(query.get("framework_id")),
            "/state-summary": lambda query: self.summary(),
            "/maintenance/status": lambda query: {},
            "/maintenance/schedule": lambda query: {},
            "/quota": lambda query: {},
            "/weights": lambda query: [],
        }
        for path, get in gets.items():
            master.routes[path] = self._documents(get)
        for path in ("/files/read", "/files/browse"):
            master.routes[path] = self._nothing_attached
        master.routes["/teardown"] = self._teardown
        master.routes["/api/v1"] = self._api
        master.local["/health"] = _plain(lambda: empty())
        master.local["/version"] = _plain(lambda: document(legacy.VERSION))
        master.local["/flags"] = _plain(lambda: document({"flags": self.flags()}))
        master.local["/metrics/snapshot"] = self._metrics
        master.local["/files/debug"] = _plain(lambda: document({}))
        master.local["/"] = _plain(lambda: Answer(200, PAGE, "text/html"))
        self._calls = self._v1_calls()

    def _documents(self, get: Callable[[Query], Any]) -> Handler:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            answer = document(get(request.query))
            padding = request.query.get("jsonp")
            if padding:
                answer = Answer(200, padding.encode() + b"(" + answer._text + b")", "text/javascript")
            return compressed(answer, request)

        return handle

    async def _nothing_attached(self, request: web.BaseRequest) -> web.StreamResponse:
        """A master without a log has no files."""
        return bad_request("Expecting 'path=value' in query.\n") if "path" not in request.query else text(404, "")

    async def _teardown(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return method_not_allowed(request.method)
        wanted = parse_qs((await request.read()).decode(errors="replace")).get("frameworkId")
        if not wanted:
            return bad_request("Missing 'frameworkId' query parameter in the request body")
        return empty() if self.master.teardown(wanted[0]) else bad_request("No framework found with specified ID")

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        now = time.monotonic()
        turn = max(now, self._metrics_free)
        self._metrics_free = turn + METRICS_INTERVAL_S
        await asyncio.sleep(turn - now)
        return compressed(document(self.metrics()), request)

    # -- older endpoints ---------------------------------------------------------------------------------------

    def flags(self) -> dict[str, str]:
        """Those that say something about a double."""
        timing = self.master.timing
        return {
            "agent_ping_timeout": f"{timing.agent_ping_timeout:g}secs",
            "agent_reregister_timeout": f"{timing.agent_reregister_timeout:g}secs",
            "allocation_interval": f"{timing.allocation_interval:g}secs",
            "filter_gpu_resources": "true",
            "hostname_lookup": "false",
            "ip": self.master.ip,
            "max_agent_ping_timeouts": str(timing.max_agent_ping_timeouts),
            "port": str(self.master.port),
            "version": "false",
        }

    def state(self) -> Json:
        """/state"""
        master, info = self.master, self.master.master_info
        agents = list(master.agents.values())
        return {
            **legacy.VERSION_INFO,
            "start_time": master.start_time,
            "elected_time": master.elected_time,
            "id": info["id"],
            "pid": info["pid"],
            "hostname": info["hostname"],
            "capabilities": [each["type"] for each in info["capabilities"]],
            "activated_slaves": float(sum(agent.active and agent.connected for agent in agents)),
            "deactivated_slaves": float(sum(not (agent.active and agent.connected) for agent in agents)),
            "unreachable_slaves": float(len(master.unreachable)),
            "leader": info["pid"],
            "leader_info": {name: info[name] for name in ("id", "pid", "port", "hostname")},
            "flags": self.flags(),
            **self.slaves(None, full=False),
            "frameworks": [self._framework(each) for each in master.frameworks.values()],
            "completed_frameworks": [self._framework(each) for each in master.completed_frameworks],
            "orphan_tasks": [],
            "unregistered_frameworks": [],
        }

    def slaves(self, agent_id: str | None, *, full: bool) -> Json:
        """/slaves, with ``full``; without it as part of /state."""
        agents = [each for each in self.master.agents.values() if agent_id in (None, each.id)]
        recovered = [each for each in self.master.recovered.values() if agent_id in (None, each.id)]
        return {
            "slaves": [views.slave(self.master, agent, full) for agent in agents],
            "recovered_slaves": [views.recovered_slave(agent) for agent in recovered],
        }

    def tasks(self, query: Query) -> Json:
        """/tasks: of all frameworks, newest first."""
        found = [
            (framework, task)
            for framework in self._all_frameworks()
            if query.get("framework_id") in (None, framework.id)
            for task in (*framework.tasks.values(), *framework.unreachable_tasks.values(), *framework.completed_tasks)
            if query.get("task_id") in (None, task.id)
        ]
        found.sort(key=lambda each: views.first_seen(each[1]), reverse=query.get("order") != "asc")
        first = int(query.get("offset", 0))
        page = found[first : first + int(query.get("limit", TASKS_LIMIT))]
        return {"tasks": [views.task(task) for framework, task in page]}

    def _all_frameworks(self) -> list[Framework]:
        return [*self.master.frameworks.values(), *self.master.completed_frameworks]

    def frameworks(self, framework_id: str | None) -> Json:
        """/frameworks"""

        def told(frameworks: Iterable[Framework]) -> list[Json]:
            return [self._framework(each) for each in frameworks if framework_id in (None, each.id)]

        master = self.master
        return {
            "frameworks": told(master.frameworks.values()),
            "completed_frameworks": told(master.completed_frameworks),
            "unregistered_frameworks": [],
        }

    def _framework(self, framework: Framework) -> Json:
        return views.framework(framework)

    def summary(self) -> Json:
        """/state-summary"""
        frameworks = list(self.master.frameworks.values())
        where: dict[str, list[TaskRecord]] = {}
        for framework in frameworks:
            for task in (*framework.tasks.values(), *framework.unreachable_tasks.values(), *framework.completed_tasks):
                where.setdefault(task.agent_id, []).append(task)
        return {
            "hostname": self.master.master_info["hostname"],
            "slaves": [
                views.slave_summary(self.master, agent, where.get(agent.id, []))
                for agent in self.master.agents.values()
            ],
            "frameworks": [views.framework_summary(each) for each in frameworks],
        }

    def roles(self) -> list[Json]:
        """/roles: those that frameworks have."""
        members: dict[str, list[Framework]] = {}
        for framework in self.master.frameworks.values():
            for role in framework.roles:
                members.setdefault(role, []).append(framework)
        return [views.role(role, frameworks) for role, frameworks in sorted(members.items())]

    def metrics(self) -> dict[str, float]:
        """/metrics/snapshot: what can be said of a double."""
        master = self.master
        tasks = [task for each in master.frameworks.values() for task in each.tasks.values()]
        ended = [task for each in self._all_frameworks() for task in each.completed_tasks]
        total = legacy.amounts(each for agent in master.agents.values() for each in agent.link.resources)
        used = legacy.amounts(each for task in tasks if not task.terminal for each in task.info["resources"])
        figures = {f"master/{name}_total": total[name] for name in legacy.SCALARS}
        figures |= {f"master/{name}_used": used[name] for name in legacy.SCALARS}
        figures |= {f"master/tasks_{name.lower()}": 0.0 for name in views.STATES}
        for task in (*tasks, *ended):
            name = f"master/tasks_{task.state.removeprefix('TASK_').lower()}"
            figures[name] = figures.get(name, 0.0) + 1
        figures |= {
            "master/elected": float(master.leading),
            "master/frameworks_active": float(sum(each.active for each in master.frameworks.values())),
            "master/frameworks_connected": float(sum(each.connected for each in master.frameworks.values())),
            "master/outstanding_offers": float(len(master.offers)),
            "master/slaves_active": float(sum(each.active for each in master.agents.values())),
            "master/slaves_connected": float(sum(each.connected for each in master.agents.values())),
            "master/slaves_unreachable": float(len(master.unreachable)),
            "master/uptime_secs": time.time() - master.start_time,
        }
        return dict(sorted(figures.items()))

    # -- /api/v1 -----------------------------------------------------------------------------------------------

    async def _api(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return method_not_allowed(request.method)
        kind = request.headers.get("Content-Type")
        if kind is None:
            return bad_request("Expecting 'Content-Type' to be present")
        if kind not in ("application/json", "application/x-protobuf"):
            expected = "Expecting 'Content-Type' of application/json or application/x-protobuf"
            return text(415, expected)
        body = await request.read()
        if b"SUBSCRIBE" in body:
            stream = self.streams.subscribe(body, request)
            if stream is not None:
                return stream
        return compressed(answer_call(body, self._calls, "master"), request)

    def _v1_calls(self) -> dict[str, Callable[[Json], Answer]]:
        master = self.master
        contents: dict[str, Callable[[], Any]] = {
            "GET_HEALTH": lambda: {"healthy": True},
            "GET_VERSION": lambda: {"version_info": legacy.VERSION_INFO},
            "GET_FLAGS": lambda: {"flags": flag_list(self.flags())},
            "GET_MASTER": lambda: {
                "master_info": master.master_info,
                "start_time": master.start_time,
                "elected_time": master.elected_time,
            },
            "GET_AGENTS": self.get_agents,
            "GET_FRAMEWORKS": self.get_frameworks,
            "GET_TASKS": self.get_tasks,
            "GET_EXECUTORS": lambda: {"executors": []},
            "GET_ROLES": lambda: {"roles": [views.v1_role(each) for each in self.roles()]},
            "GET_STATE": self.get_state,
            "GET_QUOTA": lambda: {"status": {}},
            "GET_MAINTENANCE_STATUS": lambda: {"status": {}},
            "GET_LOGGING_LEVEL": lambda: {"level": 0},
            "GET_METRICS": lambda: {
                "metrics": [{"name": name, "value": value} for name, value in self.metrics().items()]
            },
        }
        calls = {kind: _v1_call(kind, content) for kind, content in contents.items()}
        calls["GET_WEIGHTS"] = lambda call: document({"type": "GET_WEIGHTS"})
        calls["LIST_FILES"] = calls["READ_FILE"] = lambda call: text(404, "")
        calls["TEARDOWN"] = lambda call: (
            empty()
            if master.teardown(call["teardown"]["framework_id"]["value"])
            else bad_request("No framework found with specified ID")
        )
        calls["DEACTIVATE_AGENT"] = self._on_agent("deactivate_agent", master.deactivate)
        calls["REACTIVATE_AGENT"] = self._on_agent("reactivate_agent", master.reactivate)
        calls["MARK_AGENT_GONE"] = self._on_agent("mark_agent_gone", master.mark_gone)
        calls["DRAIN_AGENT"] = lambda call: self._drain(call["drain_agent"])
        return calls

    def _on_agent(self, content: str, act: Callable[[str], bool]) -> Callable[[Json], Answer]:
        def answer(call: Json) -> Answer:
            agent_id = call[content]["agent_id"]["value"]
            return empty() if act(agent_id) else unknown_agent(agent_id)

        return answer

    def _drain(self, content: Json) -> Answer:
        agent_id = content["agent_id"]["value"]
        if not self.master.drain(agent_id, content):
            return unknown_agent(agent_id)
        record = self.master.agents.get(agent_id)
        if record is not None and record.draining is not None:
            record.draining.setdefault("start_time", time.time())
        return empty()

    def get_agents(self) -> Json:
        """GET_AGENTS"""
        return {
            "agents": [views.agent(self.master, each) for each in self.master.agents.values()],
            "recovered_agents": [views.agent_info(each) for each in self.master.recovered.values()],
        }

    def get_frameworks(self) -> Json:
        """GET_FRAMEWORKS"""
        return {
            "frameworks": [views.v1_framework(self.master, each) for each in self.master.frameworks.values()],
            "completed_frameworks": [
                views.v1_framework(self.master, each) for each in self.master.completed_frameworks
            ],
        }

    def get_tasks(self) -> Json:
        """GET_TASKS"""
        frameworks = self.master.frameworks.values()
        everybody = self._all_frameworks()
        return {
            "tasks": [views.v1_task(task) for each in frameworks for task in each.tasks.values()],
            "unreachable_tasks": [
                views.v1_task(task) for each in frameworks for task in each.unreachable_tasks.values()
            ],
            "completed_tasks": [views.v1_task(task) for each in everybody for task in each.completed_tasks],
        }

    def get_state(self) -> Json:
        """GET_STATE"""
        return {
            "get_tasks": self.get_tasks(),
            "get_executors": {"executors": []},
            "get_frameworks": self.get_frameworks(),
            "get_agents": self.get_agents(),
        }


def unknown_agent(agent_id: str) -> Answer:
    """Of an action on an agent."""
    return bad_request(f"Agent {agent_id} not found")


def _plain(answer: Callable[[], Answer]) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return compressed(answer(), request)

    return handle


def _v1_call(kind: str, content: Callable[[], Any]) -> Callable[[Json], Answer]:
    return lambda call: v1(kind, content())
