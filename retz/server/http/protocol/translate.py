"""Records into old messages and old requests into new ones. Pure but for the local time zone."""

from __future__ import annotations

import math
import shlex
import signal
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from retz.engine.base import FileEntry
from retz.model.application import Application
from retz.model.container import Container, Volume
from retz.model.job import Job
from retz.model.resources import Resources
from retz.model.submission import JobSpec

from .. import body as bodies
from ..views import LAST_TIME, masked
from .messages import (
    ApplicationMessage,
    ApplicationRequest,
    DockerMessage,
    DockerRequest,
    EntryMessage,
    JobMessage,
    JobRequest,
    MesosMessage,
    OldState,
    Quantity,
    VolumeMessage,
)

MAX_INT = 2**31 - 1
"""Java's int, which old clients read ids and amounts into."""
MAX_GRACE_S = 1024
"""Old clients refuse to read an application with more."""


def whole(amount: float) -> int:
    """A fraction rounded up, within Java's int."""
    return min(math.ceil(amount), MAX_INT)


def quantity(resources: Resources, nodes: int = 1) -> Quantity:
    """An amount as old clients read it."""
    return Quantity(
        cpu=whole(resources.cpus),
        mem=whole(resources.mem),
        gpu=whole(resources.gpus),
        ports=whole(resources.ports),
        disk=whole(resources.disk),
        nodes=nodes,
    )


def old_time(seconds: float) -> str:
    """``2017-09-26T03:40:15.573+09:00`` in the server's zone; ``Z`` in place of an offset of zero."""
    second, thousandths = divmod(int(seconds * 1000), 1000)
    text, zone = _second(second)
    return f"{text}.{thousandths:03}{zone}"


@lru_cache(maxsize=4096)
def _second(second: int) -> tuple[str, str]:
    """A whole second and its zone. Jobs of a list have many seconds in common, and zones cost most of a message."""
    text = datetime.fromtimestamp(second).astimezone().isoformat()
    return text[:19], "Z" if text[19:] == "+00:00" else text[19:]


def _optional_time(seconds: float | None) -> str | None:
    return None if seconds is None else old_time(seconds)


def state_of(job: Job) -> OldState:
    """The state; to old clients every bad end is KILLED."""
    return "KILLED" if job.state == "FAILED" else job.state


def reason_of(job: Job) -> str | None:
    """Why a KILLED job is; None for all others."""
    if state_of(job) != "KILLED":
        return None
    if job.reason == "user":
        return "Canceled by user"
    if job.reason == "exit":
        return f"Command exited with status {job.exit_code}"
    if job.reason == "signal":
        return f"Command terminated with signal {_signal_name(job.signal)}"
    return ": ".join(part for part in (job.reason, job.message) if part) or "unknown"


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return str(number)


def job_message(job: Job, origin: str) -> JobMessage:
    """A job.

    Args:
        origin: ``http://host:port`` of this server, for the address of the job's files.
    """
    attempt = job.attempt
    began = None if attempt is None else attempt.launched if attempt.started is None else attempt.started
    return JobMessage(
        cmd=job.command if isinstance(job.command, str) else shlex.join(job.command),
        scheduled=old_time(job.submitted),
        started=_optional_time(began),
        finished=_optional_time(job.ended),
        result=0 if job.state == "FINISHED" else -1,
        id=job.id,
        url=None if attempt is None else f"{origin}/job/{job.id}/dir?path=%24MESOS_SANDBOX",
        reason=reason_of(job),
        retry=job.losses,
        priority=job.priority,
        appid=job.application,
        name=job.name or None,
        tags=job.tags,
        resources=quantity(job.resources),
        attributes=job.attributes or None,
        task_id=job.task_id,
        slave_id=None if attempt is None else attempt.agent,
        state=state_of(job),
        props=masked(job.environment),
    )


def as_accepted(job: Job) -> Job:
    """The job as it was when it came into the queue, whatever has become of it since."""
    return replace(
        job, state="QUEUED", attempts=(), ended=None, reason=None, message=None, exit_code=None, signal=None, losses=0
    )


def spec_of(job: JobRequest) -> JobSpec:
    """The native request for a job.

    Raises:
        Problem: ``bad-request``, for texts that are too long, a priority out of range and so on.
    """
    asked = job.resources
    fields: dict[str, Any] = {
        "command": job.cmd,
        "application": job.appid,
        "name": job.name,
        "tags": [tag for tag in job.tags or () if tag],
        "priority": job.priority,
        "environment": job.props if job.props is not None else job.env,
        "attributes": job.attributes,
        "resources": {
            "cpus": asked.cpu or 0.0,
            "mem": asked.mem or 0.0,
            "disk": asked.disk or 0.0,
            "gpus": math.ceil(asked.gpu or 0),
            "ports": math.ceil(asked.ports or 0),
        },
    }
    try:
        return msgspec.convert(fields, JobSpec)
    except msgspec.ValidationError as error:
        raise bodies.problem_of(error, b"", "job") from None


def application_message(application: Application) -> ApplicationMessage:
    """An application."""
    return ApplicationMessage(
        appid=application.name,
        large_files=application.large_files,
        files=application.files,
        user=application.user,
        owner=application.owner,
        grace_period=min(math.ceil(application.grace_period_s or 0), MAX_GRACE_S),
        container=_container_message(application.container),
        enabled=application.enabled,
    )


def _container_message(container: Container) -> MesosMessage | DockerMessage:
    if container.type == "none":
        return MesosMessage()
    volumes = [VolumeMessage(v.driver, v.container_path, v.mode, v.name, masked(v.options)) for v in container.volumes]
    return DockerMessage(container.image or "", volumes)


def application_of(asked: ApplicationRequest) -> Application:
    """The application that a request describes."""
    grace = asked.grace_period or 0
    return Application(
        name=asked.appid,
        owner=asked.owner,
        files=tuple(asked.files or ()),
        large_files=tuple(asked.large_files or ()),
        user=asked.user or None,
        grace_period_s=float(grace) if grace > 0 else None,
        container=_container_of(asked.container),
        enabled=asked.enabled or False,
    )


def _container_of(asked: Any) -> Container:
    if not isinstance(asked, DockerRequest):
        return Container()
    volumes = tuple(Volume(v.driver, v.name, v.container_path, v.mode, v.options or {}) for v in asked.volumes or ())
    return Container("docker", asked.image, volumes)


def entry_message(entry: FileEntry, task_id: str) -> EntryMessage:
    """An entry of a sandbox's directory; its path is absolute, the sandbox being ``/<task id>``."""
    path = entry.path.encode("utf-8", "replace").decode()
    mtime = int(min(max(0.0, entry.mtime), LAST_TIME))
    return EntryMessage(entry.gid, entry.mode, mtime, entry.nlink, f"/{task_id}/{path}", entry.size, entry.uid)
