"""What a container may mount, and how. Standard library only."""

# ruff: noqa: PTH115
from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Volume = Sequence[Any]
    """``[driver, name, path in the container, "RO" or "RW", options]``"""

HOST = "host"
"""The driver of paths of this machine."""
LOCAL = "local"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
_DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,200}")
_IMAGE = re.compile(r"[A-Za-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII)
_TRANSPORTS = ("dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive", "ostree", "sif", "tarball",
               "containers-storage")  # fmt: skip
"""Podman reads files of the machine, with its own rights, if a name begins with one of these and a colon."""


def image_refusal(image: str) -> str | None:
    """Return what is wrong with the name of an image; None if nothing is."""
    if not _IMAGE.fullmatch(image) or image.partition(":")[0] in _TRANSPORTS:
        return f"not the name of an image: {image[:200]!r}; write NAME, NAME:TAG or REGISTRY/NAME:TAG"
    return None


def refusal(volume: Volume, host_paths: Sequence[str], drivers: Sequence[str]) -> str | None:
    """Return why a volume cannot be had; None if it can, as far as can be seen without the rights of its user.

    Args:
        host_paths: What the administrator lets containers see of this machine.
        drivers: The volume drivers that the administrator allows.
    """
    driver, name, path, _, options = volume
    if not path.startswith("/") or os.path.normpath(path) in ("/", "//") or not _plain(path):
        return f"volume {name!r}: {path!r} is not an absolute path in the container (nor may it have ':' or ',')"
    if driver == HOST:
        return _path_refusal(name, host_paths) if not options else f"volume {name!r}: paths have no options"
    if driver not in drivers or not _DRIVER.fullmatch(driver):
        allowed = ", ".join((*drivers, *((HOST,) if host_paths else ()))) or "none"
        return f"volume driver {driver!r} is not allowed here: {allowed}; see retz.container.volume-drivers"
    if not _NAME.fullmatch(name):
        return f"volume {name!r}: a name has letters, digits and any of . _ -"
    if driver == LOCAL and options:  # they can mount any directory or device of the machine
        return f"volume {name!r}: volumes of driver 'local' have no options here"
    return None


def _path_refusal(name: str, host_paths: Sequence[str]) -> str | None:
    if not name.startswith("/") or not _plain(name):
        return f"volume {name!r}: a path of the machine is absolute and has no ':' or ','"
    if not is_listed(os.path.realpath(name), host_paths):
        listed = ", ".join(host_paths) or "none"
        return f"{name} is not among the paths that containers may see here ({listed}; retz.container.host-paths)"
    return None


def is_listed(real: str, host_paths: Sequence[str]) -> bool:
    """Whether a path without links is one of the listed ones, or below one."""
    roots = (os.path.realpath(path) for path in host_paths)
    return any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)


def _plain(path: str) -> bool:
    return path.isprintable() and not any(sign in path for sign in ':,"')


def open_real(name: str) -> tuple[int, str]:
    """Open a path of the machine with the rights that we have now. Returns the descriptor, and the path without links.

    Raises:
        OSError: it is not there, or closed to us.
    """
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
    return fd, os.readlink(f"/proc/self/fd/{fd}")


def volume_name(driver: str, name: str, uid: int) -> str:
    """Return the runtime's name of a volume: those of driver ``local`` belong to the job's Unix user."""
    return f"retz-{uid}-{name}" if driver == LOCAL else name
