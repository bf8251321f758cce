"""From jobs' records to plain numbers: what was reserved from when to when, and what was measured meanwhile.

Blocking, for worker threads; nothing here knows the estimator's classes, or numpy.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from heapq import heappush, heappushpop
from math import inf
from typing import NamedTuple

import msgspec
from msgspec import Struct

from retz.model.job import Attempt, Job
from retz.model.job import Usage as Measured
from retz.model.resources import Resources
from retz.store.archive import Archive
from retz.store.archive_segment import SealedSegment, View, record_of

from .runs import RunKey

MAX_POINTS = 200_000
"""Points of usage series of one run: more are merged, so that a run of 10 000 long jobs is megabytes, not gigabytes."""
LEAST_POINTS = 8
"""But every series keeps as many."""

_ROWS_PER_TURN = 500
_RUN = re.compile(rb'"run":("(?:[^"\\]|\\.)*")')

Span = tuple[int, int, dict[str, float]]
"""(from, to, amounts): epoch milliseconds; memory MB, vcores, gpus."""
Usage = tuple[int, float, list[tuple[float, float]], int]
"""(from, milliseconds per point, points (vcores in use, memory MB), to)."""

LEAST_MS = 100
"""A shorter attempt's processor time is spread over so long: its clocks are too coarse for a rate."""


class Numbers(NamedTuple):
    """What all attempts of a run reserved and used."""

    spans: list[Span]
    usages: list[Usage]


class Found(Struct, gc=False):
    """Ended jobs of a run in the archive.

    Attributes:
        earliest, latest: Epoch seconds of their ends.
    """

    ids: list[int] = []
    earliest: float = inf
    latest: float = 0.0


class _Entry(Struct, gc=False):
    """The part of an archived record that says which run it belongs to."""

    id: int
    run: str | None = None
    ended: float | None = None


_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_text = msgspec.json.Decoder(str).decode


