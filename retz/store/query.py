"""Lists of jobs: the hot table and the archive as one, a window at a time.

The indexes of the table answer what they can (counts are lengths, pages are walks from one end). What needs a look
at many jobs is done in slices between which the event loop runs, and remembered until the next change, so that
paging through it is cheap. The archive's part runs in a thread.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from msgspec import Struct
from msgspec.structs import replace

from retz.model.job import ENDED_STATES, STATES, Job

from . import archive_query
from .archive import Archive
from .job_query import (
    JobQuery,
    Position,
    Ranges,
    SortKey,
    parse_ids,
    parse_states,
    pipeline_key,
    sort_key,
    view_of,
    viewer,
)
from .past import as_of

__all__ = ["JobIndex", "JobQuery", "Window", "as_of", "parse_ids", "parse_states", "select_ids", "window"]

_SMALL = 1000
"""Jobs that may be looked at without asking the clock: about a millisecond."""
_MAX_STEPS = 4000
_MAX_GROUPS = 1000
_SLICE_S = 0.002
_CHUNK = 200
_REMEMBERED = 4
_FIELD_OF_SORT = {"user": "owner"}


class JobIndex(Protocol):
    """What a query needs of the hot table. Sorted lists are of sortedcontainers, ascending."""

    def record(self, job_id: int) -> Job | None:
        """The job, or None."""

    def records(self) -> Mapping[int, Job]:
        """All jobs."""

    def ids(self, field: str, value: Any) -> Any:
        """Sorted list of the ids of jobs with this value."""

    def all_ids(self) -> Any:
        """Sorted list of all ids."""

    def values(self, field: str) -> Sequence[Any]:
        """The values that some job has."""

    def count(self, field: str, value: Any) -> int:
        """Length of :meth:`ids`."""


class Window(Struct, frozen=True):
    """Part of a list.

    Attributes:
        total: Length of the whole list.
        exact: Whether ``total`` is exact.
        next: Cursor of the window that follows; None at the end.
        as_of: Number of the last change that is certainly in it.
    """

    jobs: list[Job]
    total: int
    exact: bool
    next: str | None
    as_of: int


async def window(jobs: JobIndex, archive: Archive, query: JobQuery, *, seq: Callable[[], int]) -> Window:
    """The part of the list that ``query`` asks for.

    Args:
        seq: Number of the last change applied to ``jobs``.
    """
    number = seq()
    skip, take = (query.offset if query.cursor is None else 0), query.limit + 1
    found, total = await _hot(jobs, query, skip + take, seq)
    entries: archive_query.Page
    if _wants_archive(archive, query):
        ended = await _hot_ended(jobs, query)
        entries, archived = await asyncio.to_thread(archive_query.page, archive, query, found, ended, skip, take)
        total += archived
    else:
        entries = [(key, job_id, None) for key, job_id in found[skip : skip + take]]
    more = len(entries) == take
    following = query.cursor_after(entries[query.limit - 1][:2]) if more else None
    shown = [_fetch(jobs, archive, query, job_id, job) for _, job_id, job in entries[: query.limit]]
    return Window([job for job in shown if job is not None], total, True, following, number)


def _fetch(jobs: JobIndex, archive: Archive, query: JobQuery, job_id: int, job: Job | None) -> Job | None:
    if job is None:
        # It may have moved to the archive while we looked elsewhere.
        job = jobs.record(job_id) or archive.get(job_id)
    return job if job is None or query.at is None else as_of(job, query.at)


async def select_ids(jobs: JobIndex, archive: Archive, query: JobQuery) -> list[int]:
    """The ids of all jobs that ``query`` wants, ascending; its limit, offset and cursor do not count.

    Raises:
        ValueError: the query is about the past; nothing can be done to it.
    """
    if query.at is not None:
        raise ValueError("jobs cannot be chosen by a time in the past; leave `at` out")
    query = replace(query.selection(), sort="id")
    wanted = (await _scan(jobs, query)).groups
    ids = list(wanted[0]) if wanted else []
    if _wants_archive(archive, query):
        archived = await asyncio.to_thread(archive_query.select, archive, query)
        ids = sorted(set(ids).union(archived))
    return ids


def _wants_archive(archive: Archive, query: JobQuery) -> bool:
    return (query.at is not None or any(state in ENDED_STATES for state in query.states)) and len(archive) > 0


class _Condition(NamedTuple):
    """One that an index answers: the field has one of the values."""

    field: str
    values: tuple[Any, ...]
    size: int


def _conditions(jobs: JobIndex, query: JobQuery) -> list[_Condition]:
    """What the indexes can say, fewest jobs first; what every job fulfils is left out."""
    asked: list[tuple[str, tuple[Any, ...]]] = [("tag", (tag,)) for tag in dict.fromkeys(query.tags)]
    for field in ("owner", "application", "pipeline"):
        value = getattr(query, field)
        if value is not None:
            asked.append((field, (value,)))
    if query.at is None:
        asked.append(("state", tuple(dict.fromkeys(query.states))))
    everything = len(jobs.all_ids())
    sized = (_Condition(field, values, sum(jobs.count(field, v) for v in values)) for field, values in asked)
    return sorted((condition for condition in sized if condition.size < everything), key=lambda c: c.size)


def _lists(jobs: JobIndex, conditions: Sequence[_Condition]) -> list[Any]:
    """The sorted lists that together hold every candidate, each candidate once."""
    if not conditions:
        return [jobs.all_ids()]
    first = conditions[0]
    return [jobs.ids(first.field, value) for value in first.values if jobs.count(first.field, value)]


def _indexed_only(query: JobQuery) -> bool:
    rest = (query.name, query.held, query.agent, query.text, query.since, query.until, query.at)
    return all(value is None for value in rest) and not query.where


async def _hot(jobs: JobIndex, query: JobQuery, want: int, seq: Callable[[], int]) -> tuple[list[Position], int]:
    """The hot table's first ``want`` entries from the cursor on, and its total."""
    conditions = _conditions(jobs, query)
    lists = _lists(jobs, conditions)
    memory = _remembered.setdefault(jobs, OrderedDict())
    key = (query.selection(), seq(), len(jobs.all_ids()))
    ordered = memory.get(key)
    if ordered is None and sum(map(len, lists)) > _SMALL:
        total = _quick_total(jobs, query, conditions, lists)
        found = None if total is None else _quick_page(jobs, query, conditions, want)
        if total is not None and found is not None:
            return found, total
    if ordered is None:
        ordered = await _scan(jobs, query)
        if sum(map(len, lists)) > _SMALL:
            memory[key] = ordered
            if len(memory) > _REMEMBERED:
                memory.popitem(last=False)
    position, descending = query.position(), query.descending
    return list(islice(ordered.walk(position, descending), want)), ordered.total


