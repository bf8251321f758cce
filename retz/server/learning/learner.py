"""What the queue learns: the book of past runs in the server, and the sizes that jobs are given from it.

Errors of the book never stop the queue: they are told once, and jobs get what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from retz.model.application import Application
from retz.model.job import Job, Sized
from retz.model.resources import Resources
from retz.model.submission import JobSpec
from retz.store.database import Change, StoreFailed, Ticket

from .loading import Forgotten, Loaded, load
from .past import Past, StepKey, step_of
from .report import StepReport, mean_duration, replayed
from .sizes import Sizes, StepSize, cpus_for

if TYPE_CHECKING:
    from ..core import Core

log = logging.getLogger("retz.learning")

SLICE = 8
"""Steps whose sizes take 4 ms; jobs of a bulk between two looks at the clock."""
TURN_S = 0.004
TAKEN_AT_ONCE = 200
PATIENCE_S = 5.0
"""So long a job that is to be sized waits for the book after a start, before it gets what it asks for."""
_META = "forgotten-pipelines"
_MOST_FORGOTTEN = 10_000


class Learner:
    """See the module's text. All methods are called on the event loop's thread.

    Attributes:
        past: The book.
        ready: Whether it has been read from the archive.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.past = Past()
        self.sizes = Sizes(self.past)
        self.ready = False
        self._waiting: list[int] = []
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the book in the background. The dispatcher must have been started."""
        # They end in the archive, before it is read or while it is, or not yet.
        self._waiting = [*self._core.dispatcher.ended, *self._waiting]
        self._task = asyncio.get_running_loop().create_task(self._load())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def loaded(self, timeout_s: float | None = None) -> None:
        """Wait until the book has been read, or could not be; or for so long."""
        if self._task is not None and not self.ready:
            await asyncio.wait([self._task], timeout=timeout_s)

    async def _load(self) -> None:
        try:
            found = await asyncio.to_thread(load, self._core.archive, self.forgotten())
            await self._take(found)
        except Exception as error:  # noqa: BLE001 (logged there: the queue works without the book)
            self._tell(error)
        self.ready = True

    async def _take(self, found: Loaded) -> None:
        """Add to the book what ended meanwhile, then let it count."""
        while self._waiting:
            part, self._waiting = self._waiting[:TAKEN_AT_ONCE], self._waiting[TAKEN_AT_ONCE:]
            for job_id in part:
                job = None if job_id in found.seen else self._core.find(job_id)
                if job is not None:
                    found.past.add(job)
            await asyncio.sleep(0)
        self.past.become(found.past)
        self.sizes.clear()

    # -- what ends ---------------------------------------------------------------------------------------------

    def ended(self, job: Job) -> None:
        """Take a job that has just ended."""
        if not self.ready:
            self._waiting.append(job.id)
        try:
            key = self.past.add(job)
            if key is not None:
                self.sizes.changed(key)
        except Exception as error:  # noqa: BLE001 (logged there: ends are not to be held up)
            self._tell(error)

    def forget(self, owner: str, pipeline: str, run: str = "") -> Ticket:
        """The history of a pipeline, or a run of it, is to be forgotten, also after a restart.

        Raises:
            StoreFailed: nothing can be recorded any more.
        """
        self.past.forget(owner, pipeline, run)
        self.sizes.clear()
        known = self._forgotten()
        kept = [entry for entry in known if entry[:2] != (owner, pipeline) or (run and entry[2] != run)]
        kept = kept[-_MOST_FORGOTTEN:]
        entry = (owner, pipeline, run, self._core.clock())
        return self._core.dispatcher.apply([Change("meta", _META, {"pipelines": [*kept, entry]})])

    def forgotten(self) -> Forgotten:
        """What was to be forgotten, and when."""
        return {(owner, name, run): at for owner, name, run, at in self._forgotten()}

    def _forgotten(self) -> list[tuple[str, str, str, float]]:
        saved = self._core.db.meta.record(_META)
        return [] if saved is None else [(owner, name, run, at) for owner, name, run, at in saved["pipelines"]]

    def _tell(self, error: Exception) -> None:
        if isinstance(error, StoreFailed):
            return
        if not self._failed:
            log.error("the book of past runs: %s: %s (the queue itself goes on)", type(error).__name__, error,
                      exc_info=error)  # fmt: skip
        self._failed = True

    # -- sizes -------------------------------------------------------------------------------------------------

    def size_of(self, owner: str, spec: JobSpec) -> StepSize | None:
        """What the past of a job's step says; None if that cannot be told."""
        if spec.pipeline is None:
            return None
        try:
            return self.sizes.of(StepKey(owner, spec.pipeline, step_of(spec)))
        except Exception as error:  # noqa: BLE001 (logged there: the job gets what was asked for)
            self._tell(error)
            return None

    async def prepare(self, owner: str, specs: Sequence[JobSpec], sized: Callable[[JobSpec, str], bool]) -> None:
        """Compute the sizes that these jobs will be given: half a millisecond for each step that has news.

        Args:
            sized: Whether a job is to be sized, given its owner.
        """
        until = time.monotonic() + TURN_S
        for number, spec in enumerate(specs):
            if spec.pipeline is not None and sized(spec, owner):
                await self.loaded(PATIENCE_S)
                self.size_of(owner, spec)
            if not number % SLICE and time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + TURN_S

    async def reports(self, owner: str, pipeline: str) -> list[StepReport]:
        """What the past says about each step of a pipeline, one after the other; empty if none is known."""
        await self.loaded(PATIENCE_S)
        found: list[StepReport] = []
        for step in self.past.steps(owner, pipeline):
            found += self.report(owner, pipeline, step)
            await asyncio.sleep(0)
        return found

    def report(self, owner: str, pipeline: str, step: str | None = None) -> list[StepReport]:
        """The same at once, of all steps or one: 4 ms for each."""
        keys = [StepKey(owner, pipeline, each) for each in self.past.steps(owner, pipeline) if step in (None, each)]
        return [self._report(key) for key in keys]

    def _report(self, key: StepKey) -> StepReport:
        runs, found = self.past.runs(*key), self.sizes.of(key)
        asked = Resources(cpus=round(runs[-1].cpus_asked, 3), mem=round(runs[-1].asked_mb))
        needed, given = self._core.config.estimator_min_runs, None
        if found.runs >= needed:
            floor = self._core.config.predicted_floor
            given, _ = fitted(found, asked, floor, self._core.admission.most_for(asked))
        return StepReport(
            step=key.step,
            asked_mb=asked.mem,
            asked_cpus=asked.cpus,
            given_mb=None if given is None else given.mem,
            given_cpus=None if given is None else given.cpus,
            size=found,
            duration_s=mean_duration(runs),
            replayed=replayed(runs, needed),
        )

    def sized(self, owner: str, spec: JobSpec, asked: Resources, application: Application | None,
              most: Resources) -> tuple[Resources, Sized]:  # fmt: skip
        """What a job gets that is to have what its past runs say, and the record of that.

        Args:
            asked: What it asks for.
            most: What this server would ever give to one that asks for ``asked``.
        """
        found = self.size_of(owner, spec)
        runs = 0 if found is None else found.runs
        if found is None or runs < self._core.config.estimator_min_runs:
            return asked, Sized(asked=asked, runs=runs)
        floor = max(self._core.config.predicted_floor, 0 if application is None else application.predict_floor)
        return fitted(found, asked, floor, most)


def fitted(found: StepSize, asked: Resources, floor: int, most: Resources) -> tuple[Resources, Sized]:
    """What the past says, kept between floor (MiB) and the most that there is; and the record of it.

    Where memory turns out too little, what was asked for comes next; where that was no more, twice as much.
    """
    mem = max(1, min(max(-int(-found.memory.limit // 1), floor), most.mem))
    cpus = min(cpus_for(found.busy, asked.cpus), most.cpus)
    again = min(asked.mem if asked.mem > mem else 2 * mem, most.mem)
    given = Resources(cpus, mem, asked.disk, asked.gpus, asked.ports)
    return given, Sized(asked=asked, runs=found.runs, mem=mem, again_mem=again if again > mem else 0)
