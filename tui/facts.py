"""What a job was asked to do and with what, as names and values."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from retz.client.types import Job, Why
from retz.model.resources import Resources

from .text import amount, duration, memory


def facts_of(job: Job, why: Why | None = None) -> list[tuple[str, str]]:
    """The most important first, what says nothing left out. Texts are as the user wrote them."""
    return [(name, value) for name, value in _all(job, why) if value]


def _all(job: Job, why: Why | None) -> Iterator[tuple[str, str]]:
    yield "command", job.command if isinstance(job.command, str) else shlex.join(job.command)
    yield "asks", _asks(job)
    yield "predicted", _sized(job)
    yield "waited", "" if why is None else ", ".join(part.text for part in why.waited)
    yield "time limit", duration(job.timeout_s) if job.timeout_s is not None else ""
    yield "holds", ", ".join([*job.gpus, *(f"port {port}" for port in job.ports)])
    yield "directory", job.directory or "its sandbox"
    yield "application", job.application
    yield "tags", ", ".join(job.tags)
    yield "pipeline", f"{job.pipeline}, run {job.run}" if job.pipeline else ""
    yield "priority", str(job.priority) if job.priority else ""
    yield "ends", f"SIGTERM, {amount(job.kill_grace_s)} s later SIGKILL"
    yield "retries", f"{job.losses} of {job.max_retries} used" if job.losses else f"{job.max_retries} if it is lost"
    yield "repeats", f"job {job.resubmit_of}" if job.resubmit_of else ""
    yield from _used(job)
    for index, (name, value) in enumerate(sorted(job.environment.items())):
        yield "environment" if index == 0 else "\u00a0", f"{name}={value}"


def _asks(job: Job) -> str:
    parts = [resources_text(job.resources)]
    if job.attributes:
        parts.append(f"agents with {job.attributes}")
    return "   ".join(parts)


def _sized(job: Job) -> str:
    """What past runs made of what its user asked for."""
    sized = job.sized
    if sized is None:
        return ""
    runs = f"{sized.runs} past run{'s' if sized.runs != 1 else ''}"
    asked = resources_text(Resources(sized.asked.cpus, sized.asked.mem))
    if sized.mem is None:
        return f"not yet, by {runs}: it gets what it asked for"
    if sized.outgrew is not None:
        return f"{memory(sized.mem)} by {runs}, too little for attempt {sized.outgrew}; asked for were {asked}"
    return f"by {runs}; asked for were {asked}"


def resources_text(resources: Resources) -> str:
    """``8 cpus  12.1G  2 gpus``."""
    parts = [f"{amount(resources.cpus)} cpu{'s' if resources.cpus != 1 else ''}", memory(resources.mem)]
    parts += [f"{memory(resources.disk)} disk"] if resources.disk else []
    parts += [f"{resources.gpus} gpu{'s' if resources.gpus != 1 else ''}"] if resources.gpus else []
    parts += [f"{resources.ports} port{'s' if resources.ports != 1 else ''}"] if resources.ports else []
    return "  ".join(parts)


def _used(job: Job) -> Iterator[tuple[str, str]]:
    usage = job.usage
    if usage is None:
        return
    parts = [f"{duration(usage.cpu_s)} of cpu", f"{memory(usage.max_rss_mb)} at most"]
    if usage.gpu_util is not None:
        parts.append(f"gpu {usage.gpu_util:.0f} %")
    if usage.gpu_mem_mb is not None:
        parts.append(f"gpu memory {memory(usage.gpu_mem_mb)}")
    yield "used", "   ".join(parts)
