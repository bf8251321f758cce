"""Who we are to the master: the FrameworkInfo, and the framework id that survives everything."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from retz.engine.base import EngineError

CAPABILITIES = ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE", "GPU_RESOURCES")
EARLIER_KEPT = 20


@dataclass(frozen=True, kw_only=True)
class MesosOptions:
    """How to reach the cluster and what to be there. Durations in seconds; see ``retz.config_keys`` for each.

    Attributes:
        master: ``host:port`` or ``zk://...``.
        user: Unix user of tasks that name none; None for the server's own.
        exporter: URL of GPU telemetry, with ``{host}`` in it; None for none.
    """

    master: str
    name: str = "Retz"
    roles: tuple[str, ...] = ("*",)
    user: str | None = None
    principal: str | None = None
    secret: str | None = field(default=None, repr=False)
    webui_url: str | None = None
    failover_timeout_s: float = 7 * 86_400.0
    unreachable_wait_s: float = 600.0
    refuse_s: float = 300.0
    poll_s: float = 30.0
    sample_s: float = 10.0
    exporter: str | None = None


def framework_info(options: MesosOptions, framework_id: str | None) -> dict[str, Any]:
    """The FrameworkInfo to subscribe with.

    ``checkpoint`` lets tasks survive a restart of their agent; without it Mesos calls them lost at once.
    """
    info: dict[str, Any] = {
        "user": options.user or _own_user(),
        "name": options.name,
        "roles": list(options.roles),
        "capabilities": [{"type": name} for name in CAPABILITIES],
        "checkpoint": True,
        "failover_timeout": options.failover_timeout_s,
    }
    if options.principal is not None:
        info["principal"] = options.principal
    if options.webui_url is not None:
        info["webui_url"] = options.webui_url
    if framework_id is not None:
        info["id"] = {"value": framework_id}
    return info


def _own_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise EngineError(
            f"the server's user id {os.getuid()} has no name here: say with retz.mesos.user as whom jobs shall run"
        ) from None


class Registration(Struct, kw_only=True, omit_defaults=True):
    """What is remembered. ``earlier``: ids we had before, whose sandboxes may still be there, newest first."""

    id: str | None = None
    earlier: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them, the present one first."""
        return ((self.id,) if self.id is not None else ()) + self.earlier


class RegistrationFile:
    """The framework id on disk. Whoever has it can take over all running tasks; whoever lost it, none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Registration:
        """What was saved last; nothing at the first start.

        Raises:
            EngineError: the file is there but cannot be understood.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Registration)
        except FileNotFoundError:
            return Registration()
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise EngineError(
                f"{self._path} is damaged ({error}): it holds the framework id, without which running jobs are "
                "strangers to Mesos. Put it back from a backup, or write the id that the Mesos web page shows as "
                '{"id":"..."}; without it, remove the file: running jobs are then given up and run again'
            ) from None

    def save(self, registration: Registration) -> None:
        """Durable on return."""
        temporary = self._path.with_suffix(".new")
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(registration))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def replaced(old: Registration, framework_id: str | None) -> Registration:
    """The registration after the master gave us another id, or took the one we had."""
    earlier = old.earlier if old.id in (None, framework_id) else old.ids
    return Registration(id=framework_id, earlier=earlier[:EARLIER_KEPT])
