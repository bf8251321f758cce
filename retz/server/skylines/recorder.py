"""Writes the skylines of runs into their owners' histories, in the background.

The queue never waits for any of this: numbers are collected in threads, histories written by the estimator's own
processes, and what cannot be written now is tried again later. After a crash nothing is missing: a mark in the store
says up to which end of a job all runs are written, and it never passes one that is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from estimator.config import ALIASES, EstimatorConfig
from estimator.errors import Busy, ConfigurationError, EstimatorError, StoreDamaged, WorkerFailed
from estimator.solver.base import SolverSettings
from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.model.job import ENDED_STATES, Job
from retz.store.database import Change, StoreFailed

from .collecting import Found, Numbers, archived_numbers, find_ended, find_runs, newest, numbers_of
from .packed import Packed
from .runs import Run, RunKey, Runs

if TYPE_CHECKING:
    from estimator.operations import Outcome

    from ..core import Core

log = logging.getLogger("retz.skylines")

MARK_EVERY_S = 10.0
ON_DISK_AFTER_S = 60.0
"""Histories are not synced: what was written so long before a power cut is on the disk anyway, the rest is redone."""
PAUSE_S = 0.25
"""Least time between two rounds: ends that come together are looked at together."""
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 600.0
CATCH_UP_S = 2.0
SLICE = 200
MAX_CAUSES = 100
MAX_LOST = 10_000
_LONGEST_NAME = 150


class LanesLike(Protocol):
    """What of :class:`estimator.lanes.Lanes` is used here."""

    async def call(self, place: Path, operation: str, /, **arguments: Any) -> Outcome:
        """Do an operation in a worker process."""
        ...

    def states(self) -> Any:
        """How the workers do."""
        ...

    async def close(self) -> None:
        """End them."""
        ...


def estimator_config(config: ServerConfig) -> EstimatorConfig:
    """What the server's keys mean to the estimator.

    Raises:
        ConfigError: a value is out of its range, or no solver has that name.
    """
    solver = config.estimator_solver
    if solver not in ALIASES and "." not in solver:
        raise ConfigError(f"retz.estimator.solver: there is no solver {solver!r}; take fast, or a dotted path")
    if config.estimator_interval != int(config.estimator_interval):
        raise ConfigError("retz.estimator.interval must be whole seconds")
    try:
        settings = SolverSettings(
            alpha=config.estimator_alpha,
            beta=config.estimator_beta,
            min_runs=config.estimator_min_runs,
            interval=int(config.estimator_interval),
        )
    except ConfigurationError as error:
        raise ConfigError(f"retz.estimator: {error}") from None
    directory = config.data_dir / "skylines"
    return replace(
        EstimatorConfig(), settings=settings, solver=solver, directory=directory, workers_idle_s=config.estimator_idle
    )


class Skylines:
    """The estimator in the queue: runs that wait to be written, and the way to the owners' histories.

    Attributes:
        recorded, failures: Runs written, and failed tries, since the start.
        failure: What went wrong last; None while all is well.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.enabled = core.config.estimator_enabled
        self.config = estimator_config(core.config)
        self.runs = Runs(time.monotonic)
        self.recorded = 0
        self.failures = 0
        self.failure: str | None = None
        self._lanes: LanesLike | None = None
        self._owners: dict[Path, str] = {}
        self._told: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._round_over = asyncio.Event()
        self._writing: set[tuple[str, str]] = set()
        self._mark = 0.0
        self._mark_due = False
        self._marked_at = 0.0
        self._rebuilding: dict[tuple[str, str], None] = {}
        self._lost: set[tuple[str, str]] = set()

    @property
    def lanes(self) -> LanesLike:
        """The way to the workers; none runs before the first call. Histories found damaged are made again."""
        if self._lanes is None:
            from estimator.lanes import Lanes

            self._lanes = _Mending(Lanes(self.config), self._damaged)
        return self._lanes

    @lanes.setter
    def lanes(self, lanes: LanesLike) -> None:
        self._lanes = _Mending(lanes, self._damaged)

    def place(self, owner: str) -> Path:
        """The directory of a user's history."""
        name = quote(owner, safe="").replace(".", "%2E")
        if len(name) > _LONGEST_NAME:
            name = name[:_LONGEST_NAME] + "-" + hashlib.sha256(owner.encode()).hexdigest()[:32]
        place = self.config.directory / name
        self._owners[place] = owner
        return place

    async def call(self, owner: str, operation: str, /, **arguments: Any) -> Outcome:
        """Do an operation on a user's history.

        Raises:
            EstimatorError: what the operation raised.
        """
        return await self.lanes.call(self.place(owner), operation, **arguments)

    async def caught_up(self, owner: str, pipeline: str | None) -> None:
        """Have what ended of a pipeline (None: of all the owner's) written first, so that who asks finds it.

        Not for long, nor in trouble.
        """
        if self._task is None or self.failure is not None:
            return
        if not self.runs.hurry(owner, pipeline, CATCH_UP_S) and not self._is_writing(owner, pipeline):
            return
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S):
                while self.runs.waiting_of(owner, pipeline) or self._is_writing(owner, pipeline):
                    await self._round_over.wait()

    def _is_writing(self, owner: str, pipeline: str | None) -> bool:
        return any(place[0] == owner and pipeline in (None, place[1]) for place in self._writing)

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. The event loop must be running, the dispatcher started."""
        if not self.enabled:
            return
        saved = self._core.db.meta.record("skylines")
        self._mark = saved["recorded_until"] if saved is not None else 0.0
        self.runs.on_due = self._wake.set
        self.runs.on_late = self._late
        if self.runs.waiting:  # news that came with the start, perhaps of ends long ago
            self._late(self.runs.earliest_unwritten())
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is not written yet is after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._lanes is not None:
            await self._lanes.close()

    async def _run(self) -> None:
        while not await self._safely(self._catch_up):
            pass
        while True:
            await self._next()
            if not await asyncio.to_thread(self.config.directory.is_dir):
                await self._safely(self._catch_up)  # it was there at the start: somebody removed it
            if self._rebuilding:
                await self._safely(self._rebuild_all)
            await self._safely(self._round)
            self._round_over.set()
            self._round_over.clear()
            await self._safely(self._advance)
            await asyncio.sleep(PAUSE_S)

    async def _next(self) -> None:
        """Wait until something is due, or the mark."""
        while not self._rebuilding:
            self._wake.clear()
            times = [at for at in (self.runs.next_due(), self._mark_time()) if at is not None]
            delay = min(times) - time.monotonic() if times else None
            if delay is not None and delay <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether the work was done; after a failure wait a while."""
        try:
            await work()
        except StoreFailed:
            await asyncio.Event().wait()  # nothing can be promised any more; the server is to be restarted
        except Exception as error:  # noqa: BLE001 (logged there: the next round tries again)
            self._failed(f"{type(error).__name__}: {error}", error)
            await asyncio.sleep(FIRST_RETRY_S)
            return False
        return True

    # -- the mark ------------------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Find what ended before a crash and was not written: since the mark, or ever if there are no histories."""
        known = await asyncio.to_thread(self.config.directory.is_dir)
        since = max(0.0, self._mark - ON_DISK_AFTER_S) if known else 0.0
        found, earliest = await asyncio.to_thread(self._ended_since, since)
        if found:
            self._late(earliest)
        await self._take(found, whole=since == 0.0)
        try:
            await asyncio.to_thread(lambda: self.config.directory.mkdir(mode=0o700, parents=True, exist_ok=True))
        except OSError as error:  # the first run to be written meets it again
            self._failed(str(error))
        # Without a mark every start would look at everything.
        self._mark_due = self._mark_due or self._mark == 0.0

    def _ended_since(self, since: float) -> tuple[list[tuple[RunKey, Found]], float]:
        """The runs to write, and the time of the first end in any that was found. Blocking."""
        found = find_ended(self._core.archive, since)
        earliest = min((run.earliest for run in found.values()), default=inf)
        return newest(found, self._core.config.estimator_keep_runs), earliest

    async def _take(self, found: list[tuple[RunKey, Found]], *, whole: bool) -> None:
        """Have these runs of the archive written, in this order. The list is empty afterwards."""
        forgotten = self._core.learner.forgotten()
        found.reverse()
        while found:
            key, each = found.pop()
            if each.latest <= max(forgotten.get((*key[:2], run), 0.0) for run in ("", key.run)):
                continue
            run = self.runs.found(key, each.ids, whole=whole)
            run.not_before = 0.0
            self.runs.unwritten(run, each.earliest)
            if len(found) % SLICE == 0:
                await asyncio.sleep(0)

    def _late(self, ended: float) -> None:
        """Something ended (at a time) that is not written: the mark must not have passed it."""
        self._mark_due = True
        if ended < self._mark:
            with contextlib.suppress(StoreFailed):  # the journal is broken: a restart finds the end as little as this
                self._set_mark(ended)

    def _set_mark(self, until: float) -> None:
        self._mark = until
        self._core.dispatcher.apply([Change("meta", "skylines", {"recorded_until": until})])

    def _mark_time(self) -> float | None:
        return self._marked_at + MARK_EVERY_S if self._mark_due and not self.runs.waiting else None

    async def _advance(self) -> None:
        """Move the mark to the first end that is not written."""
        if not self._mark_due or self._rebuilding or time.monotonic() < self._marked_at + MARK_EVERY_S:
            return
        self._marked_at = time.monotonic()
        now = self._core.clock()
        until = min(now, self.runs.earliest_unwritten())
        self._mark_due = bool(self.runs.waiting)
        if until > self._mark:
            self._set_mark(until)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        """Write every run that is due now."""
        batch: list[Run] = []  # the next one last
        while (run := self.runs.pop()) is not None:
            if self.runs.waiting_of(*run.key[:2]) >= self._core.config.estimator_keep_runs:
                self.runs.written(run, run.version)  # enough newer ones wait: it would be dropped at once
                continue
            batch.append(run)
            if len(batch) == SLICE:
                break
        batch.reverse()
        self._writing = {run.key[:2] for run in batch}
        try:
            await self._complete([run for run in batch if not run.whole])
            # Only what is durably over is written.
            await self._core.dispatcher.settled()
            while batch and await self._write(batch[-1]):
                batch.pop()
        finally:
            self._writing = set()
            for run in batch:  # none is forgotten
                self.runs.failed(run, min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(run.failures, 10)))

    async def _complete(self, runs: list[Run]) -> None:
        """Find the archived jobs of runs that may be older than this process."""
        if not runs:
            return
        wanted = {run.key for run in runs}
        places = {key[:2] for key in wanted}
        began = time.monotonic()
        found = await asyncio.to_thread(find_runs, self._core.archive, wanted, places)
        for run in runs:
            self.runs.found(run.key, found[run.key].ids if run.key in found else (), whole=True)
        # Runs that were never seen before come one after the other, too: no more than half of the time for searches.
        await asyncio.sleep(time.monotonic() - began)

    async def _write(self, run: Run) -> bool:
        """Write one run; False if the workers fail, so that the next one would fare no better."""
        version = run.version
        try:
            numbers = await self._numbers(run)
            if run.version != version or run.live:
                return True  # the end of what came meanwhile brings it again
            if numbers.spans:
                await self._record(run, numbers)
        except StoreFailed:
            raise
        except (WorkerFailed, Busy) as error:
            self._failed(str(error))
            return False
        except Exception as error:  # noqa: BLE001 (logged: one run must not be in the way of the others)
            self._failed(f"{type(error).__name__}: {error}", None if isinstance(error, EstimatorError) else error)
            self.runs.failed(run, min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(run.failures, 10)))
            return True
        self.runs.written(run, version)
        return True

    async def _record(self, run: Run, numbers: Numbers) -> None:
        owner, pipeline, name = run.key
        keep = self._core.config.estimator_keep_runs
        spans, usages = await asyncio.to_thread(lambda: (Packed(numbers.spans), Packed(numbers.usages)))
        await self.call(owner, "record_run", pipeline=pipeline, run=name, spans=spans, usages=usages, keep=keep)
        self.recorded += 1
        self._works()

    async def _numbers(self, run: Run) -> Numbers:
        core = self._core
        ids = list(dict.fromkeys(run.ids))
        numbers = Numbers([], [])
        archived: list[int] = []
        for start in range(0, len(ids), SLICE):
            part = ids[start : start + SLICE]
            # A record leaves the table only when it is in the archive.
            hot = [job for job in map(core.db.jobs.record, part) if job is not None]
            here = {job.id for job in hot}
            archived += [job_id for job_id in part if job_id not in here]
            ended = [job for job in hot if job.state in ENDED_STATES]
            if ended:
                _extend(numbers, await asyncio.to_thread(numbers_of, ended, len(ids)))
        if archived:
            _extend(numbers, await asyncio.to_thread(archived_numbers, core.archive, archived, len(ids)))
        return numbers

    # -- trouble ---------------------------------------------------------------------------------------------------

    def _damaged(self, place: Path, pipeline: str) -> None:
        """Write all runs of a pipeline again: its history is lost."""
        owner = self._owners.get(place)
        if owner is not None and self._task is not None:
            self._rebuilding[owner, pipeline] = None
            self._late(0.0)  # a crash before it is done: the next start makes all histories again
            self._wake.set()

    def lost(self, owner: str, pipeline: str) -> bool:
        """Whether a history that is not there should be: it is made again then, once."""
        place, past = (owner, pipeline), self._core.learner.past
        if place in self._lost or len(self._lost) >= MAX_LOST or self._task is None:
            return False
        runs = {run.run for step in past.steps(*place) for run in past.runs(*place, step)}
        if all(self.runs.pending(RunKey(*place, run)) for run in runs):
            return False
        self._lost.add(place)
        self._damaged(self.place(owner), pipeline)
        return True

    async def _rebuild_all(self) -> None:
        while self._rebuilding:
            owner, pipeline = place = next(iter(self._rebuilding))
            log.warning("the history of a pipeline was damaged or lost: it is made again from the archive")
            found = await asyncio.to_thread(find_runs, self._core.archive, _AllOf(place), {place})
            for job in self._hot(owner, pipeline):
                run = found.setdefault(RunKey(owner, pipeline, job.run or ""), Found([]))
                run.ids.append(job.id)
                run.earliest, run.latest = min(run.earliest, job.ended or 0.0), max(run.latest, job.ended or 0.0)
            del self._rebuilding[place]
            await self._take(newest(found, self._core.config.estimator_keep_runs), whole=True)

    def _hot(self, owner: str, pipeline: str) -> list[Job]:
        """Ended jobs of the pipeline that are not archived yet: seconds' worth."""
        jobs = self._core.db.jobs
        records = map(jobs.record, list(self._core.dispatcher.ended))
        return [job for job in records if job is not None and job.run is not None
                and (job.owner, job.pipeline) == (owner, pipeline)]  # fmt: skip

    def _failed(self, cause: str, error: Exception | None = None) -> None:
        self.failures += 1
        self.failure = cause
        if cause in self._told or len(self._told) >= MAX_CAUSES:
            return
        self._told.add(cause)
        log.error("cannot keep the skylines of runs, trying again: %s (the queue itself goes on)", cause,
                  exc_info=error)  # fmt: skip

    def _works(self) -> None:
        if self.failure is not None:
            log.info("skylines of runs are kept again")
            self.failure = None
            self._told.clear()


class _Mending:
    """Lanes that tell of damaged histories."""

    def __init__(self, lanes: LanesLike, damaged: Callable[[Path, str], None]) -> None:
        self._lanes = lanes
        self._damaged = damaged

    async def call(self, place: Path, operation: str, /, **arguments: Any) -> Outcome:
        """As the lanes do it."""
        try:
            return await self._lanes.call(place, operation, **arguments)
        except StoreDamaged:
            if "pipeline" in arguments:
                self._damaged(place, str(arguments["pipeline"]))
            raise

    def states(self) -> Any:
        """How the workers do."""
        return self._lanes.states()

    async def close(self) -> None:
        """End the workers."""
        await self._lanes.close()


class _AllOf:
    """Every run of one pipeline."""

    def __init__(self, place: tuple[str, str]) -> None:
        self._place = place

    def __contains__(self, key: object) -> bool:
        return isinstance(key, RunKey) and key[:2] == self._place


def _extend(numbers: Numbers, more: Numbers) -> None:
    numbers.spans.extend(more.spans)
    numbers.usages.extend(more.usages)
