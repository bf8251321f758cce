"""What a task takes out of an offer (in the server), and how Mesos is told of the task (in the driver)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from retz.engine.base import Task, Uri
from retz.model.container import Container, Volume

from .wire import Entry, Launch

NANOSECONDS = 1_000_000_000
LONGEST_S = 100 * 365 * 86_400.0
"""A longer time limit would not fit into Mesos's 64-bit nanoseconds."""

_PRELUDE = 'RETZ_SANDBOX="$MESOS_SANDBOX"; : "${HOME:=$MESOS_SANDBOX}"; export RETZ_SANDBOX HOME; '
"""Only on the agent is it known where the sandbox is. Mesos sets no HOME, and many programs fail without one."""

_NO_CONTAINER = Container()


class NoRoom(Exception):
    """The offer does not hold what the task needs."""


class _Part(Struct, gc=False):
    """An entry with an amount, and how much of it is left, in thousandths."""

    entry: Entry
    left: int


class Pool:
    """The resources of an offer, used up by one task after another. Reserved ones go first: nobody else may have them.

    Scalars are counted in thousandths, as Mesos does.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._scalars: dict[str, list[_Part]] = {}
        self._ranges: list[Entry] = []
        for entry in sorted(entries, key=_is_free):
            if entry.ranges:
                self._ranges.append(entry)
            else:
                self._scalars.setdefault(entry.name, []).append(_Part(entry, round(entry.amount * 1000)))

    def take(self, task: Task) -> list[Entry]:
        """What the task uses of each entry.

        Raises:
            NoRoom: for what is missing.
        """
        cpus, mem, disk, gpus, _ = task.resources.vector
        taken: list[Entry] = []
        for name, amount in (("cpus", cpus), ("mem", mem * 1000), ("disk", disk * 1000), ("gpus", gpus * 1000)):
            if amount:
                taken += self._scalar(name, amount)
        ports = task.assignment.ports
        return taken + self._ports(ports) if ports else taken

    def _scalar(self, name: str, amount: int) -> list[Entry]:
        found: list[Entry] = []
        for part in self._scalars.get(name, ()):
            used = min(part.left, amount)
            if used:
                part.left -= used
                amount -= used
                found.append(Entry(name, used / 1000, (), part.entry.marks))
        if amount:
            raise NoRoom(f"the offer has too little {name}")
        return found

    def _ports(self, ports: Sequence[int]) -> list[Entry]:
        found: list[Entry] = []
        missing = set(ports)
        for entry in self._ranges:
            mine = sorted(port for port in missing if any(first <= port <= last for first, last in entry.ranges))
            if mine:
                missing.difference_update(mine)
                found.append(Entry("ports", len(mine), _runs(mine), entry.marks))
        if missing:
            raise NoRoom(f"the offer has no port {min(missing)}")
        return found


def _is_free(entry: Entry) -> bool:
    """Whether it is not reserved."""
    return not entry.marks


def _runs(ports: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Sorted numbers as runs (first, last)."""
    breaks = [0, *(place for place, (a, b) in enumerate(pairwise(ports), 1) if b != a + 1), len(ports)]
    return tuple((ports[start], ports[end - 1]) for start, end in pairwise(breaks))


def task_info(launch: Launch) -> dict[str, Any]:
    """The TaskInfo of a command task."""
    task = launch.task
    job, _, attempt = task.id.partition(".")
    info: dict[str, Any] = {
        "name": f"retz {task.id}",
        "task_id": {"value": task.id},
        "agent_id": {"value": task.agent},
        "resources": [_resource(entry) for entry in launch.entries],
        "command": _command(task),
        "kill_policy": {"grace_period": _duration(task.kill_grace_s)},
        "labels": {"labels": [{"key": "retz.job", "value": job}, {"key": "retz.attempt", "value": attempt}]},
    }
    if task.timeout_s is not None:
        info["max_completion_time"] = _duration(task.timeout_s)
    if task.container != _NO_CONTAINER:
        info["container"] = _container(task.container)
    return info


def _resource(entry: Entry) -> dict[str, Any]:
    if entry.ranges:
        ranges = [{"begin": first, "end": last} for first, last in entry.ranges]
        return {"name": entry.name, "type": "RANGES", "ranges": {"range": ranges}, **entry.marks}
    return {"name": entry.name, "type": "SCALAR", "scalar": {"value": entry.amount}, **entry.marks}


def _duration(seconds: float) -> dict[str, int]:
    return {"nanoseconds": round(min(seconds, LONGEST_S) * NANOSECONDS)}


def _command(task: Task) -> dict[str, Any]:
    prelude = _PRELUDE
    if task.directory is not None:
        prelude += f"cd -- {shlex.quote(task.directory)} || exit 1; "
    command: dict[str, Any] = {
        "environment": {"variables": [{"name": name, "value": value} for name, value in task.environment.items()]},
    }
    if isinstance(task.command, str):
        # On the first line, so that line numbers in the shell's messages stay right.
        command |= {"shell": True, "value": prelude + task.command}
    else:
        script = prelude + 'exec "$@"'
        command |= {"shell": False, "value": "/bin/sh", "arguments": ["sh", "-c", script, "sh", *task.command]}
    if task.user is not None:
        command["user"] = task.user
    if task.files:
        command["uris"] = [_uri(file) for file in task.files]
    return command


def _uri(file: Uri) -> dict[str, Any]:
    return {"value": file.value, "executable": False, "extract": True, "cache": file.cache}


def _container(container: Container) -> dict[str, Any]:
    """The Mesos containerizer, which knows Docker's images; the Docker daemon is not needed on the agents."""
    info: dict[str, Any] = {"type": "MESOS", "mesos": {}}
    if container.image is not None:
        info["mesos"]["image"] = {"type": "DOCKER", "docker": {"name": container.image}}
    if container.volumes:
        info["volumes"] = [_volume(volume) for volume in container.volumes]
    return info


def _volume(volume: Volume) -> dict[str, Any]:
    source: dict[str, Any] = {"driver": volume.driver, "name": volume.name}
    if volume.options:
        options = [{"key": key, "value": value} for key, value in volume.options.items()]
        source["driver_options"] = {"parameter": options}
    return {
        "mode": volume.mode,
        "container_path": volume.container_path,
        "source": {"type": "DOCKER_VOLUME", "docker_volume": source},
    }
