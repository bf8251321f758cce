"""Process trees as /proc shows them, and signals that cannot hit a stranger.

Identity of a process is its pid and its start time: pids come round in seconds when jobs are short.
"""

# ruff: noqa: PTH208
from __future__ import annotations

import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Stat = tuple[int, int, float, int, int, bytes]
    """(parent, session, processor seconds with waited-for children, start in ticks, resident pages, state)"""
    Table = dict[int, Stat]

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def read_stat(pid: int) -> Stat | None:
    """Return what /proc says of a process; None if there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        data = os.read(fd, 1024)
    except OSError:
        return None
    finally:
        os.close(fd)
    field = data[data.rindex(b")") + 2 :].split()
    ticks = int(field[11]) + int(field[12]) + int(field[13]) + int(field[14])
    return int(field[1]), int(field[3]), ticks * TICK, int(field[19]), int(field[21]), field[0]


def all_pids() -> list[int]:
    """Return every pid that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def scan(pids: Iterable[int]) -> Table:
    """Return what /proc says of these processes; those that are gone are left out."""
    table = {}
    for pid in pids:
        stat = read_stat(pid)
        if stat is not None:
            table[pid] = stat
    return table


def children_of(table: Table) -> dict[int, list[int]]:
    """Return the children of each parent in ``table``."""
    children: dict[int, list[int]] = {}
    for pid, stat in table.items():
        children.setdefault(stat[0], []).append(pid)
    return children


def descend(children: dict[int, list[int]], roots: Iterable[int]) -> list[int]:
    """Return the roots and everything below them."""
    found = list(roots)
    for pid in found:  # grows while we walk
        found.extend(children.get(pid, ()))
    return found


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is another one, or was started somewhere below it."""
    while pid > 1 and pid != ancestor:
        stat = read_stat(pid)
        pid = 0 if stat is None else stat[0]
    return pid == ancestor


def name_of(pid: int) -> str:
    """Return the name of a process; empty if there is none."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().decode(errors="replace").rstrip("\n")
    except OSError:
        return ""


def environment_of(pid: int) -> bytes:
    """Return the environment a process was started with, between zero bytes; empty if it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0" + file.read() + b"\0"
    except OSError:
        return b""


def proportional_mb(pids: Iterable[int]) -> float | None:
    """Return the memory of processes in MiB, pages that they share counted once; None if the kernel does not say."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith(b"Pss:"))
        except (ProcessLookupError, FileNotFoundError):
            continue
        except (OSError, StopIteration):
            return None
    return total / 1024


def all_would_end(pid: int) -> bool:
    """Whether SIGTERM would end a process and all below it: none of them handles or ignores it."""
    children = children_of(scan(all_pids()))
    return not any(_minds(below) for below in descend(children, [pid]))


def _minds(pid: int) -> bool:
    bit = 1 << (signal.SIGTERM - 1)
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = [line.split() for line in file if line.startswith((b"SigIgn:", b"SigCgt:"))]
    except OSError:
        return False
    return any(int(mask, 16) & bit for _, mask in lines)


def kernel_oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since boot; 0 if it does not say."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def send(pid: int, start: int, signals: Iterable[int]) -> bool:
    """Send signals to the process with this pid and start time, never to a successor. False if it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        stat = read_stat(pid)
        if stat is None or stat[3] != start or stat[5] == b"Z":
            return False
        for number in signals:
            signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def end_strays(cookie: str, leaders: dict[int, tuple[int, int]], timeout_s: float = 10.0) -> int:
    """Kill what a dead launcher left behind, and wait until it is gone. Returns how many there were.

    Args:
        cookie: What every job has in its environment as RETZ_LAUNCHER.
        leaders: Recorded main processes: pid to the earliest and latest start in ticks.
    """
    count = 0
    while True:
        table = scan(all_pids())
        victims = _strays(table, b"\0RETZ_LAUNCHER=%b\0" % cookie.encode(), leaders)
        if not victims:
            return count
        count += len(victims)
        if not _kill_and_wait(table, victims, timeout_s):
            return count


def _strays(table: Table, mark: bytes, leaders: dict[int, tuple[int, int]]) -> list[int]:
    roots = set()
    for pid, stat in table.items():
        if stat[5] == b"Z":
            continue
        window = leaders.get(pid)
        if (window is not None and window[0] <= stat[3] <= window[1]) or mark in environment_of(pid):
            roots.add(pid)
    roots.discard(os.getpid())
    return [pid for pid in set(descend(children_of(table), roots)) if table[pid][5] != b"Z"]


def _kill_and_wait(table: Table, pids: list[int], timeout_s: float) -> bool:
    poll = select.poll()
    waiting = set()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        if send(pid, table[pid][3], [signal.SIGKILL]):
            poll.register(fd, select.POLLIN)
            waiting.add(fd)
        else:
            os.close(fd)
    alive = _wait_all(poll, waiting, timeout_s)
    return not alive


def _wait_all(poll: select.poll, waiting: set[int], timeout_s: float) -> bool:
    """Wait for every pidfd; True if one is still alive when nothing has ended for ``timeout_s``."""
    alive = False
    while waiting and not alive:
        ready = poll.poll(timeout_s * 1000)
        alive = not ready
        for fd, _ in ready:
            poll.unregister(fd)
            waiting.discard(fd)
            os.close(fd)
    for fd in waiting:
        os.close(fd)
    return alive