def _quick_total(jobs: JobIndex, query: JobQuery, conditions: Sequence[_Condition], lists: Sequence[Any]) -> int | None:
    """The total by counting: the smallest index, less the few jobs that fail another condition."""
    if not _indexed_only(query):
        return None
    outside: set[int] = set()
    for condition in conditions[1:]:
        failing = _failing(jobs, condition)
        if failing is None:
            return None
        outside.update(failing)
    alone = _only(query, conditions[0]) if conditions else None
    total = sum(_count_in(ids, query.ids) for ids in lists)
    for job_id in outside:
        job = jobs.record(job_id)
        if job is not None and alone is not None and view_of(alone, job) is not None:
            total -= 1
    return total


def _only(query: JobQuery, condition: _Condition) -> JobQuery:
    """The query reduced to one condition and the range of ids."""
    alone = JobQuery(states=STATES, ids=query.ids)
    if condition.field == "state":
        return replace(alone, states=condition.values)
    if condition.field == "tag":
        return replace(alone, tags=condition.values)
    return replace(alone, **{condition.field: condition.values[0]})


def _failing(jobs: JobIndex, condition: _Condition) -> list[int] | None:
    """The ids outside a condition, if they are few and the index knows them all."""
    outside = len(jobs.all_ids()) - condition.size
    if outside > _SMALL or condition.field == "tag":
        return None
    others = [value for value in jobs.values(condition.field) if value not in condition.values]
    failing = list(chain.from_iterable(jobs.ids(condition.field, value) for value in others))
    return failing if len(failing) == outside else None


def _count_in(ids: Any, ranges: Ranges | None) -> int:
    if ranges is None:
        return len(ids)
    return sum(ids.bisect_right(high) - ids.bisect_left(low) for low, high in ranges)


def _quick_page(jobs: JobIndex, query: JobQuery, conditions: Sequence[_Condition], want: int) -> list[Position] | None:
    """Walk the indexes from the right end; None if that would take long."""
    position, reverse = query.position(), query.descending
    if query.sort_field == "id":
        streams = _streams(_lists(jobs, conditions), query, position)
        walk: Iterator[Position] = ((0, job_id) for job_id in heapq.merge(*streams, reverse=reverse))
        checked = len(conditions) > 1
    else:
        field = _FIELD_OF_SORT.get(query.sort_field, query.sort_field)
        groups = _groups(jobs, query, field)
        if groups is None:
            return None
        walk = _walk_groups(jobs, query, field, groups)
        checked = any(condition.field != field for condition in conditions)
    if not checked:
        return list(islice(walk, want)) if want <= _MAX_STEPS else None
    found: list[Position] = []
    view = viewer(query)
    for step, place in enumerate(walk):
        job = jobs.record(place[1])
        if job is not None and view(job) is not None:
            found.append(place)
            if len(found) == want:
                return found
        if step >= _MAX_STEPS:
            return None
    return found


