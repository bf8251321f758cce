"""Groups: jobs of one owner that share a bound on failures (``--group NAME --max-fails N``).

A group is nothing but its live jobs. Its failures are counted from the first of them until the last has ended, in a
record of the ``meta`` table that is written together with each failure, because failed jobs leave for the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from retz.model.job import Job

Key = str


class _Group:
    __slots__ = ("fails", "limit", "live")

    def __init__(self, fails: int, limit: int) -> None:
        self.fails = fails
        self.limit = limit
        self.live: dict[int, None] = {}

    @property
    def tripped(self) -> bool:
        return 0 < self.limit <= self.fails


def key_of(owner: str, name: str) -> Key:
    """The group's key in the ``meta`` table."""
    return f"group {owner}/{name}"


class Groups:
    """All groups that have live jobs.

    Args:
        saved: The record of a group, if it has one.
    """

    def __init__(self, saved: Callable[[Key], dict[str, Any] | None]) -> None:
        self._saved = saved
        self._groups: dict[Key, _Group] = {}

    def enter(self, job: Job) -> tuple[Sequence[int], str]:
        """A job of a group is live. The smallest bound that any of its jobs names is the group's.

        Returns:
            If that bound has been reached already: the ids of live jobs, and the message for them.
        """
        key = key_of(job.owner, job.group)
        group = self._groups.get(key)
        if group is None:
            saved = self._saved(key) or {"fails": 0, "limit": 0}
            group = self._groups[key] = _Group(saved["fails"], saved["limit"])
        group.live[job.id] = None
        before = group.tripped
        if job.max_fails and not 0 < group.limit <= job.max_fails:
            group.limit = job.max_fails
        return (list(group.live) if group.tripped and not before else ()), self._message(job.group, group)

    def tripped(self, owner: str, name: str, max_fails: int | None = None) -> bool:
        """Whether nothing of it may start any more; or would, if another job named this bound."""
        group = self._groups.get(key_of(owner, name))
        return group is not None and (group.tripped or 0 < (max_fails or 0) <= group.fails)

    def ended(self, job: Job) -> tuple[dict[str, Any] | None, Sequence[int], str]:
        """A job of a group has ended.

        Returns:
            The group's record from now on (None: it is to be forgotten), the ids of live jobs if this was the failure
            too many (those that run are among them), and the message for them.
        """
        key = key_of(job.owner, job.group)
        group = self._groups.get(key)
        if group is None:
            return None, (), ""
        group.live.pop(job.id, None)
        before = group.tripped
        # What was never started did not fail: else one failure would count for all that waited for it.
        if job.state == "FAILED" and job.reason != "dependency":
            group.fails += 1
        if not group.live:
            del self._groups[key]
            return None, (), ""
        record = {"fails": group.fails, "limit": group.limit} if group.fails else None
        return record, (list(group.live) if group.tripped and not before else ()), self._message(job.group, group)

    def all_tripped(self) -> list[tuple[str, list[int]]]:
        """Message and live jobs of each group that has failed too often: what a crash may have left to do."""
        return [
            (self._message(key.partition("/")[2], group), list(group.live))
            for key, group in self._groups.items()
            if group.tripped
        ]

    def message(self, owner: str, name: str) -> str:
        """Why jobs of a group that has live ones are not started any more."""
        return self._message(name, self._groups[key_of(owner, name)])

    @staticmethod
    def _message(name: str, group: _Group) -> str:
        return f"{group.fails} jobs of group {name} failed (--max-fails {group.limit}): it was not started"