def numbers_of(jobs: Iterable[Job], count: int) -> Numbers:
    """The numbers of these jobs, about ``count`` of them."""
    numbers = Numbers([], [])
    most = max(LEAST_POINTS, MAX_POINTS // max(1, count))
    for job in jobs:
        for attempt in job.attempts:
            _add(numbers, attempt, _amounts(job.given(attempt)), most)
    return numbers


def archived_numbers(archive: Archive, ids: Sequence[int], count: int) -> Numbers:
    """The same of archived jobs by id; expired ones are left out."""
    return numbers_of(_jobs(archive, ids), count)


def _jobs(archive: Archive, ids: Sequence[int]) -> Iterator[Job]:
    for number, job_id in enumerate(ids, 1):
        if number % _ROWS_PER_TURN == 0:
            time.sleep(0)  # the loop's thread takes its turn
        job = archive.get(job_id)
        if job is not None:
            yield job


def _amounts(resources: Resources) -> dict[str, float]:
    amounts = {"memory": float(resources.mem), "vcores": resources.cpus}
    return amounts | {"gpus": float(resources.gpus)} if resources.gpus else amounts


def _add(numbers: Numbers, attempt: Attempt, amounts: dict[str, float], most: int) -> None:
    """What one attempt held: from its start, because in line behind another job it holds nothing yet.

    One that ended before it started (its image could not be had) held its place from its launch; one that was lost
    before it started held nothing for certain.
    """
    if attempt.ended is None or (attempt.started is None and attempt.reason == "lost"):
        return
    start = _milliseconds(attempt.launched if attempt.started is None else attempt.started)
    end = max(start, _milliseconds(attempt.ended))
    numbers.spans.append((start, end, amounts))
    if attempt.usage is not None and (used := _used(attempt.usage, start, end, most)):
        numbers.usages.append(used)


def _used(usage: Measured, start: int, end: int, most: int) -> Usage | None:
    """What was measured; of an attempt too short for a series its sums, as if it had used them evenly."""
    if usage.interval_s <= 0:
        return None
    if usage.series:
        merged = -(-len(usage.series) // most)
        return start, usage.interval_s * 1000 * merged, _merged(usage.series, merged), end
    if usage.max_rss_mb <= 0:  # nobody looked: whatever runs has some memory
        return None
    duration = max(LEAST_MS, end - start)
    return start, float(duration), [(usage.cpu_s * 1000 / duration, usage.max_rss_mb)], end


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _merged(series: Sequence[tuple[int, int]], size: int) -> list[tuple[float, float]]:
    """Every ``size`` neighbours as one point: the mean of the processors, the most of the memory."""
    if size == 1:
        return [(cpus / 100, float(memory)) for cpus, memory in series]
    groups = (series[start : start + size] for start in range(0, len(series), size))
    return [
        (sum(cpus for cpus, _ in group) / len(group) / 100, float(max(memory for _, memory in group)))
        for group in groups
    ]


# -- finding runs in the archive -----------------------------------------------------------------------------------


def find_runs(archive: Archive, wanted: Container[RunKey], places: set[tuple[str, str]]) -> dict[RunKey, Found]:
    """All archived jobs of the wanted runs, of pipelines in ``places`` (owner, pipeline)."""
    found: dict[RunKey, Found] = {}
    owners = {owner for owner, _ in places}
    for segment in archive.segments():
        if isinstance(segment, SealedSegment) and owners.isdisjoint(segment.summary.counts):
            continue
        view = segment.view()
        pairs = _pairs(view, places)
        numbers, owner = {pipeline for _, pipeline in pairs}, view.columns.owner
        rows = _rows_of(view, numbers)
        _collect(view, [row for row in rows if (owner[row], view.columns.pipeline[row]) in pairs], wanted, found)
    return found


def _rows_of(view: View, pipelines: set[int]) -> list[int]:
    column = view.columns.pipeline
    return [row for row in view.order if column[row] in pipelines] if pipelines else []


def _pairs(view: View, places: set[tuple[str, str]]) -> set[tuple[int, int]]:
    """The same places in the numbers of one segment."""
    owners = {name: number for number, name in enumerate(view.tables.owners)}
    pipelines = {name: number for number, name in enumerate(view.tables.pipelines)}
    return {(owners[o], pipelines[p]) for o, p in places if o in owners and p in pipelines}


def find_ended(archive: Archive, since: float) -> dict[RunKey, Found]:
    """The runs of which an archived job ended at or after ``since``, with those jobs."""
    found: dict[RunKey, Found] = {}
    for segment in archive.segments():
        if isinstance(segment, SealedSegment) and segment.summary.max_ended < since:
            continue
        view = segment.view()
        ended = view.columns.ended
        named = {number for number, name in enumerate(view.tables.pipelines) if name is not None}
        _collect(view, [row for row in _rows_of(view, named) if ended[row] >= since], None, found)
    return found


def newest(found: dict[RunKey, Found], most: int) -> list[tuple[RunKey, Found]]:
    """Of each pipeline the ``most`` runs that ended last, in order of their ends. ``found`` is empty afterwards.

    One by one: to sort 100 000 runs at once, or to let go of them, keeps all other threads waiting for 50 ms.
    """
    by_pipeline: defaultdict[tuple[str, str], list[tuple[float, int, RunKey, Found]]] = defaultdict(list)
    while found:
        key, run = found.popitem()
        kept = by_pipeline[key[:2]]
        entry = run.latest, len(found), key, run
        if len(kept) < most:
            heappush(kept, entry)
        else:
            heappushpop(kept, entry)
    chosen: list[tuple[RunKey, Found]] = []
    while by_pipeline:
        _, kept = by_pipeline.popitem()
        chosen += [(key, run) for _, _, key, run in sorted(kept)]
    return chosen


def _collect(view: View, rows: list[int], wanted: Container[RunKey] | None, found: dict[RunKey, Found]) -> None:
    rows.sort(key=view.columns.offset.__getitem__)
    tables, columns = view.tables, view.columns
    # Expired meanwhile: no lines.
    for count, (row, line) in enumerate(zip(rows, view.lines(rows), strict=False)):
        if not count % _ROWS_PER_TURN:
            time.sleep(0)  # the loop's thread takes its turn
        place = tables.owners[columns.owner[row]], tables.pipelines[columns.pipeline[row]] or ""
        # A look at the bytes is ten times as fast as decoding, and most lines are of other runs.
        if wanted is not None and not any(RunKey(*place, run) in wanted for run in _runs_in(line)):
            continue
        record = record_of(line)
        entry = None if record is None else _decode_entry(record)
        if entry is None or entry.run is None or (wanted is not None and RunKey(*place, entry.run) not in wanted):
            continue
        run = found.setdefault(RunKey(*place, entry.run), Found([]))
        run.ids.append(entry.id)
        run.earliest, run.latest = min(run.earliest, entry.ended or 0.0), max(run.latest, entry.ended or 0.0)


def _runs_in(line: bytes) -> Iterator[str]:
    """Texts that may be the record's run: a variable of that name looks the same."""
    return (_decode_text(text) for text in _RUN.findall(line))
