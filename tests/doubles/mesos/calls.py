"""The calls of the scheduler API: what each does, once it is known to be well-formed and from the right stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from . import statuses, validation
from .allocator import Bundle
from .answers import Stream, encode
from .core import HEARTBEAT
from .membership import Membership
from .model import TERMINAL, AgentRecord, Framework, Json, OfferRecord, TaskRecord


class Calls(Membership):
    """Frameworks, and what they ask for."""

    # -- subscription ----------------------------------------------------------------------------------------------

    def subscribe(self, call: Json, stream: Stream, stream_id: str, principal: str | None) -> None:
        """SUBSCRIBE, on a stream that is open: SUBSCRIBED and HEARTBEAT, or ERROR and the end."""
        info = call["subscribe"]["framework_info"]
        framework_id = info.get("id", {}).get("value", "")
        problem = validation.framework_error(info)
        if problem is None and framework_id in self._removed:
            problem = "Framework has been removed"
        if problem is not None:
            stream.write(statuses.error_event(problem))
            stream.end()
            return
        known = self.frameworks.get(framework_id) if framework_id else None
        taken_over = known is not None and known.connected
        framework = self._returning(known, info) if known is not None else self._new(framework_id, info)
        framework.stream_id, framework.principal = stream_id, principal
        framework.suppressed = set(call["subscribe"].get("suppressed_roles", ()))
        framework.connected = framework.active = True
        framework.recovered = False
        self.observe("FRAMEWORK_ADDED" if known is None else "FRAMEWORK_UPDATED", framework)
        self._welcome(framework, stream)
        if not taken_over:
            self.later(self.timing.first_offer, self.allocate)
        if known is not None:
            self._redeliver(framework)

    def _new(self, framework_id: str, info: Json) -> Framework:
        framework = Framework(framework_id or f"{self.id}-{self._next('framework'):04d}", info)
        self.frameworks[framework.id] = framework
        return framework

    def _returning(self, framework: Framework, info: Json) -> Framework:
        old = self.streams.pop(framework.id, None)
        if old is not None:
            old.write(statuses.error_event("Framework failed over"))
            old.end()
            self._deactivate(framework)
        framework.learn(info)
        framework.reregistered_time = time.time()
        return framework

    def _welcome(self, framework: Framework, stream: Stream) -> None:
        self.streams[framework.id] = stream
        stream.lost = lambda: self._stream_lost(framework, stream)
        subscribed = {
            "framework_id": {"value": framework.id},
            "heartbeat_interval_seconds": float(self.timing.heartbeat),
            "master_info": self.master_info,
        }
        stream.write(encode({"type": "SUBSCRIBED", "subscribed": subscribed}))
        stream.write(HEARTBEAT)
        self.later(self.timing.heartbeat, self._heartbeat, framework.id, stream)

    def _redeliver(self, framework: Framework) -> None:
        for agent_id in {task.agent_id for task in framework.tasks.values()}:
            record = self.agents.get(agent_id)
            if record is not None and record.connected:
                record.link.framework_updated(framework.id)

    def _stream_lost(self, framework: Framework, stream: Stream) -> None:
        """The connection went: the framework is given its failover timeout."""
        if self.streams.get(framework.id) is not stream:
            return
        del self.streams[framework.id]
        self._deactivate(framework)
        self._await_failover(framework)

    def _deactivate(self, framework: Framework) -> None:
        """Take its offers back without a word."""
        framework.connected = framework.active = False
        framework.stream_id = ""
        for offer in list(framework.offers.values()):
            self.take_back(offer)
        self.allocator.clear_filters(framework.id)

    def _await_failover(self, framework: Framework) -> None:
        since = framework.reregistered_time
        self.later(framework.failover_timeout * self.timing.scale, self._failover_timed_out, framework, since)

    def _failover_timed_out(self, framework: Framework, since: float | None) -> None:
        gone = not framework.connected and framework.reregistered_time == since
        if gone and self.frameworks.get(framework.id) is framework:
            self._remove_framework(framework)

    def _remove_framework(self, framework: Framework) -> None:
        """End its stream without an event, kill its tasks."""
        stream = self.streams.pop(framework.id, None)
        if stream is not None:
            stream.end()
        agents = {task.agent_id for task in framework.tasks.values()} & self.agents.keys()
        self._deactivate(framework)
        for task in list(framework.tasks.values()):
            self._kill_with(framework, task)
        for agent_id in agents:
            self.agents[agent_id].link.shutdown_framework(framework.id)
        framework.completed_tasks.extend(framework.unreachable_tasks.values())
        framework.unreachable_tasks.clear()
        framework.unregistered_time = time.time()
        del self.frameworks[framework.id]
        self._removed.add(framework.id)
        self.completed_frameworks.append(framework)
        self.observe("FRAMEWORK_REMOVED", framework)

    def _kill_with(self, framework: Framework, task: TaskRecord) -> None:
        message = f"Framework {framework.id} removed"
        if not task.terminal:
            status = statuses.made(
                framework, task.id, "TASK_KILLED", message, "REASON_FRAMEWORK_REMOVED", task.agent_id
            )
            self.set_state(task, status, "TASK_KILLED")
        self.remove_task(framework, task)

    def teardown(self, framework_id: str) -> bool:
        """Remove a framework."""
        framework = self.frameworks.get(framework_id)
        if framework is None:
            return False
        self._remove_framework(framework)
        return True

    # -- calls -----------------------------------------------------------------------------------------------------

    def call(self, framework: Framework, call: Json) -> None:
        """Do what a call says; its answer is 202 whatever comes of it."""
        kind = call["type"]
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(self, framework, call)

    def _teardown(self, framework: Framework, call: Json) -> None:
        self._remove_framework(framework)

    def _decline(self, framework: Framework, call: Json) -> None:
        decline = call["decline"]
        for each in decline.get("offer_ids", ()):
            offer = framework.offers.get(each["value"])
            if offer is not None:
                self.take_back(offer)
                self.refuse(framework, offer.role, offer.agent_id, offer.amount, decline.get("filters"))

    def _revive(self, framework: Framework, call: Json) -> None:
        roles = call.get("revive", {}).get("roles")
        framework.suppressed.difference_update(roles or list(framework.suppressed))
        self.allocator.clear_filters(framework.id, roles or None)
        self.allocate()

    def _suppress(self, framework: Framework, call: Json) -> None:
        framework.suppressed.update(call.get("suppress", {}).get("roles") or framework.roles)

    def _kill(self, framework: Framework, call: Json) -> None:
        kill = call["kill"]
        task = framework.tasks.get(kill["task_id"]["value"])
        if task is None:
            self._reconcile_task(framework, kill)
            return
        task.killed = True
        record = self.agents.get(task.agent_id)
        if record is not None and record.connected:
            record.link.kill(framework.id, task.id)

    def _acknowledge(self, framework: Framework, call: Json) -> None:
        acknowledge = call["acknowledge"]
        record = self.agents.get(acknowledge["agent_id"]["value"])
        if record is None or not record.connected:
            return
        task_id, uuid = acknowledge["task_id"]["value"], acknowledge["uuid"]
        task = record.tasks.get((framework.id, task_id))
        if task is not None and task.status_uuid == uuid:
            task.unacknowledged = None
            if task.status_state in TERMINAL:
                self.remove_task(framework, task)
        record.link.acknowledge(framework.id, task_id, uuid)

    def _update_framework(self, framework: Framework, call: Json) -> None:
        update = call["update_framework"]
        framework.learn(update["framework_info"])
        framework.suppressed = set(update.get("suppressed_roles", ()))
        self.rescind([each for each in framework.offers.values() if each.role not in framework.roles])
        self.observe("FRAMEWORK_UPDATED", framework)

    # -- reconciliation --------------------------------------------------------------------------------------------

    def _reconcile(self, framework: Framework, call: Json) -> None:
        tasks = call["reconcile"].get("tasks", ())
        if tasks:
            for each in tasks:
                self._reconcile_task(framework, each)
            return
        for task in framework.tasks.values():
            self._tell_latest(framework, task)

    def _reconcile_task(self, framework: Framework, asked: Json) -> None:
        task_id = asked["task_id"]["value"]
        agent_id = asked.get("agent_id", {}).get("value")
        task = framework.tasks.get(task_id)
        if task is not None:
            self._tell_latest(framework, task)
            return
        if agent_id in self.recovered or (agent_id is None and self.recovered):
            return
        state, message, since = self._whereabouts(agent_id)
        status = statuses.made(
            framework,
            task_id,
            state,
            f"Reconciliation: Task is {message}",
            "REASON_RECONCILIATION",
            agent_id,
            unreachable_time=since,
        )
        self.tell(framework, status)

    def _whereabouts(self, agent_id: str | None) -> tuple[str, str, int | None]:
        """Of a task that the master does not have: state, words, since when its agent is unreachable."""
        if agent_id in self.agents:
            return "TASK_GONE", "unknown to the agent", None
        if agent_id in self.unreachable:
            return "TASK_UNREACHABLE", "unreachable", self.unreachable[agent_id].unreachable_time
        if agent_id in self.gone:
            return "TASK_GONE_BY_OPERATOR", "gone", None
        return "TASK_UNKNOWN", "unknown", None

    def _tell_latest(self, framework: Framework, task: TaskRecord) -> None:
        status = statuses.made(
            framework,
            task.id,
            task.status_state or task.state,
            "Reconciliation: Latest task state",
            "REASON_RECONCILIATION",
            task.agent_id,
            container=statuses.container_of(task),
        )
        self.tell(framework, status)

    # -- ACCEPT ----------------------------------------------------------------------------------------------------

    def _accept(self, framework: Framework, call: Json) -> None:
        accept = call["accept"]
        ids = [each["value"] for each in accept.get("offer_ids", ())]
        offers = [framework.offers[each] for each in dict.fromkeys(ids) if each in framework.offers]
        problem = self._offers_error(framework, ids)
        for offer in offers:
            self.take_back(offer, recover=problem is not None)
        if problem is not None:
            for info in _tasks_of(accept):
                self._drop(framework, info, problem)
            return
        launch = _Launch(self, framework, offers)
        for operation in accept.get("operations", ()):
            launch.operate(operation)
        self._return_rest(framework, offers, launch.left, accept.get("filters"))

    def _return_rest(self, framework: Framework, offers: list[OfferRecord], left: Bundle, filters: Json | None) -> None:
        if left:
            role, agent_id = offers[0].role, offers[0].agent_id
            self.allocator.recover(agent_id, role, left)
            self.refuse(framework, role, agent_id, left, filters)

    def _offers_error(self, framework: Framework, ids: list[str]) -> str | None:
        if not ids:
            return "No offers specified"
        seen: set[str] = set()
        for each in ids:
            if each in seen:
                return f"Duplicate offer {each} in offer list"
            seen.add(each)
        for each in ids:
            if each not in framework.offers:
                return f"Offer {each} is no longer valid"
        first = framework.offers[ids[0]]
        for each in ids[1:]:
            offer = framework.offers[each]
            if offer.agent_id != first.agent_id:
                used = f"Offer {each} uses agent {offer.agent_id} and agent {first.agent_id}"
                return f"Aggregated offers must belong to one single agent. {used}"
            if offer.role != first.role:
                used = f"Offer {each} uses role {offer.role} but another is being offered to role {first.role}"
                return f"Aggregated offers must be allocated to the same role. {used}"
        return None

    def _drop(self, framework: Framework, info: Json, problem: str) -> None:
        status = statuses.made(
            framework,
            info["task_id"]["value"],
            "TASK_DROPPED",
            f"Task launched with invalid offers: {problem}",
            "REASON_INVALID_OFFERS",
            info.get("agent_id", {}).get("value"),
        )
        self.tell(framework, status)

    _handlers: ClassVar[dict[str, Callable[[Calls, Framework, Json], None]]] = {
        "TEARDOWN": _teardown,
        "ACCEPT": _accept,
        "DECLINE": _decline,
        "REVIVE": _revive,
        "SUPPRESS": _suppress,
        "KILL": _kill,
        "ACKNOWLEDGE": _acknowledge,
        "RECONCILE": _reconcile,
        "UPDATE_FRAMEWORK": _update_framework,
    }


class _Launch:
    """The operations of one ACCEPT on the offers of one agent; ``left`` is what they have not used."""

    def __init__(self, master: Calls, framework: Framework, offers: list[OfferRecord]) -> None:
        self.master, self.framework = master, framework
        self.agent: AgentRecord = master.agents[offers[0].agent_id]
        self.role = offers[0].role
        self.left = offers[0].amount.copy()
        for offer in offers[1:]:
            self.left.add(offer.amount)

    def operate(self, operation: Json) -> None:
        """LAUNCH and LAUNCH_GROUP; reservations and volumes are not in this double."""
        if operation.get("type") == "LAUNCH":
            for info in operation["launch"]["task_infos"]:
                self._launch(validation.normalised(info, self.role))
        elif operation.get("type") == "LAUNCH_GROUP":
            group = operation["launch_group"]
            self._launch_group([{**info, "executor": group["executor"]} for info in group["task_group"]["tasks"]])

    def _launch(self, info: Json) -> None:
        need = _need(info)
        problem = self._problem(info, need)
        if problem is None:
            self._start(info, need)
        else:
            self._refuse(info, problem)

    def _launch_group(self, tasks: list[Json]) -> None:
        """All of them or none."""
        infos = [validation.normalised({k: v for k, v in info.items() if k != "executor"}, self.role) for info in tasks]
        executor = {**tasks[0]["executor"]}
        executor["resources"] = validation.normalised(executor, self.role)["resources"]
        total = Bundle.of([*executor["resources"], *(each for info in infos for each in info["resources"])])
        problems = [self._problem(info, _need(info)) for info in infos]
        if any(problems) or not self.left.contains(total):
            for info in infos:
                self._refuse(info, next((each for each in problems if each), "Task group needs more than available"))
            return
        for index, info in enumerate(infos):
            need = Bundle.of([*info["resources"], *(executor["resources"] if index == 0 else ())])
            self._start({**info, "executor": executor}, need)

    def _problem(self, info: Json, need: Bundle) -> str | None:
        order = self.master.allocator.slots[self.agent.id].order
        return validation.task_error(self.framework, info, self.agent.id) or validation.shortage(
            info, need, self.left, self.role, order
        )

    def _start(self, info: Json, need: Bundle) -> None:
        self.left.subtract(need)
        task = TaskRecord(info, self.framework.id, self.agent.id, amount=need)
        self.framework.tasks[task.id] = self.agent.tasks[self.framework.id, task.id] = task
        self.master.observe("TASK_ADDED", task)
        self.agent.link.launch(self.framework, info)

    def _refuse(self, info: Json, problem: str) -> None:
        status = statuses.made(
            self.framework,
            info["task_id"]["value"],
            "TASK_ERROR",
            problem,
            "REASON_TASK_INVALID",
            info["agent_id"]["value"],
        )
        self.master.tell(self.framework, status)


def _need(info: Json) -> Bundle:
    """What a task takes, with its executor if it brings one. Amounts that are refused later do not matter here."""
    return Bundle.of([*info["resources"], *info.get("executor", {}).get("resources", ())])


def _tasks_of(accept: Json) -> Iterable[Json]:
    for operation in accept.get("operations", ()):
        yield from operation.get("launch", {}).get("task_infos", ())
        yield from operation.get("launch_group", {}).get("task_group", {}).get("tasks", ())
