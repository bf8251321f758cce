"""The task statuses that the master itself makes; none has a uuid."""

from __future__ import annotations

import time

from .answers import encode
from .model import Framework, Json, TaskRecord

ONLY_PARTITION_AWARE = frozenset(
    {"TASK_DROPPED", "TASK_UNREACHABLE", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_UNKNOWN"}
)


def state_for(framework: Framework, state: str) -> str:
    """A state in the words a framework understands."""
    return "TASK_LOST" if state in ONLY_PARTITION_AWARE and not framework.partition_aware else state


def made(
    framework: Framework,
    task_id: str,
    state: str,
    message: str,
    reason: str,
    agent_id: str | None,
    *,
    unreachable_time: int | None = None,
    container: Json | None = None,
) -> Json:
    """A TaskStatus of the master's own. ``unreachable_time`` is in nanoseconds."""
    status: Json = {
        "task_id": {"value": task_id},
        "state": state_for(framework, state),
        "message": message,
        "source": "SOURCE_MASTER",
        "reason": reason,
    }
    if agent_id:
        status["agent_id"] = {"value": agent_id}
    status["timestamp"] = time.time()
    if container is not None:
        status["container_status"] = container
    if unreachable_time is not None:
        status["unreachable_time"] = {"nanoseconds": unreachable_time}
    return status


def container_of(task: TaskRecord) -> Json | None:
    """The container that the last status told of."""
    for status in reversed(task.statuses):
        if "container_status" in status:
            return dict(status["container_status"])
    return None


def remember(task: TaskRecord, status: Json) -> None:
    """Add to a task's history; of one state only the last status is kept."""
    if task.statuses and task.statuses[-1]["state"] == status["state"]:
        task.statuses.pop()
    task.statuses.append(status)
    task.status_state = status["state"]
    task.status_uuid = status.get("uuid")


def update_event(status: Json) -> bytes:
    """UPDATE."""
    return b'{"type":"UPDATE","update":{"status":' + encode(status) + b"}}"


def rescind_event(offer_id: str) -> bytes:
    """RESCIND."""
    return encode({"type": "RESCIND", "rescind": {"offer_id": {"value": offer_id}}})


def failure_event(agent_id: str) -> bytes:
    """FAILURE of an agent."""
    return encode({"type": "FAILURE", "failure": {"agent_id": {"value": agent_id}}})


def error_event(message: str) -> bytes:
    """ERROR; the stream ends after it."""
    return encode({"type": "ERROR", "error": {"message": message}})
