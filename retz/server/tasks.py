"""From a Job about to be launched to the Task an engine runs."""

from __future__ import annotations

from retz.engine.base import Assignment, KnownTask, Task, Uri
from retz.model.application import Application
from retz.model.container import Container
from retz.model.job import Attempt, Job
from retz.model.user import User

from .unix_users import unix_user_of


def task_of(job: Job, application: Application | None = None, owner: User | None = None) -> Task:
    """The task of the job's latest attempt, with the variables that let the job know (and fence) itself.

    Args:
        application: As it is now: whoever repairs it repairs the jobs that wait.
        owner: The job's.
    """
    attempt = job.attempts[-1]
    resources = job.resources
    environment = {
        **job.environment,
        **array_variables(job),
        "RETZ_JOB_ID": str(job.id),
        "RETZ_ATTEMPT": str(attempt.number),
        "RETZ_TASK": f"{job.id}.{attempt.number}",
        "RETZ_CPUS": f"{resources.cpus:g}",
        "RETZ_MEM_MB": str(resources.mem),
        "RETZ_GPUS": str(resources.gpus),
    }
    for index, port in enumerate(attempt.ports):
        environment[f"PORT{index}"] = str(port)
    return Task(
        id=f"{job.id}.{attempt.number}",
        agent=attempt.agent,
        command=job.command,
        environment=environment,
        resources=resources,
        assignment=_assignment(attempt),
        directory=job.directory,
        mem_limit_mb=resources.mem,
        timeout_s=job.timeout_s,
        kill_grace_s=job.kill_grace_s,
        files=_files(application) if application is not None else (),
        user=unix_user_of(application, owner),
        container=application.container if application is not None else Container(),
    )


def array_variables(job: Job) -> dict[str, str]:
    """What tells a task of an array which one it is; empty for any other job."""
    if job.array_id is None:
        return {}
    return {"RETZ_ARRAY_ID": str(job.array_id), "RETZ_ARRAY_INDEX": str(job.array_index)}


def _files(application: Application) -> tuple[Uri, ...]:
    return (
        *(Uri(uri) for uri in application.files),
        *(Uri(uri, cache=True) for uri in application.large_files),
    )


def known_task_of(job: Job) -> KnownTask:
    """What an engine must know about a job that the store believes to be running."""
    attempt = job.attempts[-1]
    return KnownTask(
        id=f"{job.id}.{attempt.number}",
        agent=attempt.agent,
        resources=job.resources,
        assignment=_assignment(attempt),
        kill=job.kill_requested is not None,
        kill_grace_s=job.kill_grace_s,
    )


def _assignment(attempt: Attempt) -> Assignment:
    return Assignment(gpus=attempt.gpus, ports=attempt.ports)
