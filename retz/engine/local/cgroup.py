"""A control group (v2) of the launcher's own, where one may be made.

The launcher enters it once, so that every job is born in it: no cost per job, and whatever a job starts can be found
and ended after the launcher's death, were it daemonised with an empty environment. One group per job is
not used: entering one costs 20-40 microseconds when it happens often, but 20 milliseconds when it happens seldom
(a grace period of the kernel), and the memory controller cannot be enabled below a group that holds processes.
"""

# ruff: noqa: PTH102, PTH106, PTH112
from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "retz-"


def enter(name: str) -> str | None:
    """Move this process to a new group below its present one; None where that is not allowed.

    Args:
        name: Unique per launcher, for example with its pid.
    """
    parent = _own_group()
    if parent is None:
        return None
    path = f"{parent}/{PREFIX}{name}"
    try:
        os.mkdir(path)
    except OSError:
        return None
    try:
        _write(f"{path}/cgroup.procs", "0")
    except OSError:
        os.rmdir(path)
        return None
    return path


def leave(path: str) -> None:
    """Move back to the parent and remove the group; what cannot be done is left for the next launcher."""
    try:
        _write(f"{path.rpartition('/')[0]}/cgroup.procs", "0")
        os.rmdir(path)
    except OSError:
        return


def end_all(path: str, cookie: str, timeout_s: float = 10.0) -> bool:
    """Kill everything in a dead launcher's group and below it, and remove it. Returns False if that did not work.

    Kernels before 5.14 cannot; then only what carries the launcher's mark is found.
    """
    if not path.rpartition("/")[2].startswith(f"{PREFIX}{cookie}"):
        return True  # not a group of ours: a records file is no reason to kill strangers
    try:
        _write(f"{path}/cgroup.kill", "1")
        if not _wait_empty(path, timeout_s):
            return False
        os.rmdir(path)
    except OSError:
        return not os.path.isdir(path)
    return True


def _wait_empty(path: str, timeout_s: float) -> bool:
    with open(f"{path}/cgroup.events", "rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while True:
            events.seek(0)
            if b"populated 0" in events.read():
                return True
            if not poll.poll(timeout_s * 1000):
                return False


def _own_group() -> str | None:
    mount = next(_mounts(), None)
    if mount is None:
        return None
    with open("/proc/self/cgroup", "rb") as file:
        for line in file:
            if line.startswith(b"0::"):
                return (mount + os.fsdecode(line[3:].strip())).rstrip("/")
    return None


def _mounts() -> Iterator[str]:
    try:
        with open("/proc/self/mounts", "rb") as file:
            for line in file:
                fields = line.split()
                if fields[2] == b"cgroup2":
                    yield os.fsdecode(fields[1])
    except OSError:
        return


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
