"""How well jobs used what they asked for: per job, worst first, and in total. Pure: jobs as the API shows them.

Processors: processor seconds over processors asked for times the time it ran. Memory: the peak over what was asked
for. Both over the attempts that ran and were measured: what was lost with its machine counts for nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple


class Efficiency(NamedTuple):
    """One job.

    Attributes:
        elapsed_s: Seconds that its measured attempts ran; None if none was measured.
        cpus: Processors asked for.
        cpu: Part of the processor time asked for that was used; None if nobody measured.
        mem_mb: What its last attempt was given.
        mem: Part of that, at the peak; None if nobody measured.
        attempts: How often it ran.
    """

    id: int
    name: str
    user: str
    state: str
    pipeline: str | None
    run: str | None
    elapsed_s: float | None
    cpus: float
    cpu_s: float | None
    cpu: float | None
    mem_mb: int
    mem_peak_mb: float | None
    mem: float | None
    attempts: int

    @property
    def worst(self) -> float:
        """The lower of the two parts; infinite for one that was not measured."""
        return min((part for part in (self.cpu, self.mem) if part is not None), default=float("inf"))


class Ran(NamedTuple):
    """A measured attempt: seconds, processor seconds, peak and given memory in MiB."""

    seconds: float
    cpu_s: float
    peak_mb: float
    given_mb: int


def runs_of(job: Mapping[str, Any]) -> list[Ran]:
    """The attempts of a job that ran, are over, and were measured."""
    return [ran for attempt in job["attempts"] if (ran := _ran(job, attempt)) is not None]


def _ran(job: Mapping[str, Any], attempt: Mapping[str, Any]) -> Ran | None:
    usage = attempt.get("usage")
    if not usage or not attempt["started"] or not attempt["ended"]:
        return None
    cpu_s, peak = usage.get("cpu_s") or 0.0, usage.get("max_rss_mb") or 0.0
    if not cpu_s and not peak:
        return None  # an engine that does not measure
    # Clocks are set back: an end before the start took no time.
    seconds = (datetime.fromisoformat(attempt["ended"]) - datetime.fromisoformat(attempt["started"])).total_seconds()
    return Ran(max(0.0, seconds), cpu_s, peak, _given_mb(job, attempt))


def _given_mb(job: Mapping[str, Any], attempt: Mapping[str, Any]) -> int:
    """What this attempt was given: one that outgrew its predicted size got less than the next."""
    sized = job.get("sized")
    if sized and sized["outgrew"] is not None and sized["mem"] is not None and attempt["number"] <= sized["outgrew"]:
        return int(sized["mem"])
    return int(job["resources"]["mem"])


def efficiency(job: Mapping[str, Any]) -> Efficiency | None:
    """Of one job; None for an array, whose tasks count, and for one that never ran."""
    ran = runs_of(job)
    started = sum(attempt["started"] is not None for attempt in job["attempts"])
    if job.get("array") is not None or not started:
        return None
    cpus, mem = float(job["resources"]["cpus"]), int(job["resources"]["mem"])
    seconds, cpu_s = sum(each.seconds for each in ran), sum(each.cpu_s for each in ran)
    peak = max((each.peak_mb for each in ran), default=0.0)
    return Efficiency(
        id=int(job["id"]),
        name=str(job.get("name") or ""),
        user=str(job.get("owner") or ""),
        state=str(job["state"]),
        pipeline=job.get("pipeline"),
        run=job.get("run"),
        elapsed_s=round(seconds, 3) if ran else None,
        cpus=cpus,
        cpu_s=round(cpu_s, 3) if ran else None,
        cpu=round(cpu_s / (cpus * seconds), 4) if ran and seconds > 0 else None,
        mem_mb=mem,
        mem_peak_mb=round(peak, 1) if peak else None,
        mem=round(peak / mem, 4) if peak else None,
        attempts=started,
    )


class Total(NamedTuple):
    """Of all jobs. ``cpu`` and ``mem`` are None if nobody measured; memory counts by the time that it was held.

    Attributes:
        jobs: Those that ran.
        unmeasured: Those of them of which nothing was measured.
        cpu_hours, cpu_hours_used: Processors times time.
        mem_gib_hours, mem_gib_hours_used: Memory times time; used is the peak of each attempt.
    """

    jobs: int
    unmeasured: int
    cpu_hours: float
    cpu_hours_used: float
    cpu: float | None
    mem_gib_hours: float
    mem_gib_hours_used: float
    mem: float | None


class Report:
    """Adds jobs up, and keeps the worst of them: memory is bounded however many there are.

    Args:
        most: So many jobs are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._worst: list[tuple[float, int, Efficiency]] = []
        self._number = count()
        self._jobs = self._unmeasured = 0
        self._sums = [0.0, 0.0, 0.0, 0.0]

    def add(self, job: Mapping[str, Any]) -> None:
        """Take a job, as the API shows it; one that never ran is left out."""
        found = efficiency(job)
        if found is None:
            return
        self._jobs += 1
        ran = runs_of(job)
        self._unmeasured += not ran
        for each in ran:
            parts = (found.cpus * each.seconds, each.cpu_s, each.given_mb * each.seconds, each.peak_mb * each.seconds)
            self._sums = [total + part for total, part in zip(self._sums, parts, strict=True)]
        entry = (-found.worst, next(self._number), found)
        if len(self._worst) < self._most:
            heapq.heappush(self._worst, entry)
        elif self._worst:
            heapq.heappushpop(self._worst, entry)

    @property
    def worst(self) -> list[Efficiency]:
        """The jobs that were kept, the worst first; those of which nothing was measured come last."""
        return [entry[2] for entry in sorted(self._worst, key=lambda entry: (-entry[0], entry[1]))]

    @property
    def total(self) -> Total:
        """Of all that were added, kept or not."""
        core_s, cpu_s, given, peak = self._sums
        return Total(
            jobs=self._jobs,
            unmeasured=self._unmeasured,
            cpu_hours=round(core_s / 3600, 4),
            cpu_hours_used=round(cpu_s / 3600, 4),
            cpu=round(cpu_s / core_s, 4) if core_s else None,
            mem_gib_hours=round(given / 3600 / 1024, 4),
            mem_gib_hours_used=round(peak / 3600 / 1024, 4),
            mem=round(peak / given, 4) if given and peak else None,
        )
