"""The columns of the table of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from retz.client.types import Job

from .states import look_of, state_text
from .text import amount, duration, memory, printable
from .widgets.table import Cell, Column

if TYPE_CHECKING:
    from .app import RetzApp


def command_text(job: Job) -> str:
    """The command in one line."""
    text = job.command if isinstance(job.command, str) else " ".join(job.command)
    return printable(" ".join(text.split()) if len(text) < 500 else text[:500])


def id_of(job: Job) -> str:
    """The id; for a task of an array the form that says which: ``17_3``."""
    return str(job.id) if job.array_id is None else f"{job.array_id}_{job.array_index}"


def title_of(job: Job) -> str:
    """Application and name, as far as they say something; else the command."""
    parts = [job.application if job.application != "default" else "", job.name]
    return printable("/".join(filter(None, parts))) or command_text(job)


def seconds(moment: datetime | None) -> float | None:
    """Epoch seconds."""
    return None if moment is None else moment.timestamp()


def start_text(job: Job, now: float) -> str:
    """When a job that waits will start, as far as that is foreseen: ``→ 14:05``, ``→ Sat``, ``→ 30 Nov``."""
    if job.state != "QUEUED" or job.eta is None or job.eta.start is None:
        return ""
    when, today = job.eta.start.p50.astimezone(), datetime.fromtimestamp(now).astimezone()
    if when.date() == today.date():
        return f"→ {when:%H:%M}"
    return f"→ {when:%a}" if (when - today).days < 6 else f"→ {when:%d %b}"


def columns_of(retz: RetzApp) -> list[Column[Job]]:
    """All columns, in their order; ages are as of the time that is looked at, machines go by their host names."""

    def waiting(job: Job) -> Cell:
        until = seconds(job.started) or seconds(job.ended) or retz.now
        return duration(until - job.submitted.timestamp()), "" if job.state == "QUEUED" else "dim"

    def running(job: Job) -> Cell:
        begun = seconds(job.started)
        if begun is None:
            return start_text(job, retz.now), "dim"
        return duration((seconds(job.ended) or retz.now) - begun), "dim" if job.over else ""

    def agent(job: Job) -> Cell:
        return printable(retz.session.host(job.agent)), "dim"

    def exit_text(job: Job) -> Cell:
        if job.exit_code is not None:
            return str(job.exit_code), "failed" if job.exit_code else "dim"
        return (f"sig {job.signal}", "failed") if job.signal is not None else ("", "")

    def submitted(job: Job) -> Cell:
        local = job.submitted.astimezone()
        today = datetime.fromtimestamp(retz.now).date() == local.date()
        return local.strftime("%H:%M:%S" if today else "%m-%d %H:%M"), "dim"

    return [
        Column("id", "ID", lambda job: (id_of(job), ""), 7, right=True, most=14, sort="id"),
        Column("state", "STATE", lambda job: (state_text(job), look_of(job).style), 13, most=16, sort="state"),
        Column("user", "USER", lambda job: (printable(job.owner)[:8], "dim"), 8, drop=4, sort="user"),
        Column("name", "NAME", lambda job: (title_of(job), ""), 20, flexible=True, sort="application"),
        Column("pipeline", "PIPELINE", lambda job: (printable(job.pipeline or ""), ""), 10, drop=5, sort="pipeline"),
        Column("cpus", "CPU", lambda job: (amount(job.resources.cpus), ""), 4, right=True, drop=9),
        Column("mem", "MEM", lambda job: (memory(job.resources.mem), ""), 6, right=True, drop=10),
        Column("gpus", "GPU", lambda job: (str(job.resources.gpus or ""), ""), 3, right=True, drop=8),
        Column("priority", "PRI", lambda job: (str(job.priority or ""), ""), 3, right=True, drop=7, sort="priority"),
        Column("submitted", "SUBMITTED", submitted, 11, right=True, drop=3),
        Column("waiting", "WAITING", waiting, 8, right=True, drop=11),
        Column("running", "RUNNING", running, 8, right=True),
        Column("agent", "AGENT", agent, 9, most=16, drop=6),
        Column("command", "COMMAND", lambda job: (command_text(job), "dim"), 24, flexible=True, drop=1),
        Column("exit", "EXIT", exit_text, 6, right=True, drop=2),
    ]
