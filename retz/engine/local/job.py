"""One running job, as the launcher sees it."""

from __future__ import annotations

import os

from retz.engine.series import Series

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOREVER = float("inf")


class Job:
    """A started process and what is known of it. Times are monotonic seconds, ``started`` is since the epoch.

    Attributes:
        deadline: When to do the next thing to it: end it for its time limit, or SIGKILL it after the grace.
        verdict: Why we are ending it: ``timeout``, ``oom``, ``user``, ``lost``; None if we are not.
        forced: SIGKILL was sent; whatever of it still appears gets one too.
        status: Wait status of the main process once it is over.
        news: Descriptor on which its preparation tells how it went; None once the command itself runs.
        trouble: ``[reason, exit code or None, message]`` if that failed.
        limits: What :meth:`begin` sets.
        contained: It runs in a container; the main process is its keeper, see ``container.py``.
        roots: Processes of its container, by pid and start time, below which all others of it are.
        urged: The keeper was told to end the container at once.
    """

    __slots__ = (
        "born",
        "contained",
        "cpu_s",
        "deadline",
        "ended",
        "forced",
        "grace_s",
        "limit_mb",
        "limits",
        "message",
        "news",
        "orphan_cpu_s",
        "peak_mb",
        "pid",
        "record",
        "roots",
        "rss_mb",
        "series",
        "started",
        "status",
        "task",
        "timeout_s",
        "trouble",
        "urged",
        "verdict",
    )

    def __init__(
        self, task: str, pid: int, record: str, *, started: float | None, born: float, interval_s: float
    ) -> None:
        self.task = task
        self.pid = pid
        self.record = record
        self.started = started
        self.born = born
        self.news: int | None = None
        self.trouble: list[Any] | None = None
        self.contained = self.urged = False
        self.roots: dict[int, int] = {}
        self.limits: tuple[int | None, float | None, float] = (None, None, 5.0)
        self.limit_mb: int | None = None
        self.timeout_s: float | None = None
        self.grace_s = 5.0
        self.deadline = FOREVER
        self.verdict: str | None = None
        self.message: str | None = None
        self.forced = False
        self.status: int | None = None
        self.ended = 0.0
        self.cpu_s = 0.0
        self.orphan_cpu_s = 0.0
        self.rss_mb = 0.0
        self.peak_mb = 0.0
        self.series = Series(interval_s)

    def begin(self, now: float, at: float) -> None:
        """The command runs since now: its time counts, and its limits."""
        self.born, self.started = now, at
        if self.verdict is None:
            self.limit(*self.limits)

    def limit(self, mem_mb: int | None, timeout_s: float | None, grace_s: float) -> None:
        """Set its limits."""
        self.limit_mb, self.timeout_s, self.grace_s = mem_mb, timeout_s, grace_s
        if timeout_s is not None:
            self.deadline = self.born + timeout_s

    def sample(self, now: float, cpu_s: float, rss_mb: float) -> None:
        """Note what its living processes used: processor seconds so far, resident memory now."""
        # Processes that were killed before their parent waited for them leave the sum: it must not fall.
        self.cpu_s = max(self.cpu_s, cpu_s + self.orphan_cpu_s)
        self.rss_mb = rss_mb
        self.peak_mb = max(self.peak_mb, rss_mb)
        self.series.add(now - self.born, self.cpu_s, rss_mb)

    def charge(self, cpu_s: float, max_rss_kb: int) -> None:
        """Add what an orphan of it used in its whole life."""
        self.orphan_cpu_s += cpu_s
        if not self.contained:  # else it is the runtime's own, too
            self.peak_mb = max(self.peak_mb, max_rss_kb / 1024)
        if self.status is not None:
            self.cpu_s = max(self.cpu_s, self.orphan_cpu_s)

    def over(self, status: int, cpu_s: float, max_rss_kb: int, now: float, at: float) -> None:
        """Its main process has ended."""
        self.status, self.ended = status, at
        if self.contained:  # the keeper's own use is not the job's
            cpu_s = max_rss_kb = 0
        self.cpu_s = max(self.cpu_s, cpu_s + self.orphan_cpu_s)
        self.peak_mb = max(self.peak_mb, max_rss_kb / 1024)
        self.series.end(now - self.born, self.cpu_s)

    def killed_by(self, number: int) -> bool:
        """Whether this signal ended its main process, or, as shells tell it, the last process that this waited for."""
        if self.status is None:
            return False
        if os.WIFSIGNALED(self.status):
            return os.WTERMSIG(self.status) == number
        return os.WEXITSTATUS(self.status) == 128 + number

    def usage(self, series: bool = True) -> list[Any]:
        """``[cpu_s, max_rss_mb, interval_s, series]``; of the series just the latest point if it is not wanted."""
        points = self.series.points if series else self.series.latest
        interval = self.series.interval if points else 0
        return [round(self.cpu_s, 4), round(self.peak_mb, 1), interval, points]

    def final(self, seq: int) -> list[Any]:
        """The message that says how it ended: ``["e", seq, kind, task, at, started, code, signal, reason, ...]``."""
        kind = "lost" if self.verdict == "lost" else "ended"
        status = self.status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = None if number is not None else os.WEXITSTATUS(status)
        reason, message = None if kind == "lost" else self.verdict, self.message
        if self.trouble is not None and self.verdict is None:
            reason, code, message = self.trouble
            if reason == "start" and code is None:  # the machine is to blame
                kind, reason = "not_started", None
            elif reason == "lost":  # its container ended unseen
                kind, reason = "lost", None
        return ["e", seq, kind, self.task, self.ended, self.started, code, number, reason, message, self.usage()]


def size(mib: float) -> str:
    """Return a size with one decimal where that says more: ``512M``, ``2.1G``."""
    return f"{mib:.0f}M" if mib < 1024 else f"{mib / 1024:.1f}".removesuffix(".0") + "G"


def duration(seconds: float) -> str:
    """Return a duration for a message: ``1.5s``, ``30s``, ``2:05:00``."""
    if seconds < 60:
        return f"{seconds:g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} minutes"
