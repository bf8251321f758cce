"""How an agent starts a task: what it refuses, the sandbox, the environment, the executor."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from .executor import Launch, RealExecutor, Report
from .model import Timing
from .run import AGENT, Run, Told

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Directory = Callable[[Run], Path]


def refusal(run: Run, images: bool, directory: Path | None) -> Told | None:
    """Why a task cannot even be started here; None if it can.

    Args:
        images: Containers with an image are taken.
        directory: Its sandbox to be; None: nothing will be executed, and so its user does not matter.
    """
    return _image_refusal(run, images) or (None if directory is None else _user_refusal(run, directory))


def _image_refusal(run: Run, images: bool) -> Told | None:
    container = run.info.get("container", {})
    image = container.get("mesos", {}).get("image")
    if images:
        return None
    if container.get("type") == "DOCKER":
        message = "Abnormal executor termination: unknown container"
        return Told("TASK_FAILED", message, "REASON_EXECUTOR_TERMINATED", AGENT)
    if image:
        message = f"Failed to launch container: Unsupported container image type: {image['type']}"
        return Told("TASK_FAILED", message, "REASON_CONTAINER_LAUNCH_FAILED", AGENT)
    return None


def _user_refusal(run: Run, directory: Path) -> Told | None:
    user = user_of(run)
    try:
        if user:
            pwd.getpwnam(user)
    except KeyError:
        why = f"Failed to chown directory to '{user}': No such user '{user}'"
        message = f"Failed to create executor directory '{directory}': {why}"
        return Told("TASK_DROPPED", message, "REASON_EXECUTOR_TERMINATED", AGENT)
    return None


def user_of(run: Run) -> str:
    """Whom the task runs as; empty: as the agent."""
    return str(run.command.get("user") or run.hosted.info.get("user") or "")


def real_executor(
    run: Run, directory: Path, agent: AgentFacts, timing: Timing, report: Report, exited: Callable[[int], None]
) -> RealExecutor:
    """Make the sandbox, and an executor for it.

    Only root can run tasks as somebody else; otherwise they run as this process does.
    """
    user = user_of(run)
    other = bool(user) and os.geteuid() == 0 and pwd.getpwnam(user).pw_uid != 0
    make_sandbox(directory, user if other else None)
    launch = Launch(
        info=run.info,
        command=run.command,
        sandbox=directory,
        environment=environment(run, directory, agent),
        user=user if other else None,
        cache=agent.cache,
        container_id=run.container_id,
        log=() if run.custom else log_lines(run, agent),
        custom=run.custom,
    )
    return RealExecutor(launch, timing, report, exited)


class AgentFacts:
    """What a task is told about its agent."""

    def __init__(self, agent_id: str, ip: str, port: int, pid: str, cache: Path) -> None:
        self.id, self.ip, self.port, self.pid, self.cache = agent_id, ip, port, pid, cache


def make_sandbox(directory: Path, owner: str | None) -> None:
    """A new directory, and the link ``latest`` to it."""
    directory.mkdir(parents=True)
    latest = directory.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(directory.name)
    if owner is not None:
        shutil.chown(directory, owner)


def environment(run: Run, directory: Path, agent: AgentFacts) -> dict[str, str]:
    """What a task finds in its environment, besides its own variables."""
    roles = [each.get("allocation_info", {}).get("role") for each in run.info["resources"]]
    return {
        "LIBPROCESS_IP": agent.ip,
        "LIBPROCESS_PORT": "0",
        "MESOS_AGENT_ENDPOINT": f"{agent.ip}:{agent.port}",
        "MESOS_ALLOCATION_ROLE": next((role for role in roles if role), "*"),
        "MESOS_CHECKPOINT": "1" if run.hosted.checkpoint else "0",
        "MESOS_DIRECTORY": str(directory),
        "MESOS_EXECUTOR_ID": run.executor_id,
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        "MESOS_FRAMEWORK_ID": run.hosted.id,
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_SANDBOX": str(directory),
        "MESOS_SLAVE_ID": agent.id,
        "MESOS_SLAVE_PID": agent.pid,
        "PATH": DEFAULT_PATH,
        "PWD": str(directory),
    }


def log_lines(run: Run, agent: AgentFacts) -> tuple[str, ...]:
    """What the command executor writes to stderr before the command starts."""
    lines = (
        "exec.cpp:164] Version: 1.12.0",
        f"exec.cpp:237] Executor registered on agent {agent.id}",
        "executor.cpp:190] Received SUBSCRIBED event",
        f"executor.cpp:194] Subscribed executor on {agent.ip}",
        "executor.cpp:190] Received LAUNCH event",
        f"executor.cpp:722] Starting task {run.task_id}",
        f"executor.cpp:740] Forked command at {os.getpid()}",
    )
    stamp = datetime.now().strftime("I%m%d %H:%M:%S.%f")
    return tuple(f"{stamp} {os.getpid()} {line}" for line in lines)
