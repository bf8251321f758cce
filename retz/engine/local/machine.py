"""What this machine has, unless somebody configured something else."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil

from retz.engine.base import EngineError
from retz.model.agent import Gpu
from retz.model.resources import Resources

from .system import AGENT


def detect(directory: Path, gpus: int, ports: int) -> Resources:
    """Return the processors this process may use, all memory, the disk space free at ``directory``, GPUs and ports."""
    return Resources(
        cpus=float(len(os.sched_getaffinity(0))),
        mem=psutil.virtual_memory().total >> 20,
        disk=psutil.disk_usage(str(directory)).free >> 20,
        gpus=gpus,
        ports=ports,
    )


def reconcile(total: Resources, gpus: Sequence[Gpu], ports: int) -> tuple[Resources, tuple[Gpu, ...]]:
    """Return configured amounts made consistent with the GPUs there are and the port range.

    Raises:
        EngineError: if more GPUs are configured than are known.
    """
    if total.gpus > len(gpus):
        raise EngineError(
            f"{total.gpus} GPUs are configured, but {len(gpus)} are known: declare them with their UUIDs, "
            "or install the driver"
        )
    usable = tuple(gpus[: total.gpus] if total.gpus else gpus)
    return Resources(
        cpus=total.cpus, mem=total.mem, disk=total.disk, gpus=len(usable), ports=min(total.ports or ports, ports)
    ), usable


def agent_id(directory: Path) -> str:
    """Return the id of this directory's agent, made at the first call and kept in a file."""
    path = directory / AGENT
    try:
        known = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        known = ""
    if known:
        return known
    fresh = f"local-{uuid.uuid4().hex[:12]}"
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{fresh}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return fresh
