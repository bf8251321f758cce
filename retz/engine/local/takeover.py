"""How a launcher begins: it takes over the directory, and accounts for what an earlier one left."""

# ruff: noqa: PTH108
from __future__ import annotations

import gc
import os
import time

from . import cgroup, leftovers, processes, records
from .launcher import Launcher
from .system import AGENT, SOCKET, become_subreaper, boot_id, listen, lock


def clean_up(cookie: str) -> records.History:
    """End what an earlier launcher left, and account for it: what it started and never saw the end of is lost."""
    history = records.read(records.NAME)
    leftovers.clean_up(last=False)
    rebooted = history.boot_id != boot_id()
    if not rebooted and history.cgroup is not None:
        cgroup.end_all(history.cgroup, cookie)
    leaders = {} if rebooted else {record[2]: (record[3], record[4]) for record in history.started.values()}
    processes.end_strays(cookie, leaders)
    leftovers.clean_up(last=True)
    text = "the machine was restarted under it" if rebooted else "its launcher died, and it was ended"
    for task in list(history.started):
        history.last_seq = max(history.last_seq, time.time_ns() // 1000) + 1
        history.apply(["e", history.last_seq, "lost", task, time.time(), None, None, None, None, text, None])
    return history


def main(directory: str, ready_fd: int, linger_s: float) -> None:
    """Take over the directory, say so on ``ready_fd``, and run."""
    os.closerange(ready_fd + 1, os.sysconf("SC_OPEN_MAX"))  # whatever the server's parent left open
    os.chdir(directory)
    dir_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    if not lock():
        os.write(ready_fd, b"locked\n")
        return
    become_subreaper()
    with open(AGENT, encoding="ascii") as file:
        cookie = file.read().strip()
    launcher = Launcher(cookie, dir_fd, linger_s, listen(), clean_up(cookie))
    os.write(ready_fd, b"ok\n")
    os.close(ready_fd)
    gc.freeze()
    launcher.run()
    os.unlink(SOCKET)
    if launcher.group is not None:
        cgroup.leave(launcher.group)
