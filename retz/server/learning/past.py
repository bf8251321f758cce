"""The book of past runs: per step of a user's pipeline the last of them, in memory.

Derived from job records: filled from the archive at the start (:mod:`.loading`) and by every job that ends. A *step*
is what recurs within a pipeline: the job's name, or for a job without one the program that its command begins with.
A run of a step is one record, however many jobs, attempts and resubmissions it took.
"""

from __future__ import annotations

import struct
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from math import isnan, nan
from posixpath import basename
from typing import Any, Literal, NamedTuple

from retz.model.job import Attempt, Job
from retz.model.submission import JobSpec

from .curves import NO_CURVE, POINTS, Curve, curve_of, joined

Outcome = Literal["finished", "failed", "oom", "timeout"]

KEPT = 50
"""Runs kept of a step."""
MOST_STEPS = 20_000
"""Steps kept; of more, those go of which nothing has ended for longest. 110 MB if each has 50 runs."""
MOST_SIMILAR = 20_000
LOOKED_BACK = 8
"""Jobs of one run that end while this many later ones ended are taken for a run of their own."""
SIMILAR = 16
"""So many similar jobs are remembered. D. Tsafrir et al. ("Backfilling using system-generated predictions", 2007) found
that two are as good as any number; more say how wrong one is with them. 10 MB of 20 000 kinds."""

_OUTCOMES: tuple[Outcome, ...] = ("finished", "failed", "oom", "timeout")
_ROW = struct.Struct(f"<qdffffffffIBB{POINTS}s")
_INTERPRETERS = frozenset({"python", "python3", "bash", "sh", "perl", "ruby", "Rscript", "node", "java", "julia"})


class StepKey(NamedTuple):
    """A step of one user's pipeline."""

    owner: str
    pipeline: str
    step: str


class Lasted(NamedTuple):
    """A job that ended well: when it was submitted and ended, epoch seconds, and how long it ran."""

    submitted: float
    ended: float
    seconds: float


class PastRun(NamedTuple):
    """One run of a step.

    Attributes:
        run: The run's name.
        job: Id of the job that ended last in it.
        ended: Epoch seconds of its end.
        duration_s: Seconds from start to end of a job's last attempt; of several jobs the mean.
        peak_mb: Highest memory that any attempt held, MiB; None if nobody measured.
        asked_mb: What the user asked for, MiB; of several jobs the most.
        given_mb: What the last attempt was given, MiB: differs from ``asked_mb`` under ``--predicted``.
        cpus_asked: Processors that the user asked for.
        cpu_s: Processor seconds of a job's last attempt, of several jobs the mean; None if nobody measured.
        outcome: ``finished`` if any job of it ended well, else why the last did not.
        jobs: Jobs that ``duration_s`` and ``cpu_s`` are means of.
        partial: ``peak_mb`` is of an attempt that was cut short: the whole would have needed at least as much.
        given_cpus: Processors that the last attempt was given; 0 if nobody knows.
        longest_s: Seconds of the longest of the jobs that ``duration_s`` is the mean of.
        curve: The memory that they held at most over that time, in shares of ``peak_mb``.
    """

    run: str
    job: int
    ended: float
    duration_s: float
    peak_mb: float | None
    asked_mb: float
    given_mb: float
    cpus_asked: float
    cpu_s: float | None
    outcome: Outcome
    jobs: int = 1
    partial: bool = False
    given_cpus: float = 0.0
    longest_s: float = 0.0
    curve: Curve = NO_CURVE


def step_of(job: Job | JobSpec) -> str:
    """The step that a job is of: its name, else the program of its command, with an interpreter's script."""
    return job.name or _program(job.command)


def _program(command: str | tuple[str, ...]) -> str:
    words = iter(command.split(None, 8)[:8] if isinstance(command, str) else command[:8])
    for word in words:
        if "=" not in word:
            break
    else:
        return ""
    name = word.rpartition("/")[2] or word
    if name not in _INTERPRETERS:
        return name[:200]
    script = next((each for each in words if not each.startswith("-")), "")
    return f"{name} {basename(script)}".strip()[:200]


