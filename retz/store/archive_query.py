"""The archive's share of a list of jobs. Blocking; runs in a worker thread."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from retz.model.job import Job

from .archive import Archive
from .archive_columns import STATE_NUMBER
from .archive_match import may_match, summary_count
from .archive_segment import SealedSegment, View
from .job_query import JobQuery, Position, SortKey, pipeline_key, sort_key, viewer

_COLUMN_OF_SORT = {"user": "owner", "application": "application", "priority": "priority", "state": "state"}


class _Entry(NamedTuple):
    key: SortKey
    id: int
    view: View
    row: int


def _by_summary(query: JobQuery) -> bool:
    """Whether owner and state are all that the query asks for."""
    plain = JobQuery(states=query.states, owner=query.owner)
    return plain.selection() == msgspec.structs.replace(query, sort="id", limit=1, offset=0, cursor=None)


def count(archive: Archive, query: JobQuery) -> int:
    """How many archived jobs the query wants."""
    selection, total, by_summary = _selection(query), 0, _by_summary(query)
    for segment in archive.segments():
        if not may_match(segment, query):
            continue
        if by_summary and isinstance(segment, SealedSegment):
            total += summary_count(segment.summary, query)
        else:
            total += len(archive.matches.rows(segment.view(), selection))
    return total


def _selection(query: JobQuery) -> JobQuery:
    # What is archived has ended: its ages depend on no clock, so what was found may be remembered for longer.
    return msgspec.structs.replace(query.selection(), sort="id", now=None)


def select(archive: Archive, query: JobQuery) -> list[int]:
    """The ids of all archived jobs that the query wants, in no order."""
    selection = _selection(query)
    views = [segment.view() for segment in archive.segments() if may_match(segment, query)]
    return [view.columns.id[row] for view in views for row in archive.matches.rows(view, selection)]


def stream(archive: Archive, query: JobQuery) -> Iterator[tuple[SortKey, int, View, int]]:
    """Matching entries in the query's order, from its cursor on: (sort key, id, view, row). Lazy."""
    views = [segment.view() for segment in archive.segments() if may_match(segment, query)]
    if query.sort_field != "id":
        return _by_key(archive, query, views)
    position = query.position()
    lazy = _by_summary(query)
    streams = []
    for view in views:
        rows = view.order if lazy else archive.matches.rows(view, _selection(query))
        wanted = _from(view, rows, position, query.descending)
        streams.append(_entries(0, view, _owned(view, wanted, query) if lazy else wanted))
    return heapq.merge(*streams, key=lambda entry: entry[1], reverse=query.descending)


def _entries(key: SortKey, view: View, rows: Iterable[int]) -> Iterator[_Entry]:
    ids = view.columns.id
    return (_Entry(key, ids[row], view, row) for row in rows)


def _from(view: View, rows: Sequence[int], position: Position | None, descending: bool) -> Iterable[int]:
    """Rows in the asked direction, beyond the position's id."""
    first, last = 0, len(rows)
    id_of = view.columns.id.__getitem__
    if position is not None and descending:
        last = bisect_left(rows, position[1], key=id_of)
    elif position is not None:
        first = bisect_right(rows, position[1], key=id_of)
    order = range(last - 1, first - 1, -1) if descending else range(first, last)
    return (rows[place] for place in order)


def _owned(view: View, rows: Iterable[int], query: JobQuery) -> Iterable[int]:
    """Check owner and state while walking: a page needs a hundred rows, not the segment's fifty thousand."""
    owners, states = view.columns.owner, view.columns.state
    numbers = {STATE_NUMBER[state] for state in query.states}
    if query.owner is None:
        return (row for row in rows if states[row] in numbers)
    if query.owner not in view.tables.owners:
        return ()
    owner = view.tables.owners.index(query.owner)
    return (row for row in rows if owners[row] == owner and states[row] in numbers)


def _by_key(archive: Archive, query: JobQuery, views: Sequence[View]) -> Iterator[_Entry]:
    """Walk the sort keys in order, ids inside each."""
    groups: dict[SortKey, list[tuple[View, Sequence[int]]]] = defaultdict(list)
    for view in views:
        for key, rows in _grouped(view, archive.matches.rows(view, _selection(query)), query).items():
            groups[key].append((view, rows))
    position = query.position()
    for key in sorted(groups, reverse=query.descending):
        at_position = position is not None and key == position[0]
        if position is not None and not at_position and (key < position[0]) != query.descending:  # type: ignore[operator]
            continue
        start = position if at_position else None
        streams = [_entries(key, view, _from(view, rows, start, query.descending)) for view, rows in groups[key]]
        yield from heapq.merge(*streams, key=lambda entry: entry.id, reverse=query.descending)


def _grouped(view: View, rows: Sequence[int], query: JobQuery) -> dict[SortKey, list[int]]:
    field, groups = query.sort_field, defaultdict[SortKey, list[int]](list)
    if field == "state" and query.at is not None:
        key_of, shown_as = sort_key(field), viewer(query)
        for row, job in zip(rows, view.jobs(rows), strict=True):
            past = None if job is None else shown_as(job)
            if past is not None:
                groups[key_of(past)].append(row)
        return groups
    column: Sequence[int] = getattr(view.columns, _COLUMN_OF_SORT.get(field, field))
    for row in rows:
        groups[column[row]].append(row)
    if field in ("priority", "state"):
        return groups
    tables = view.tables
    if field == "pipeline":
        return {pipeline_key(tables.pipelines[int(number)]): found for number, found in groups.items()}
    names = tables.owners if field == "user" else tables.applications
    return {names[int(number)]: found for number, found in groups.items()}


Page = list[tuple[SortKey, int, Job | None]]


def page(
    archive: Archive, query: JobQuery, hot: Sequence[Position], hot_ended: Sequence[int], skip: int, take: int
) -> tuple[Page, int]:
    """Merge the hot list with the archive's: (entries ``skip`` to ``skip + take``, archived jobs in all).

    Hot entries come back without their job. A job that is in both, between archive write and hot delete, counts
    as hot.

    Args:
        hot: The first ``skip + take`` hot entries in the query's order, from its cursor on.
        hot_ended: Ids of all hot jobs that match and have ended: those that may be here, too.
    """
    twice = {job_id for job_id in hot_ended if job_id in archive}
    hidden = twice.union(job_id for _, job_id in hot)
    archived = (entry for entry in stream(archive, query) if entry[1] not in hidden)
    merged: Iterator[tuple[SortKey, int, View | None, int]] = heapq.merge(
        ((key, job_id, None, 0) for key, job_id in hot),
        archived,
        key=lambda entry: (entry[0], entry[1]),
        reverse=query.descending,
    )
    chosen = list(islice(merged, skip, skip + take))
    jobs = _read((view, row) for _, _, view, row in chosen if view is not None)
    entries: Page = []
    for key, job_id, view, row in chosen:
        job = None if view is None else jobs[view.key[0], row]
        if view is None or job is not None:
            entries.append((key, job_id, job))
    return entries, count(archive, query) - len(twice)


def _read(places: Iterable[tuple[View, int]]) -> dict[tuple[int, int], Job | None]:
    """The jobs at these places by (segment, row), one file after the other."""
    by_segment: dict[int, tuple[View, list[int]]] = {}
    for view, row in places:
        by_segment.setdefault(view.key[0], (view, []))[1].append(row)
    found = (
        (((view.key[0], row), job) for row, job in zip(rows, view.jobs(rows), strict=True))
        for view, rows in by_segment.values()
    )
    return dict(chain.from_iterable(found))
