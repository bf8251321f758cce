"""Starts that the launcher keeps until another task has ended."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Start = list[Any]
    """What the launcher is to be told when it is time; the task is the first of it."""


class Followers:
    """Who waits for whose end. Behind one that waits, others may wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Start]] = {}
        self._tasks: set[str] = set()

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    def add(self, after: str, start: Start) -> None:
        """Keep this until the task ``after`` has ended."""
        self._waiting.setdefault(after, []).append(start)
        self._tasks.add(start[0])

    def take(self, after: str) -> list[Start]:
        """Take out what waited for this task's end."""
        starts = self._waiting.pop(after, [])
        self._tasks.difference_update(start[0] for start in starts)
        return starts

    def withdraw(self, task: str) -> list[str]:
        """Let go of a task, if it still waits, and of those in line behind it; returns them, the last first."""
        for after, waiting in self._waiting.items():
            for index, start in enumerate(waiting):
                if start[0] == task:
                    del waiting[index]
                    if not waiting:
                        del self._waiting[after]
                    self._tasks.discard(task)
                    return [*self._withdraw_behind(task), task]
        return []

    def _withdraw_behind(self, task: str) -> list[str]:
        return [gone for behind in list(self._waiting.get(task, ())) for gone in self.withdraw(behind[0])]

    def clear(self) -> None:
        """Let go of all."""
        self._waiting.clear()
        self._tasks.clear()