def run_of(job: Job) -> PastRun | None:
    """An ended job as a run of its step; None if it says nothing: never started, or ended by a person."""
    last = job.attempt
    duration_s = _duration(job)
    if duration_s is None or last is None or job.ended is None or job.state not in ("FINISHED", "FAILED"):
        return None
    if job.reason in ("user", "lost", "dependency", "max_fails"):
        return None
    good = job.state == "FINISHED"
    outcome: Outcome = "finished" if good else job.reason if job.reason in ("oom", "timeout") else "failed"
    peaks = [peak for attempt in job.attempts if (peak := _peak(attempt, job.given(attempt).mem)) is not None]
    peak_mb = max(peaks, default=None)
    asked = job.resources if job.sized is None else job.sized.asked
    return PastRun(
        run=job.run or "",
        job=job.id,
        ended=job.ended,
        duration_s=duration_s,
        peak_mb=peak_mb,
        asked_mb=asked.mem,
        given_mb=job.resources.mem,
        cpus_asked=asked.cpus,
        cpu_s=last.usage.cpu_s if last.usage is not None and last.usage.interval_s > 0 else None,
        outcome=outcome,
        partial=not good,
        given_cpus=job.resources.cpus,
        longest_s=duration_s,
        curve=curve_of(last.usage, duration_s, peak_mb) if good else NO_CURVE,
    )


def _duration(job: Job) -> float | None:
    """Seconds of the last attempt; None if it never started. Clocks are set back: then it took no time at all."""
    last = job.attempts[-1] if job.attempts else None
    if last is None or last.started is None or last.ended is None or job.array is not None:
        return None
    return max(0.0, last.ended - last.started)


def _peak(attempt: Attempt, given_mb: int) -> float | None:
    """What one attempt held at most; killed for memory, it wanted at least what it was given."""
    measured = attempt.usage.max_rss_mb if attempt.usage is not None else 0.0
    if attempt.reason == "oom":
        return max(measured, float(given_mb))
    return measured if measured > 0 else None


def together(earlier: PastRun, later: PastRun) -> PastRun:
    """Two records of one run as one."""
    high = max((earlier, later), key=lambda run: -1.0 if run.peak_mb is None else run.peak_mb)
    good = [run for run in (earlier, later) if run.outcome == "finished"] or [later]
    jobs = sum(run.jobs for run in good)
    measured = [run for run in good if run.cpu_s is not None]
    cpu_s = (
        sum((run.cpu_s or 0.0) * run.jobs for run in measured) / sum(run.jobs for run in measured) if measured else None
    )
    longest_s = max(run.longest_s for run in good)
    return PastRun(
        run=later.run,
        job=later.job,
        ended=later.ended,
        duration_s=sum(run.duration_s * run.jobs for run in good) / jobs,
        peak_mb=high.peak_mb,
        asked_mb=max(earlier.asked_mb, later.asked_mb),
        given_mb=max(earlier.given_mb, later.given_mb),
        cpus_asked=max(earlier.cpus_asked, later.cpus_asked),
        cpu_s=cpu_s,
        outcome=good[-1].outcome,
        jobs=jobs,
        partial=high.partial,
        given_cpus=max(earlier.given_cpus, later.given_cpus),
        longest_s=longest_s,
        curve=joined([(run.curve, run.longest_s, run.peak_mb or 0.0) for run in good], longest_s, high.peak_mb or 0.0),
    )


class Past:
    """The book. All methods cost microseconds; to be used by one thread at a time."""

    def __init__(self) -> None:
        self._steps: OrderedDict[StepKey, _Step] = OrderedDict()
        self._of: dict[tuple[str, str], dict[str, None]] = {}
        self._similar: OrderedDict[tuple[str, str, str], array[float]] = OrderedDict()

    def become(self, other: Past) -> None:
        """Hold what another book holds, which is not to be used any more."""
        self._steps, self._of, self._similar = other._steps, other._of, other._similar

    def __len__(self) -> int:
        """Number of steps."""
        return len(self._steps)

    def add(self, job: Job) -> StepKey | None:
        """Take an ended job, each one once. Returns the step that has news."""
        if job.state == "FINISHED" and (duration_s := _duration(job)) is not None:
            self._remember(job, duration_s)
        if job.pipeline is None or job.run is None:
            return None
        run = run_of(job)
        if run is None:
            return None
        key = StepKey(job.owner, job.pipeline, step_of(job))
        self._step(key).add(run, job.resubmit_of)
        return key

    def runs(self, owner: str, pipeline: str, step: str) -> Sequence[PastRun]:
        """The last runs of a step, newest last; empty if it is not known."""
        found = self._steps.get(StepKey(owner, pipeline, step))
        return () if found is None else found.rows()

    def of(self, job: Job) -> Sequence[PastRun]:
        """The last runs of a job's own step."""
        return () if job.pipeline is None else self.runs(job.owner, job.pipeline, step_of(job))

    def steps(self, owner: str, pipeline: str) -> list[str]:
        """The steps of a pipeline of which runs are known."""
        return list(self._of.get((owner, pipeline), ()))

    def similar(self, owner: str, job: Job | JobSpec) -> Sequence[Lasted]:
        """How long the user's last similar jobs ran, newest last; at most :data:`SIMILAR`."""
        known = self._similar.get(_likeness(owner, job), ())
        return [Lasted(*known[place : place + 3]) for place in range(0, len(known), 3)]

    def durations(self, job: Job) -> Sequence[float]:
        """Seconds that earlier jobs like this one ran: those of its step, newest last, else of similar jobs."""
        runs = [run.duration_s for run in self.of(job) if run.outcome == "finished"]
        return runs or [each.seconds for each in self.similar(job.owner, job)]

    def forget(self, owner: str, pipeline: str, run: str = "") -> None:
        """A pipeline's history is to be forgotten, or one run of it."""
        for step in list(self._of.get((owner, pipeline), ())):
            key = StepKey(owner, pipeline, step)
            if not run or not self._steps[key].remove(run):
                self._drop(key)

    def _step(self, key: StepKey) -> _Step:
        found = self._steps.get(key)
        if found is not None:
            self._steps.move_to_end(key)
            return found
        found = self._steps[key] = _Step()
        self._of.setdefault(key[:2], {})[key.step] = None
        if len(self._steps) > MOST_STEPS:
            self._drop(next(iter(self._steps)))
        return found

    def _drop(self, key: StepKey) -> None:
        del self._steps[key]
        steps = self._of[key[:2]]
        del steps[key.step]
        if not steps:
            del self._of[key[:2]]

    def _remember(self, job: Job, duration_s: float) -> None:
        likeness = _likeness(job.owner, job)
        known = self._similar.pop(likeness, None)
        self._similar[likeness] = known = array("d") if known is None else known
        known.extend((job.submitted, job.ended or job.submitted, duration_s))
        del known[: -3 * SIMILAR]
        if len(self._similar) > MOST_SIMILAR:
            self._similar.popitem(last=False)