def _streams(lists: Iterable[Any], query: JobQuery, position: Position | None) -> list[Iterator[int]]:
    """Each list's ids in the query's direction, inside its ranges, beyond the position."""
    low, high, reverse = None, None, query.descending
    if position is not None and reverse:
        high = position[1] - 1
    elif position is not None:
        low = position[1] + 1
    if query.ids is None:
        return [ids.irange(low, high, reverse=reverse) for ids in lists]
    ranges = [
        (first if low is None else max(first, low), last if high is None else min(last, high))
        for first, last in (reversed(query.ids) if reverse else query.ids)
    ]
    return [_within(ids, ranges, reverse) for ids in lists]


def _within(ids: Any, ranges: Iterable[tuple[int, int]], reverse: bool) -> Iterator[int]:
    for first, last in ranges:
        if first <= last:
            yield from ids.irange(first, last, reverse=reverse)


def _groups(jobs: JobIndex, query: JobQuery, field: str) -> list[tuple[SortKey, Any]] | None:
    """(sort key, value) of the index's values in the query's order, from its cursor on; None if not all are known."""
    values = list(jobs.values(field))
    if len(values) > _MAX_GROUPS or sum(jobs.count(field, value) for value in values) != len(jobs.all_ids()):
        return None
    if field == "state":
        values = [value for value in values if value in query.states]
    elif field != "priority" and getattr(query, field) is not None:
        values = [value for value in values if value == getattr(query, field)]
    groups = sorted(((_value_key(field, value), value) for value in values), key=lambda group: group[0])
    if query.descending:
        groups.reverse()
    position = query.position()
    if position is None:
        return groups
    return [group for group in groups if group[0] == position[0] or (group[0] < position[0]) == query.descending]


def _value_key(field: str, value: Any) -> Any:
    if field == "state":
        return STATES.index(value)
    return pipeline_key(value) if field == "pipeline" else value


def _walk_groups(
    jobs: JobIndex, query: JobQuery, field: str, groups: Iterable[tuple[SortKey, Any]]
) -> Iterator[Position]:
    position = query.position()
    for key, value in groups:
        start = position if position is not None and position[0] == key else None
        for job_id in _streams([jobs.ids(field, value)], query, start)[0]:
            yield key, job_id


class _Ordered(NamedTuple):
    """A whole list in ascending order: ids in groups of equal sort key."""

    keys: list[SortKey]
    groups: list[array[int]]

    @property
    def total(self) -> int:
        return sum(map(len, self.groups))

    def walk(self, position: Position | None, descending: bool) -> Iterator[Position]:
        """The entries beyond the position, in the asked direction."""
        order = range(len(self.keys))
        for place in reversed(order) if descending else order:
            key, ids = self.keys[place], self.groups[place]
            first, last = 0, len(ids)
            if position is not None and key == position[0]:
                first = first if descending else bisect_right(ids, position[1])
                last = bisect_left(ids, position[1]) if descending else last
            elif position is not None and (key < position[0]) != descending:  # type: ignore[operator]
                continue
            for index in range(last - 1, first - 1, -1) if descending else range(first, last):
                yield key, ids[index]


_remembered: WeakKeyDictionary[JobIndex, OrderedDict[tuple[JobQuery, int, int], _Ordered]] = WeakKeyDictionary()


async def _scan(jobs: JobIndex, query: JobQuery) -> _Ordered:
    """Look at every candidate, in slices."""
    lists = _lists(jobs, _conditions(jobs, query))
    key_of = sort_key(query.sort_field)
    groups: dict[SortKey, array[int]] = {}
    async for matching in _matching(jobs, lists, query):
        for job in matching:
            key = key_of(job)
            group = groups.get(key)
            if group is None:
                group = groups[key] = array("q")
            group.append(job.id)
    keys = sorted(groups)
    return _Ordered(keys, [groups[key] for key in keys])


async def _hot_ended(jobs: JobIndex, query: JobQuery) -> list[int]:
    """Hot jobs that match and have ended: the archive may have them already."""
    lists = [jobs.ids("state", state) for state in ENDED_STATES]
    return [job.id async for matching in _matching(jobs, lists, query) for job in matching]


async def _matching(jobs: JobIndex, lists: Iterable[Any], query: JobQuery) -> AsyncIterator[list[Job]]:
    """The jobs in ``lists`` that match, as the query shows them, by ascending id, a slice at a time."""
    # Whole lists at C speed: walking 100 000 ids in ranges would alone hold the loop for 5 ms.
    parts = lists if query.ids is None else _streams(lists, replace(query, sort="id", cursor=None), None)
    ids = sorted(chain.from_iterable(parts))
    since, view = time.perf_counter(), viewer(query)
    for start in range(0, len(ids), _CHUNK):
        records = map(jobs.record, ids[start : start + _CHUNK])
        yield [shown for job in records if job is not None and (shown := view(job)) is not None]
        if time.perf_counter() - since > _SLICE_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
