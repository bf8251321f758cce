"""A task on an agent: what is known of it, and the updates of it that nobody has acknowledged yet."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid as uuids
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from .executor import Executor
from .model import TERMINAL, Framework, Json


@cache
def network_infos(ip: str) -> list[Json]:
    """NetworkInfos of a container without a network of its own; one object for all tasks."""
    return [{"ip_addresses": [{"protocol": "IPv4", "ip_address": ip}]}]


EXECUTOR = "SOURCE_EXECUTOR"
AGENT = "SOURCE_AGENT"


class Told(NamedTuple):
    """What is to be told of a task."""

    state: str
    message: str | None = None
    reason: str | None = None
    source: str = EXECUTOR


@dataclass(slots=True, eq=False)
class Hosted:
    """A framework as an agent knows it; ``completed`` are its tasks that ended here."""

    id: str
    info: Json
    partition_aware: bool
    killing_state: bool
    checkpoint: bool
    roles: tuple[str, ...]
    completed: deque[Run]

    @classmethod
    def of(cls, framework: Framework, remembered: int) -> Hosted:
        """Learn a framework."""
        aware, killing = framework.partition_aware, framework.killing_state
        completed: deque[Run] = deque(maxlen=remembered)
        return cls(framework.id, framework.info, aware, killing, framework.checkpoint, framework.roles, completed)

    def state(self, state: str) -> str:
        """What an agent says instead of TASK_DROPPED to a framework that is not PARTITION_AWARE."""
        return "TASK_LOST" if state == "TASK_DROPPED" and not self.partition_aware else state


@dataclass(slots=True, eq=False)
class Run:
    """A task and its executor.

    Attributes:
        ids: agent_id and executor_id as a status has them; the same objects for all statuses.
        state: The latest, whether anybody was told of it or not.
        updates: Not acknowledged; the first one is being delivered.
        delivered: The update acknowledged last.
        statuses: The last update of each state.
        waiting: What the executor reported while the agent was away.
        ended: When the command ended, by the loop's clock.
        launching: The executor has not reported anything.
        running: The executor is still there; it lingers for a while after its command.
        delivery: The timer of the next delivery.
        interval: Until then, in seconds.
    """

    hosted: Hosted
    info: Json
    container_id: str
    ids: tuple[Json, Json]
    executor: Executor | None = None
    state: str = "TASK_STAGING"
    updates: list[Json] = field(default_factory=list)
    delivered: Json | None = None
    statuses: list[Json] = field(default_factory=list)
    waiting: list[Told] = field(default_factory=list)
    ended: float | None = None
    launching: bool = True
    running: bool = True
    delivery: asyncio.TimerHandle | None = None
    interval: float = 0.0
    container_status: Json | None = None

    @property
    def task_id(self) -> str:
        """Its id."""
        return str(self.info["task_id"]["value"])

    @property
    def key(self) -> tuple[str, str]:
        """Framework id and task id."""
        return self.hosted.id, self.task_id

    @property
    def executor_id(self) -> str:
        """The task's id, but for tasks with an executor of their own."""
        return str(self.ids[1]["value"])

    @property
    def custom(self) -> bool:
        """It has an executor of its own."""
        return "executor" in self.info

    @property
    def command(self) -> Json:
        """What is executed."""
        found: Json = self.info["executor"].get("command", {}) if self.custom else self.info.get("command", {})
        return found

    @property
    def told_all(self) -> bool:
        """It ended, and its last update is acknowledged."""
        return self.state in TERMINAL and not self.updates

    def update(self, told: Told, ip: str) -> Json:
        """A TaskStatus of this task, with a new uuid; it waits for delivery from now on."""
        state = self.hosted.state(told.state)
        status: Json = {"task_id": self.info["task_id"], "state": state}
        if told.message is not None:
            status["message"] = told.message
        status["source"] = told.source
        if told.reason is not None:
            status["reason"] = told.reason
        status["agent_id"], status["executor_id"] = self.ids
        status["timestamp"] = time.time()
        status["uuid"] = base64.b64encode(uuids.uuid4().bytes).decode()
        if told.source == EXECUTOR:
            status["container_status"] = self.container(ip)
        self.updates.append(status)
        self.statuses = [each for each in self.statuses if each["state"] != state]
        self.statuses.append(status)
        return status

    def container(self, ip: str) -> Json:
        """ContainerStatus: the same object for all updates."""
        if self.container_status is None:
            self.container_status = {
                "container_id": {"value": self.container_id},
                "network_infos": network_infos(ip),
                "executor_pid": self.executor.pid if self.executor else 0,
            }
        return self.container_status

    def cancel_delivery(self) -> None:
        """Deliver nothing more until told to."""
        if self.delivery is not None:
            self.delivery.cancel()
            self.delivery = None
