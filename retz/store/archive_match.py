"""Which entries of an archive segment a query wants. Blocking; runs in a worker thread.

What a filter can decide from columns, it decides there; only ``name``, ``text``, ``where`` and some questions about
the past read records. Matches of a sealed segment never change, so the last ones are remembered.
"""

from __future__ import annotations

import re
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from retz.model.job import LIVE_STATES

from .archive_columns import STATE_NUMBER, name_number
from .archive_segment import ActiveSegment, SealedSegment, Summary, View, decode_job, record_of
from .job_query import JobQuery, viewer

_ROWS_PER_TURN = 500
_SAFE_TEXT = re.compile(r"[!#-\[\]-~]+")
"""Characters that stand in JSON as themselves and are no space (which may be the gap between two arguments)."""


class Matches:
    """Remembers which rows of a segment a query matched: the last 128, some 25 MB at the very worst."""

    SIZE = 128

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[tuple[int, int], JobQuery], Sequence[int]] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, view: View, selection: JobQuery) -> Sequence[int]:
        """Matching rows in ascending order of id."""
        key = (view.key, selection)
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return self._rows[key]
        rows = match_rows(view, selection)
        if not isinstance(rows, range):
            rows = array("I", rows)
        with self._lock:
            self._rows[key] = rows
            if len(self._rows) > self.SIZE:
                self._rows.popitem(last=False)
        return rows


def match_rows(view: View, query: JobQuery) -> Sequence[int]:
    """The rows that ``query`` wants, in ascending order of id."""
    columns, tables, summary = view.columns, view.tables, view.summary
    rows: Sequence[int] = view.order
    if query.ids is not None:
        rows = _rows_of_ids(view, query.ids)
    if query.owner is not None and not (summary is not None and set(summary.counts) == {query.owner}):
        rows = _equal(rows, columns.owner, tables.owners, query.owner)
    if query.application is not None:
        rows = _equal(rows, columns.application, tables.applications, query.application)
    if query.pipeline is not None:
        rows = _equal(rows, columns.pipeline, tables.pipelines, query.pipeline)
    if query.tags:
        wanted = set(query.tags)
        sets = {number for number, tags in enumerate(tables.tagsets) if wanted.issubset(tags)}
        rows = [row for row in rows if columns.tags[row] in sets]
    rows = _match_times(rows, view, query)
    if query.at is None:
        if not (summary is not None and _states_of(summary).issubset(query.states)):
            states = {STATE_NUMBER[state] for state in query.states}
            rows = [row for row in rows if columns.state[row] in states]
        if query.held is not None:
            rows = [row for row in rows if columns.held[row] == query.held]
    if query.name is not None:
        number = name_number(query.name)
        rows = [row for row in rows if columns.name[row] == number]
    return _match_records(rows, view, query) if _needs_records(query) else rows


def _rows_of_ids(view: View, ranges: Iterable[tuple[int, int]]) -> Sequence[int]:
    order, id_of = view.order, view.columns.id.__getitem__
    rows: list[int] = []
    for low, high in ranges:
        first = bisect_left(order, low, key=id_of)
        rows.extend(order[first : bisect_right(order, high, lo=first, key=id_of)])
    return rows


def _equal(rows: Sequence[int], column: Sequence[int], table: Sequence[str | None], text: str) -> Sequence[int]:
    try:
        number = table.index(text)
    except ValueError:
        return ()
    return [row for row in rows if column[row] == number]


def _states_of(summary: Summary) -> set[str]:
    return {state for by_state in summary.counts.values() for state in by_state}


def _match_times(rows: Sequence[int], view: View, query: JobQuery) -> Sequence[int]:
    submitted, ended = view.columns.submitted, view.columns.ended
    if query.since is not None:
        rows = [row for row in rows if submitted[row] >= query.since]
    if query.until is not None:
        rows = [row for row in rows if submitted[row] < query.until]
    if query.at is not None:
        rows = [row for row in rows if submitted[row] <= query.at < ended[row]]
    return rows


def _needs_records(query: JobQuery) -> bool:
    """Whether columns alone cannot tell: every job alive at a time is in one of the live states."""
    past = query.at is not None and (query.held is not None or not set(query.states).issuperset(LIVE_STATES))
    return past or any(value is not None for value in (query.text, query.name, query.agent)) or bool(query.where)


def _match_records(rows: Sequence[int], view: View, query: JobQuery) -> Sequence[int]:
    """Read the records, whole only where a cheap look at the bytes leaves the question open."""
    words = [word for word in (query.text, query.agent) if word]
    probes = [part.encode() for word in words for part in _SAFE_TEXT.findall(word.lower())]
    matched = []
    wanted = viewer(query)
    places = sorted(rows, key=view.columns.offset.__getitem__)
    # Expired meanwhile: no lines.
    for count, (row, line) in enumerate(zip(places, view.lines(places), strict=False)):
        if not count % _ROWS_PER_TURN:
            time.sleep(0)  # give the loop's thread its turn: it was seen to wait 75 ms for a whole segment otherwise
        if probes and not _may_hold(line, probes):
            continue
        record = record_of(line)
        if record is not None and wanted(decode_job(record)) is not None:
            matched.append(row)
    return sorted(matched, key=view.columns.id.__getitem__)


def _may_hold(line: bytes, probes: Sequence[bytes]) -> bool:
    lower = line.lower()
    # Other scripts have letters whose lower case is ASCII, so only ASCII records can be refused by their bytes.
    return all(probe in lower for probe in probes) or not line.isascii() or b"\\u" in line


def may_match(segment: SealedSegment | ActiveSegment, query: JobQuery) -> bool:
    """False if the summary shows that no job of the segment is wanted."""
    if isinstance(segment, ActiveSegment):
        return segment.count > 0
    summary = segment.summary
    if query.ids is not None and not any(low <= summary.max_id and high >= summary.min_id for low, high in query.ids):
        return False
    if query.at is not None and not summary.min_submitted <= query.at < summary.max_ended:
        return False
    if query.since is not None and summary.max_submitted < query.since:
        return False
    if query.until is not None and summary.min_submitted >= query.until:
        return False
    if query.tags and summary.tags is not None and not all(tag in summary.tags for tag in query.tags):
        return False
    return query.at is not None or summary_count(summary, query) > 0


def summary_count(summary: Summary, query: JobQuery) -> int:
    """Jobs of the query's owner in one of its states."""
    owners = summary.counts if query.owner is None else (query.owner,)
    return sum(summary.counts.get(owner, {}).get(state, 0) for owner in owners for state in set(query.states))
