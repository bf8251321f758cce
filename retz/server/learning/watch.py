"""Watches running jobs of known pipelines, and flags those that leave the path of the runs before them.

A flag is a field of the record, so it is journalled, streamed and kept; nothing is ever ended because of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from retz.lifecycle import Strayed, advance
from retz.model.job import Job, OffPath, OffPathKind, Usage
from retz.store.database import Change

from .past import StepKey, step_of
from .paths import Bound, Path, path_of

if TYPE_CHECKING:
    from ..core import Core

LOOK_EVERY_S = 5.0
SLICE = 200
"""Jobs looked at, and asked about, in one turn of the loop: about a millisecond."""
PATH_KEPT_S = 60.0
"""A path is computed anew after so long: sooner, ten thousand pipelines would cost a tenth of a core."""
MOST_PATHS = 20_000


class Watch:
    """One per server; call :meth:`look` every :data:`LOOK_EVERY_S`.

    Args:
        ticks: Seconds that never jump.
    """

    def __init__(self, core: Core, ticks: Callable[[], float] = time.monotonic) -> None:
        self._core = core
        self._ticks = ticks
        self._paths: dict[StepKey, tuple[float, Path]] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        """By task: when it was first seen, and for how long it had run then. Wall clocks jump."""
        self._above: set[str] = set()
        """Tasks that were above their band at the last look: one look alone says little, memory jumps about."""
        self._open: set[tuple[str, str, str]] = set()
        """Owner, pipeline and name of runs of which jobs run: what is known of them so far is not all."""

    async def look(self) -> None:
        """Look at all running jobs once."""
        if not self._core.learner.ready:
            return  # just started: what the past says is being read, and an empty path would be kept for a minute
        seen: dict[str, tuple[float, float]] = {}
        above: set[str] = set()
        running = list(self._core.dispatcher.ledger.running)
        self._open = await self._open_runs(running)
        ids = iter(running)
        while part := list(islice(ids, SLICE)):
            jobs = list(self._known(part))
            for job, path in jobs:
                self._look_at_time(job, path, seen)
            await self._look_at_memory(jobs, seen, above)
            await asyncio.sleep(0)
        self._seen, self._above = seen, above
        self._forget_paths()

    async def _open_runs(self, running: Sequence[int]) -> set[tuple[str, str, str]]:
        found = set()
        for start in range(0, len(running), SLICE):
            for job_id in running[start : start + SLICE]:
                job = self._core.db.jobs.record(job_id)
                if job is not None and job.pipeline is not None and job.run is not None:
                    found.add((job.owner, job.pipeline, job.run))
            await asyncio.sleep(0)
        return found

    def _known(self, ids: Sequence[int]) -> Iterator[tuple[Job, Path]]:
        """Those of these jobs that run and of whose step enough is known."""
        for job_id in ids:
            job = self._core.db.jobs.record(job_id)
            if job is not None and job.pipeline is not None and job.state == "STARTED" and len(job.off_path) < 2:
                path = self._path(StepKey(job.owner, job.pipeline, step_of(job)))
                if path.seconds is not None or path.mem_mb is not None:
                    yield job, path

    def _path(self, key: StepKey) -> Path:
        now = self._ticks()
        known = self._paths.get(key)
        if known is None or now - known[0] >= PATH_KEPT_S:
            if len(self._paths) >= MOST_PATHS:
                self._paths.clear()
            runs = self._core.learner.past.runs(*key)
            whole = [run for run in runs if (key.owner, key.pipeline, run.run) not in self._open]
            known = self._paths[key] = now, path_of(whole)
        return known[1]

    def _forget_paths(self) -> None:
        """Those that would be computed anew: of what runs the next look does so, of the rest nobody asks."""
        now = self._ticks()
        self._paths = {key: known for key, known in self._paths.items() if now - known[0] < PATH_KEPT_S}

    def _look_at_time(self, job: Job, path: Path, seen: dict[str, tuple[float, float]]) -> None:
        task, now = job.task_id or "", self._ticks()
        first = self._seen.get(task)
        if first is None:
            first = now, max(0.0, self._core.clock() - (job.started or self._core.clock()))
        seen[task] = first
        if path.seconds is not None and (seconds := first[1] + now - first[0]) > path.seconds.most:
            self._flag(job.id, task, "slower", seconds, path.seconds)

    async def _look_at_memory(
        self, jobs: Sequence[tuple[Job, Path]], seen: dict[str, tuple[float, float]], above: set[str]
    ) -> None:
        paths = {job.task_id or "": (job.id, path) for job, path in jobs if path.mem_mb is not None}
        if not paths:
            return
        asked = self._ticks()
        used = await self._core.engine.usage(list(paths), series=False)
        for task, usage in used.items():
            if task in paths:
                job_id, path = paths[task]
                first, before = seen[task]
                self._compare_memory(job_id, task, usage, path, before + asked - first, above)

    def _compare_memory(
        self, job_id: int, task: str, usage: Usage, path: Path, seconds: float, above: set[str]
    ) -> None:
        """The most it held against whole runs, what it holds after so many seconds against theirs at that time."""
        if path.mem_mb is not None and usage.max_rss_mb > path.mem_mb.most:
            self._flag(job_id, task, "hungrier", usage.max_rss_mb, path.mem_mb)
            return
        held = usage.series[-1][1] if usage.series else 0
        usual = path.band.at(seconds) if held and path.band is not None else None
        if usual is not None and held > usual.most:
            above.add(task)
            if task in self._above:
                self._flag(job_id, task, "hungrier", held, usual, seconds)

    def _flag(
        self, job_id: int, task: str, kind: OffPathKind, value: float, bound: Bound, after_s: float | None = None
    ) -> None:
        core = self._core
        job = core.db.jobs.record(job_id)  # as it is now: it may have ended while the engine was asked
        if job is None or job.task_id != task or job.attempt is None:
            return
        how = OffPath(
            kind=kind, at=core.clock(), attempt=job.attempt.number, value=round(value, 1),
            usual=round(bound.usual, 1), runs=bound.runs, after_s=None if after_s is None else round(after_s, 1),
        )  # fmt: skip
        after, _ = advance(job, Strayed(how))
        if after is not job:
            news = core.outbox.change(after, "off_path", kind)
            core.dispatcher.apply([Change("jobs", job_id, after), *([news] if news is not None else [])])