def _likeness(owner: str, job: Job | JobSpec) -> tuple[str, str, str]:
    return owner, job.application or "default", step_of(job)


class _Step:
    """The runs of a step, as bytes: 500 000 runs of 10 000 pipelines as objects would be 200 MB."""

    __slots__ = ("_names", "_numbers")

    def __init__(self) -> None:
        self._numbers = bytearray()
        self._names = ""  # a line for each run: names have no line breaks

    def add(self, run: PastRun, resubmit_of: int | None) -> None:
        """Enter a run, or more of one of the latest."""
        count = len(self._numbers) // _ROW.size
        latest = self._names.rsplit("\n", LOOKED_BACK + 1)[-LOOKED_BACK - 1 : -1]
        for place, name in enumerate(latest, count - len(latest)):
            if name == run.run or resubmit_of is not None:
                known = self._row(place, name)
                if name == run.run or (known.job == resubmit_of and known.outcome != "finished"):
                    self._put(place, together(known, run))
                    return
        self._numbers += _packed(run)
        self._names += run.run + "\n"
        if count == KEPT:
            del self._numbers[: _ROW.size]
            self._names = self._names.partition("\n")[2]

    def remove(self, run: str) -> int:
        """Take a run out. Returns how many are left."""
        kept = [row for row in self.rows() if row.run != run]
        self._numbers = bytearray(b"".join(map(_packed, kept)))
        self._names = "".join(row.run + "\n" for row in kept)
        return len(kept)

    def rows(self) -> list[PastRun]:
        """All of them."""
        rows = _ROW.iter_unpack(self._numbers)
        return [_unpacked(name, row) for name, row in zip(self._names.split("\n"), rows, strict=False)]

    def _row(self, place: int, name: str) -> PastRun:
        return _unpacked(name, _ROW.unpack_from(self._numbers, place * _ROW.size))

    def _put(self, place: int, run: PastRun) -> None:
        _ROW.pack_into(self._numbers, place * _ROW.size, *_fields(run))
        names = self._names.split("\n")
        if names[place] != run.run:
            names[place] = run.run
            self._names = "\n".join(names)


def _packed(run: PastRun) -> bytes:
    return _ROW.pack(*_fields(run))


def _fields(run: PastRun) -> tuple[Any, ...]:
    return (
        run.job, run.ended, run.duration_s, _or_nan(run.peak_mb), run.asked_mb, run.given_mb, run.cpus_asked,
        run.given_cpus, _or_nan(run.cpu_s), run.longest_s, min(run.jobs, 2**32 - 1), _OUTCOMES.index(run.outcome),
        run.partial, run.curve,
    )  # fmt: skip


def _unpacked(name: str, row: tuple[Any, ...]) -> PastRun:
    job, ended, duration_s, peak, asked, given, cpus, given_cpus, cpu_s, longest_s, jobs, outcome, partial, curve = row
    return PastRun(
        name, job, ended, duration_s, _or_none(peak), asked, given, cpus, _or_none(cpu_s), _OUTCOMES[outcome], jobs,
        bool(partial), given_cpus, longest_s, curve,
    )  # fmt: skip


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value
