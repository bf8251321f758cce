"""Who used what in a time: sums per user and application over live and archived jobs.

What counts is the time for which attempts held their resources, cut to the period asked for. What an attempt used is
spread evenly over its time, so that the part outside the period is left out in proportion.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec
from msgspec import Struct

from retz.model.job import ENDED_STATES, Sized, State
from retz.model.resources import Resources

from .archive import Archive
from .archive_segment import SealedSegment, View, record_of


class MeteredUsage(Struct, gc=False):
    """The part of an attempt's usage that is summed up."""

    cpu_s: float = 0.0
    max_rss_mb: float = 0.0
    gpu_util: float | None = None
    series: tuple[tuple[int, int], ...] = ()


class MeteredAttempt(Struct, gc=False):
    """The part of an attempt that is summed up."""

    launched: float
    ended: float | None = None
    usage: MeteredUsage | None = None
    number: int = 0


class MeteredJob(Struct, kw_only=True, gc=False):
    """The part of a job's record that is summed up: decoding only this is three times as fast."""

    id: int
    owner: str
    resources: Resources
    application: str = "default"
    state: State = "QUEUED"
    ended: float | None = None
    attempts: tuple[MeteredAttempt, ...] = ()
    array: msgspec.Raw | None = None
    sized: Sized | None = None


class UsageSum(Struct, gc=False):
    """What the jobs of one user and application held and used. Times in seconds, memory in MiB.

    Attributes:
        running: Jobs that held something and had not ended by the end of the period.
        gpu_used_s: At most this: GPU-seconds weighted with the highest utilisation seen.
        gpu_measured_s: GPU-seconds for which there was telemetry.
    """

    finished: int = 0
    failed: int = 0
    killed: int = 0
    running: int = 0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    mem_mb_s: float = 0.0
    cpu_used_s: float = 0.0
    gpu_used_s: float = 0.0
    gpu_measured_s: float = 0.0
    mem_used_mb_s: float = 0.0


Sums = dict[tuple[str, str], UsageSum]
"""By (owner, application)."""

_decode = msgspec.json.Decoder(MeteredJob).decode
_CHUNK = 2000
"""Rows sorted at once: what sorts 50 000 keeps other threads waiting for 10 ms."""
_ENDED = frozenset(ENDED_STATES)


class Meter:
    """Adds up jobs over the time from ``since`` to before ``until``, seconds since the epoch."""

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until
        self.sums: Sums = {}

    def add(self, job: MeteredJob) -> None:
        """Count a job in, as far as the period concerns it. An array is its tasks, which are counted themselves."""
        if job.array is not None:
            return
        since, until = self.since, self.until
        held_s = 0.0
        unused_mb_s = 0.0  # of attempts that were given less than the job has now
        found: UsageSum | None = None
        for attempt in job.attempts:
            start, end = attempt.launched, attempt.ended
            stop = until if end is None or end > until else end
            part = stop - (start if start > since else since)
            if part > 0:
                held_s += part
                unused_mb_s += part * _less(job, attempt)
                if attempt.usage is not None:
                    found = found or self._of(job)
                    _use(found, attempt.usage, part, part if end is None else end - start, job.resources.gpus)
        over = job.ended is not None and job.state in _ENDED
        ended_here = over and since <= (job.ended or 0.0) < until
        if held_s or ended_here:
            total = found or self._of(job)
            _hold(total, job, held_s, ended_here)
            total.mem_mb_s -= unused_mb_s

    def _of(self, job: MeteredJob) -> UsageSum:
        key = (job.owner, job.application)
        found = self.sums.get(key)
        if found is None:
            found = self.sums[key] = UsageSum()
        return found


def _less(job: MeteredJob, attempt: MeteredAttempt) -> int:
    """MiB by which an attempt had less than its job has now: it outgrew a size that past runs gave it."""
    sized = job.sized
    if sized is None or sized.outgrew is None or sized.mem is None or attempt.number > sized.outgrew:
        return 0
    return job.resources.mem - sized.mem


def _hold(total: UsageSum, job: MeteredJob, held_s: float, ended_here: bool) -> None:
    if not ended_here:
        total.running += 1
    elif job.state == "FINISHED":
        total.finished += 1
    elif job.state == "FAILED":
        total.failed += 1
    else:
        total.killed += 1
    resources = job.resources
    total.cpu_s += resources.cpus * held_s
    total.gpu_s += resources.gpus * held_s
    total.mem_mb_s += resources.mem * held_s


def _use(total: UsageSum, usage: MeteredUsage, part_s: float, whole_s: float, gpus: int) -> None:
    total.cpu_used_s += usage.cpu_s * (part_s / whole_s if whole_s > part_s else 1.0)
    series = usage.series
    mean_mb = sum([mem for _, mem in series]) / len(series) if series else usage.max_rss_mb
    total.mem_used_mb_s += mean_mb * part_s
    if gpus and usage.gpu_util is not None:
        total.gpu_measured_s += gpus * part_s
        total.gpu_used_s += gpus * part_s * usage.gpu_util / 100.0


def add_archived(meter: Meter, archive: Archive, owner: str | None, known: Container[int]) -> None:
    """Count in the archived jobs of a user, or of everybody. Blocks: a million jobs take some seconds.

    Only segments, and in them only records, that may concern the period are read; never more than one block at a time.

    Args:
        known: Ids that were counted before they came to the archive.
    """
    for segment in archive.segments():
        if isinstance(segment, SealedSegment) and not _concerns(segment, meter, owner):
            continue
        view = segment.view()
        for start in range(0, len(view.order), _CHUNK):
            for line in view.lines(_rows(view, view.order[start : start + _CHUNK], meter, owner)):
                record = record_of(line)
                job = None if record is None else _decoded(record)
                if job is not None and job.id not in known:
                    meter.add(job)


def _decoded(record: bytes) -> MeteredJob | None:
    try:
        return _decode(record)
    except msgspec.MsgspecError:  # counted as damaged when its segment was last scanned
        return None


def _concerns(segment: SealedSegment, meter: Meter, owner: str | None) -> bool:
    summary = segment.summary
    in_time = summary.max_ended >= meter.since and summary.min_submitted < meter.until
    return in_time and (owner is None or owner in summary.counts)


def _rows(view: View, among: Sequence[int], meter: Meter, owner: str | None) -> list[int]:
    """Rows of jobs that ended after the period began and were submitted before its end, in order of the file."""
    ended, submitted, owners = view.columns.ended, view.columns.submitted, view.columns.owner
    since, until = meter.since, meter.until
    number = _number(view, owner)
    rows = [
        row
        for row in among
        if ended[row] >= since and submitted[row] < until and (number is None or owners[row] == number)
    ]
    rows.sort(key=view.columns.offset.__getitem__)
    return rows


def _number(view: View, owner: str | None) -> int | None:
    """The number of an owner in a view's columns; -1 if none of their jobs are there, None for everybody."""
    if owner is None:
        return None
    return view.tables.owners.index(owner) if owner in view.tables.owners else -1
