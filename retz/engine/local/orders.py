"""What the launcher is told to start: a task, with everything that only this machine knows."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from msgspec import Struct

from retz.engine.base import Task
from retz.model.container import Container

from . import runtime, volumes
from .sandbox import sandbox_path

_log = logging.getLogger(__name__)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Fetching(Struct, frozen=True):
    """Limits for the files of one task.

    Attributes:
        timeout_s: For all of them together, unpacking included; and for an image.
        max_mb: For each of them, and for what it unpacks to.
        cache_mb: For the cache of one Unix user; 0 for none.
    """

    timeout_s: float = 600.0
    max_mb: int = 10 << 10
    cache_mb: int = 10 << 10


class Containers(Struct, frozen=True):
    """How containers are run.

    Attributes:
        runtime: ``auto``, ``docker``, ``podman`` or the path of one of them.
        options: Further options of its ``run``.
        network: Its ``--network``.
        host_paths: What of this machine may be mounted, with all below.
        volume_drivers: Whose volumes may be mounted.
    """

    runtime: str = "auto"
    options: tuple[str, ...] = ()
    network: str = "host"
    host_paths: tuple[str, ...] = ()
    volume_drivers: tuple[str, ...] = (volumes.LOCAL,)


class Orders:
    """Makes start messages. See the launcher's text for their form.

    Args:
        directory: The engine's, absolute.
        mark: What every process of ours carries.
        user: Unix user of tasks that name none; None for our own. Only root may choose.
    """

    def __init__(
        self, directory: Path, mark: str, user: str | None, fetching: Fetching, containers: Containers
    ) -> None:
        self._directory = directory
        self._root = os.geteuid() == 0
        self._user = user
        self._fetching = fetching
        self._containers = containers
        self._client = runtime.client_environment()
        self._mark = {"RETZ_LAUNCHER": mark}
        self._path = {"PATH": _sendable(os.environ.get("PATH", DEFAULT_PATH))}
        self._home = {"HOME": _sendable(str(Path.home()))}
        self._found = ""

    def start(self, task: Task, after: str | None) -> list[Any]:
        """Return the order to start a task, when ``after`` has ended if that is given."""
        how = self._how(task)
        environment = {
            **self._surroundings(how),
            **task.environment,
            "CUDA_VISIBLE_DEVICES": ",".join(task.assignment.gpus),
            "RETZ_SANDBOX": f"{self._directory}/{sandbox_path(task.id)}",
            "RETZ_TASK": task.id,
            **self._mark,
        }
        message = [
            "start",
            task.id,
            task.command,
            environment,
            task.directory,
            task.mem_limit_mb,
            task.timeout_s,
            task.kill_grace_s,
        ]
        if how:
            return [*message, after, how]
        return message if after is None else [*message, after]

    def _surroundings(self, how: dict[str, Any]) -> dict[str, str]:
        if "container" in how:
            return {}  # the image says
        return self._path if "user" in how else {**self._path, **self._home}

    def _how(self, task: Task) -> dict[str, Any]:
        """What the launcher must see to before it starts the task; see ``prepare.py``."""
        how: dict[str, Any] = {}
        user = (task.user or self._user) if self._root else None
        if user is not None and (user != "root" or self._user is not None):
            how["user"] = user
        if task.files:
            how["files"] = [[uri.value, uri.cache] for uri in task.files]
            how["limits"] = self._fetching
        if task.container.type != "none":
            how["container"] = self._container(task)
        return how

    def _container(self, task: Task) -> dict[str, Any]:
        settings = self._containers
        return {
            "image": task.container.image,
            "volumes": _listed(task.container),
            "options": settings.options,
            "network": settings.network,
            "ports": task.assignment.ports,
            "gpus": task.assignment.gpus,
            "cpus": task.resources.cpus,
            "mem_mb": task.mem_limit_mb,
            "runtime": settings.runtime,
            "environment": self._client,
            "host_paths": settings.host_paths,
            "drivers": settings.volume_drivers,
            "pull_s": self._fetching.timeout_s,
        }

    async def refusal(self, container: Container) -> str | None:
        """Return why this machine cannot run such a container; None if it can. Tries it, once per boot."""
        if container.type == "none":
            return "volumes need a container" if container.volumes else None
        settings = self._containers
        wrong = [volumes.image_refusal(container.image or "")]
        wrong += [volumes.refusal(v, settings.host_paths, settings.volume_drivers) for v in _listed(container)]
        found = next((text for text in wrong if text is not None), None)
        return found if found is not None else await asyncio.to_thread(self._try)

    def _try(self) -> str | None:
        settings = self._containers
        try:
            profile = runtime.profile(str(self._directory), settings.runtime, settings.options, self._client)
        except runtime.NoRuntime as error:
            return str(error)
        if profile.describe() != self._found:
            self._found = profile.describe()
            _log.info("containers run with %s", self._found)
        return None


def has_runtime(containers: Containers) -> bool:
    """Whether there is a program that may be able to run containers."""
    return bool(runtime.candidates(containers.runtime))


def _listed(container: Container) -> list[volumes.Volume]:
    return [[v.driver, v.name, v.container_path, v.mode, v.options] for v in container.volumes]


def _sendable(text: str) -> str:
    """Without bytes that are not UTF-8: no message could carry them, and one bad PATH entry would stop every job."""
    return text.encode(errors="replace").decode()
