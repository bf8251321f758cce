"""Children of the launcher that it did not start: what is left of jobs whose parents have died, and whose it is."""

from __future__ import annotations

import os

from . import processes
from .system import open_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .job import Job


_NOBODY = "nobody"
"""Owner of what is no task's."""
_PAUSES = ("podman pause", "catatonit")


class Orphans:
    """Who owns which orphan.

    Args:
        cookie: What every job has in its environment as RETZ_LAUNCHER.
        jobs, running, sessions: The launcher's, which they stay.

    Attributes:
        owners: Of each orphan the tasks that it may belong to; of nobody, when the last of them has ended.
    """

    def __init__(
        self, cookie: str, jobs: Mapping[str, Job], running: Mapping[int, Job], sessions: Mapping[int, Job]
    ) -> None:
        self.owners: dict[int, set[str]] = {}
        self._mark = b"\0RETZ_LAUNCHER=%b\0" % cookie.encode()
        self._jobs = jobs
        self._running = running
        self._sessions = sessions
        self._children_fd = open_children()

    def ours(self, pid: int) -> None:
        """That one serves us, not a task."""
        self.owners[pid] = {_NOBODY}

    def __bool__(self) -> bool:
        return bool(self.owners)

    def find(self) -> None:
        """Look for new ones."""
        for pid in self._children():
            if pid not in self._running and pid not in self.owners:
                owners = self._owners_of(pid)
                if owners is not None:
                    self.owners[pid] = owners

    def of(self, task: str) -> list[int]:
        """Those that are this task's for certain."""
        return [pid for pid, owners in self.owners.items() if owners == {task}]

    def by_task(self) -> dict[str, list[int]]:
        """Those that are some task's for certain."""
        found: dict[str, list[int]] = {}
        for pid, owners in self.owners.items():
            if len(owners) == 1:
                found.setdefault(next(iter(owners)), []).append(pid)
        return found

    def of_nobody(self) -> list[int]:
        """Those whose possible owners have all ended."""
        return [pid for pid, owners in self.owners.items() if not owners]

    def ended(self, task: str) -> None:
        """Nothing is this task's any more."""
        for owners in self.owners.values():
            owners.discard(task)

    def _children(self) -> Iterable[int]:
        if self._children_fd is not None:
            data = os.pread(self._children_fd, 1 << 20, 0)
            return [int(pid) for pid in data.split()]
        table = processes.scan(processes.all_pids())
        return processes.children_of(table).get(os.getpid(), [])

    def _owners_of(self, pid: int) -> set[str] | None:
        """Return the tasks that an orphan may belong to; None if it is dead already."""
        stat = processes.read_stat(pid)
        if stat is None or stat[5] == b"Z":
            return None
        job = self._sessions.get(stat[1])
        if job is not None:
            return {job.task}
        environment = processes.environment_of(pid)
        if self._mark in environment:
            task = environment.partition(b"\0RETZ_TASK=")[2].partition(b"\0")[0].decode("ascii", "replace")
            if task in self._jobs:
                return {task}
        if os.geteuid() != 0 and processes.name_of(pid) in _PAUSES:
            return {_NOBODY}  # podman without root's rights: it keeps the user's name space for all containers to come
        # It hid its origin: it may live as long as any job that was there when it appeared.
        return set(self._jobs)
