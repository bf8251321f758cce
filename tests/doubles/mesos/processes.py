"""The processes of this machine, read at once: who descends from whom, and what they use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What processes used so far: seconds and bytes."""

    user_s: float
    system_s: float
    rss: int


class Process(NamedTuple):
    """A process; its times include children it waited for. ``started`` tells it from a later one of the same pid."""

    parent: int
    session: int
    usage: Usage
    started: int


def scan() -> dict[int, Process]:
    """All processes by pid."""
    found = {int(path.name): read(int(path.name)) for path in PROC.iterdir() if path.name.isdecimal()}
    return {pid: process for pid, process in found.items() if process is not None}


def read(pid: int) -> Process | None:
    """One process; None if it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    user, system, waited_user, waited_system = (int(field) / TICKS for field in fields[11:15])
    usage = Usage(user + waited_user, system + waited_system, int(fields[21]) * PAGE_SIZE)
    return Process(int(fields[1]), int(fields[3]), usage, int(fields[19]))


def tree(root: int, table: Mapping[int, Process]) -> dict[int, Process]:
    """A session leader, its session, and all that descend from either, even if they left the session."""
    found = {pid for pid, process in table.items() if pid == root or process.session == root}
    grown = True
    while grown:
        more = {pid for pid, process in table.items() if process.parent in found} - found
        found |= more
        grown = bool(more)
    return {pid: table[pid] for pid in found}


def total(processes: Mapping[int, Process]) -> Usage:
    """What they used together."""
    usages = [process.usage for process in processes.values()]
    return Usage(sum(u.user_s for u in usages), sum(u.system_s for u in usages), sum(u.rss for u in usages))
