"""The book of past runs from the archive, at the start. Blocking, for a worker thread."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from retz.model.job import Job
from retz.store.archive import Archive
from retz.store.archive_segment import View, decode_job, record_of

from .past import KEPT, SIMILAR, Past

MOST_ROWS = 300_000
"""Records read: some 10 s of a thread. The newest, so that what recurs is known, if not as far back."""
MOST_LOOKED_AT = 3_000_000
MOST_OF_A_RUN = 200
"""Of the jobs of one step that were submitted at the same time so many are read: of a large array a sample."""
_ROWS_PER_TURN = 100
"""A millisecond's work, at most two."""
_REST_S = 0.001
"""Between two turns. ``sleep(0)`` does not do: this thread would have the interpreter again before the loop's thread
wakes up; and one that never rests is preempted on a busy machine while it holds the interpreter, and the loop waits."""

Forgotten = Mapping[tuple[str, str, str], float]
"""(owner, pipeline, run; empty: all runs) -> when that was forgotten, epoch seconds."""


class Loaded(NamedTuple):
    """The book, and the ids of the jobs that are in it."""

    past: Past
    seen: set[int]


def load(archive: Archive, forgotten: Forgotten) -> Loaded:
    """Read what the book needs. Records that are damaged are left out."""
    past, seen = Past(), set[int]()
    for view, rows in reversed(list(_chosen(archive, forgotten))):
        for line in _lines(view, rows):
            record = record_of(line)
            try:
                job = None if record is None else decode_job(record)
            except msgspec.MsgspecError:
                continue
            if job is None:
                continue
            seen.add(job.id)
            if job.pipeline is None or not _is_forgotten(job, forgotten):
                past.add(job)
    return Loaded(past, seen)


def _lines(view: View, rows: list[int]) -> Iterator[bytes]:
    """The rows' lines, oldest first, and among neighbours in the order in which they ended."""
    rows.reverse()
    for start in range(0, len(rows), _ROWS_PER_TURN):
        time.sleep(_REST_S)
        yield from view.lines(sorted(rows[start : start + _ROWS_PER_TURN], key=view.columns.offset.__getitem__))


def _is_forgotten(job: Job, forgotten: Forgotten) -> bool:
    return (job.ended or 0.0) <= forgotten.get((job.owner, job.pipeline or "", job.run or ""), 0.0)


def _chosen(archive: Archive, forgotten: Forgotten) -> Iterator[tuple[View, list[int]]]:
    """The rows worth reading, segment by segment, the newest first."""
    choice = _Choice(forgotten)
    for segment in reversed(archive.segments()):
        if choice.full:
            return
        view = segment.view()
        rows = [row for row in reversed(view.order) if choice.takes(view, row)]
        if rows:
            yield view, rows


class _Choice:
    """Counts what was chosen: of each step enough for all runs that are kept, and no more."""

    def __init__(self, forgotten: Forgotten) -> None:
        self._forgotten = forgotten
        self._times: defaultdict[tuple[str, str | None, str, int], Counter[float]] = defaultdict(Counter)
        self._chosen = 0
        self._looked_at = 0

    @property
    def full(self) -> bool:
        """Whether nothing more is taken."""
        return self._chosen >= MOST_ROWS or self._looked_at >= MOST_LOOKED_AT

    def takes(self, view: View, row: int) -> bool:
        """Whether to read this row."""
        self._looked_at += 1
        if self._looked_at % (_ROWS_PER_TURN * 5) == 0:
            time.sleep(_REST_S)
        if self.full:
            return False
        columns, tables = view.columns, view.tables
        owner, pipeline = tables.owners[columns.owner[row]], tables.pipelines[columns.pipeline[row]]
        if pipeline is not None and columns.ended[row] <= self._forgotten.get((owner, pipeline, ""), 0.0):
            return False
        application = "" if pipeline is not None else tables.applications[columns.application[row]]
        times = self._times[owner, pipeline, application, columns.name[row]]
        most = KEPT if pipeline is not None else SIMILAR
        if not self._room(times, columns.submitted[row], most):
            return False
        self._chosen += 1
        return True

    @staticmethod
    def _room(times: Counter[float], submitted: float, most: int) -> bool:
        # Jobs without a name are of several steps: only their records tell.
        if submitted not in times and len(times) >= most * 4:
            return False
        if times[submitted] >= MOST_OF_A_RUN:
            return False
        times[submitted] += 1
        return True
