"""The master's side of its agents: registration, updates, loss and return, what operators do to them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from . import statuses
from .allocator import Bundle
from .answers import encode
from .core import Core
from .model import TERMINAL, AgentLink, AgentRecord, Framework, HeldTask, Json, TaskRecord


class Membership(Core):
    """What agents call, and what happens to them."""

    # -- coming ----------------------------------------------------------------------------------------------------

    def register(self, agent: AgentLink) -> bool:
        """A new agent."""
        if not self.ready:
            return False
        for old in [each for each in self.agents.values() if _address(each.link) == _address(agent)]:
            message = f"Agent {old.link.hostname} removed: a new agent registered at the same address"
            self._remove(old, "TASK_LOST", "REASON_AGENT_REMOVED", message)
        agent.id = f"{self.id}-S{self._next('agent')}"
        self._admit(AgentRecord(agent.id, agent), ())
        self.allocate()
        return True

    def reregister(self, agent: AgentLink, held: Iterable[HeldTask]) -> bool:
        """An agent is back."""
        if not self.ready:
            return False
        if agent.id in self.gone:
            agent.gone()
        elif agent.id in self.agents:
            self._back_in_time(self.agents[agent.id], list(held))
        else:
            self._back_too_late(agent, list(held))
        return True

    def _back_in_time(self, record: AgentRecord, held: list[HeldTask]) -> None:
        record.link.id = record.id
        record.connected = True
        record.reregistered_time = time.time()
        self._stop_pings(record.id)
        reported = {(each.framework["id"]["value"], each.info["task_id"]["value"]) for each in held}
        for each in held:
            self._reported_again(record, each)
        for framework_id in {key[0] for key in record.tasks}:
            infos = [task.info for key, task in record.tasks.items() if key[0] == framework_id and key not in reported]
            if infos:
                record.link.unknown_tasks(self.frameworks[framework_id], infos)
            record.link.framework_updated(framework_id)

    def _reported_again(self, record: AgentRecord, held: HeldTask) -> None:
        """A task of an agent that never was away for long."""
        framework_id, task_id = held.framework["id"]["value"], held.info["task_id"]["value"]
        if framework_id in self._removed:
            record.link.shutdown_framework(framework_id)
            return
        task = record.tasks.get((framework_id, task_id))
        if (task is None and held.state not in TERMINAL) or (task is not None and task.killed):
            record.link.kill(framework_id, task_id)

    def _back_too_late(self, link: AgentLink, held: list[HeldTask]) -> None:
        known = link.id in self.recovered
        unreachable = link.id in self.unreachable
        for table in (self.recovered, self.unreachable, self.registry.unreachable):
            table.pop(link.id, None)
        record = AgentRecord(link.id, link, reregistered_time=time.time())
        held = [each for each in held if not self._torn_down(link, each)]
        tasks = [self._adopt(link.id, each) for each in held]
        self._admit(record, tasks)
        if not known:
            message = "Unreachable agent re-reregistered" if unreachable else "Unknown agent reregistered"
            for task in tasks:
                self._tell_reregistered(task, message)
        self.allocate()
        for framework_id in {task.framework_id for task in tasks}:
            link.framework_updated(framework_id)

    def _torn_down(self, link: AgentLink, held: HeldTask) -> bool:
        framework_id = held.framework["id"]["value"]
        if framework_id in self._removed:
            link.shutdown_framework(framework_id)
            return True
        return False

    def _adopt(self, agent_id: str, held: HeldTask) -> TaskRecord:
        framework = self._framework_of(held.framework)
        task = TaskRecord(held.info, framework.id, agent_id, held.state, amount=Bundle.of(held.info["resources"]))
        for status in (*held.earlier, held.status):
            if status is not None:
                statuses.remember(task, status)
        framework.unreachable_tasks.pop(task.id, None)
        framework.tasks[task.id] = task
        return task

    def _framework_of(self, info: Json) -> Framework:
        """The framework of a task that an agent reports; one nobody knows yet is recovered."""
        framework_id = info["id"]["value"]
        if framework_id not in self.frameworks:
            framework = Framework(framework_id, info, recovered=True)
            self.frameworks[framework_id] = framework
            self._await_failover(framework)
        return self.frameworks[framework_id]

    def _await_failover(self, framework: Framework) -> None:
        """Start a framework's failover timeout."""

    def _tell_reregistered(self, task: TaskRecord, message: str) -> None:
        framework = self.frameworks[task.framework_id]
        status = statuses.made(
            framework,
            task.id,
            task.state,
            message,
            "REASON_AGENT_REREGISTERED",
            task.agent_id,
            container=statuses.container_of(task),
        )
        self.tell(framework, status)

    def _admit(self, record: AgentRecord, tasks: Iterable[TaskRecord]) -> None:
        running = [(task.role, task.amount) for task in tasks if not task.terminal]
        record.tasks.update({(task.framework_id, task.id): task for task in tasks})
        self.agents[record.id] = self.registry.agents[record.id] = record
        self.allocator.add_agent(record, running)
        self.observe("AGENT_ADDED", record)

    # -- updates ---------------------------------------------------------------------------------------------------

    def status_update(self, agent: AgentLink, framework_id: str, status: Json, latest: str) -> None:
        """Forward an update, and take it over. From agents and frameworks that are not known it is dropped."""
        record = self.agents.get(agent.id)
        framework = self.frameworks.get(framework_id)
        if not self.ready or record is None or framework is None:
            return
        task = record.tasks.get((framework_id, status["task_id"]["value"]))
        if framework.connected:
            if task is not None:
                task.unacknowledged = status.get("uuid")
            self.deliver(framework, status)
        if task is not None:
            self.set_state(task, status, latest)

    def executor_ended(self, agent: AgentLink, framework_id: str, executor_id: str, status: int) -> None:
        """FAILURE of an executor."""
        failure = {"agent_id": {"value": agent.id}, "executor_id": {"value": executor_id}, "status": status}
        if self.ready and agent.id in self.agents:
            self.send(framework_id, encode({"type": "FAILURE", "failure": failure}))

    # -- going -----------------------------------------------------------------------------------------------------

    def disconnected(self, agent: AgentLink) -> None:
        """The socket broke."""
        record = self.agents.get(agent.id)
        if record is None or not self.leading:
            return
        record.connected = False
        self.rescind(record.offers.values())
        message = f"Agent {record.link.hostname} disconnected"
        for task in list(record.tasks.values()):
            framework = self.frameworks[task.framework_id]
            if not framework.checkpoint:
                self._lose(framework, task, "TASK_LOST", "REASON_AGENT_DISCONNECTED", message)
        self.silent(agent)

    def silent(self, agent: AgentLink) -> None:
        """Start to count unanswered pings."""
        record = self.agents.get(agent.id)
        if record is not None and agent.id not in self._pings:
            self._pings[agent.id] = self.later(self.timing.unreachable_after, self._pinged_out, record)

    def answering(self, agent: AgentLink) -> None:
        """Stop counting. The agent registers again, in time or too late."""
        self._stop_pings(agent.id)

    def unregister(self, agent: AgentLink) -> None:
        """A graceful end."""
        record = self.agents.get(agent.id)
        if record is not None and self.ready:
            message = f"Agent {record.link.hostname} removed: the agent unregistered"
            self._remove(record, "TASK_LOST", "REASON_AGENT_REMOVED", message)

    def _stop_pings(self, agent_id: str) -> None:
        timer = self._pings.pop(agent_id, None)
        if timer is not None:
            timer.cancel()

    def _pinged_out(self, record: AgentRecord) -> None:
        self._pings.pop(record.id, None)
        record.unreachable_time = time.time_ns()
        self.unreachable[record.id] = self.registry.unreachable[record.id] = record
        self._remove(record, "TASK_UNREACHABLE", "REASON_AGENT_REMOVED", "health check timed out")

    def _remove(self, record: AgentRecord, state: str, reason: str, message: str) -> None:
        """Updates, RESCIND, FAILURE: in this order."""
        self._stop_pings(record.id)
        for task in list(record.tasks.values()):
            self._lose(self.frameworks[task.framework_id], task, state, reason, message, record.unreachable_time)
        self.rescind(record.offers.values())
        self.send_failure(record.id)
        self.agents.pop(record.id, None)
        self.registry.agents.pop(record.id, None)
        self.allocator.remove_agent(record.id)
        self.observe("AGENT_REMOVED", record)

    def _lose(
        self,
        framework: Framework,
        task: TaskRecord,
        state: str,
        reason: str,
        message: str,
        unreachable_time: int | None = None,
    ) -> None:
        """End a task by the loss of its agent; of one that ended the framework may not know that, so it is told too."""
        unreachable = state == "TASK_UNREACHABLE"
        since = unreachable_time if unreachable else None
        status = statuses.made(framework, task.id, state, message, reason, task.agent_id, unreachable_time=since)
        if task.terminal:
            self.tell(framework, status)
            self.remove_task(framework, task, unreachable=unreachable)
            return
        self.end_task(framework, task, status, unreachable=unreachable)
        if not task.terminal:
            # TASK_UNREACHABLE does not end a task; but its resources went with the agent.
            self.allocator.recover(task.agent_id, task.role, task.amount)

    # -- after a restart -------------------------------------------------------------------------------------------

    def recover_registry(self) -> None:
        """What a new leader learns from the registry: who the agents are, not what runs there."""
        if not self.registry.persistent:
            self.registry.forget()
        self.recovered = dict(self.registry.agents)
        self.unreachable = dict(self.registry.unreachable)
        self.gone = dict(self.registry.gone)
        self.later(self.timing.agent_reregister_timeout, self._give_up_recovered)

    def _give_up_recovered(self) -> None:
        for record in list(self.recovered.values()):
            del self.recovered[record.id]
            self.registry.agents.pop(record.id, None)
            record.unreachable_time = time.time_ns()
            self.unreachable[record.id] = self.registry.unreachable[record.id] = record
            self.send_failure(record.id)

    # -- operators -------------------------------------------------------------------------------------------------

    def deactivate(self, agent_id: str) -> bool:
        """No more offers."""
        record = self.agents.get(agent_id)
        if record is None:
            return False
        record.deactivated = True
        self.rescind(record.offers.values())
        return True

    def reactivate(self, agent_id: str) -> bool:
        """Offers again."""
        record = self.agents.get(agent_id)
        if record is None:
            return False
        record.deactivated = False
        record.draining = None
        return True

    def drain(self, agent_id: str, info: Json) -> bool:
        """No more offers, and its tasks are killed."""
        record = self.agents.get(agent_id)
        if record is None:
            return False
        config = {key: info[key] for key in ("max_grace_period", "mark_gone") if key in info}
        record.draining = {"state": "DRAINING", "config": config}
        record.deactivated = True
        self.rescind(record.offers.values())
        grace = info.get("max_grace_period")
        record.link.drain(None if grace is None else _seconds(grace))
        self._drained(record)
        return True

    def _drained(self, agent: AgentRecord) -> None:
        if agent.draining is not None and agent.draining["state"] == "DRAINING" and not agent.tasks:
            agent.draining["state"] = "DRAINED"
            if agent.draining["config"].get("mark_gone"):
                self.mark_gone(agent.id)

    def mark_gone(self, agent_id: str) -> bool:
        """Never to come back."""
        record = self.agents.get(agent_id) or self.unreachable.get(agent_id) or self.recovered.get(agent_id)
        if record is None:
            return False
        for table in (self.unreachable, self.recovered, self.registry.unreachable):
            table.pop(agent_id, None)
        self.gone[agent_id] = self.registry.gone[agent_id] = record
        if agent_id in self.agents:
            reason = "REASON_AGENT_REMOVED_BY_OPERATOR"
            self._remove(record, "TASK_GONE_BY_OPERATOR", reason, "Agent has been marked gone")
        record.link.gone()
        return True


def _address(agent: AgentLink) -> tuple[str, int, str]:
    return agent.ip, agent.port, agent.path


def _seconds(duration: Json) -> float:
    """Of the DurationInfo of a call: ``seconds`` in the operator API's JSON, ``nanoseconds`` elsewhere."""
    return float(duration.get("seconds", 0)) + float(duration.get("nanoseconds", 0)) / 1e9
