"""Lists of jobs: parsing, cursors, cost, and what happens between hot table and archive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from retz.model.job import ENDED_STATES, STATES, Job, State
from retz.model.resources import Resources
from retz.store.archive import Archive
from retz.store.job_query import JobQuery, join_ranges, parse_ids, parse_states
from retz.store.query import Window, select_ids, window
from tests.doubles.hot_table import HotTable

T = TypeVar("T")
RESOURCES = Resources(cpus=1, mem=512)


def job(job_id: int, **fields: Any) -> Job:
    return Job(**{"owner": "ann", "command": "true", "resources": RESOURCES, "submitted": 1.0, **fields, "id": job_id})


def ended(job_id: int, state: State = "FINISHED", **fields: Any) -> Job:
    return job(job_id, state=state, ended=2.0, **fields)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.open(tmp_path / "archive", segment_records=3)


def look(hot: HotTable, archive: Archive, query: JobQuery) -> Window:
    return asyncio.run(window(hot, archive, query, seq=lambda: hot.seq))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("12", ((12, 12),)),
        ("3-9,12", ((3, 9), (12, 12))),
        ("12, 3-9", ((3, 9), (12, 12))),
        ("1-5,4-9,10", ((1, 10),)),
        ("0", ((0, 0),)),
        ("9223372036854775807", ((2**63 - 1, 2**63 - 1),)),
    ],
)
def test_ids_are_parsed(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert parse_ids(text) == ranges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is neither an id"),
        ("1,,2", "'' is neither"),
        ("last", "'last' is neither an id"),
        ("-3", "'-3' is neither"),
        ("3-", "'3-' is neither"),
        ("1_000", "'1_000' is neither"),
        ("+3", "'\\+3' is neither"),
        ("٣", "is neither"),
        ("9-3", "upside down; say 3-9"),
        ("9223372036854775808", "beyond any id"),
        ("9" * 5000, "is neither an id"),
    ],
)
def test_ids_that_make_no_sense_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_ids(text)


def test_too_many_separate_ranges_are_refused() -> None:
    assert len(parse_ids(",".join(str(2 * number) for number in range(1000)))) == 1000
    assert parse_ids(",".join(map(str, range(5000)))) == ((0, 4999),)
    with pytest.raises(ValueError, match="at most 1000 at a time"):
        parse_ids(",".join(str(2 * number) for number in range(1001)))


def test_ranges_are_joined() -> None:
    assert join_ranges(((5, 6), (1, 2), (3, 3), (9, 8))) == ((1, 3), (5, 6))


def test_states_are_parsed() -> None:
    assert parse_states("live") == ("QUEUED", "STARTING", "STARTED")
    assert parse_states("ENDED,queued") == ("QUEUED", "FINISHED", "FAILED", "KILLED")
    assert parse_states("ALL") == STATES
    with pytest.raises(ValueError, match="no state 'DONE'; say LIVE, ENDED, ALL"):
        parse_states("DONE")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sort": "name"}, "cannot sort by 'name'"),
        ({"sort": "--id"}, "cannot sort by '--id'"),
        ({"limit": 0}, "limit must be 1 to 1000"),
        ({"limit": 1001}, "limit must be"),
        ({"offset": -1}, "offset must be"),
        ({"states": ("DONE",)}, "no state 'DONE'"),
        ({"cursor": "nonsense"}, "not a cursor of ours"),
        ({"cursor": "é"}, "not a cursor of ours"),
        ({"cursor": JobQuery(sort="id").cursor_after((0, 5))}, "sorted by 'id', not '-id'"),
    ],
)
def test_bad_queries_are_refused_in_words(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobQuery(**fields)


def test_default_window_is_the_live_jobs_newest_first(archive: Archive) -> None:
    archive.append([ended(1)])
    hot = HotTable([ended(2), job(3), job(4, state="STARTED"), job(5, owner="bob")])
    assert [found.id for found in look(hot, archive, JobQuery()).jobs] == [5, 4, 3]
    mine = look(hot, archive, JobQuery(owner="ann"))
    assert ([found.id for found in mine.jobs], mine.total, mine.exact, mine.next, mine.as_of) == (
        [4, 3],
        2,
        True,
        None,
        hot.seq,
    )


def test_job_in_both_places_is_shown_once(archive: Archive) -> None:
    """Between the archive's write and the hot delete."""
    archive.append([ended(number) for number in range(1, 6)])
    hot = HotTable([ended(4), ended(5), job(6)])
    for sort in ("id", "-id", "-state", "user"):
        found = look(hot, archive, JobQuery(states=STATES, sort=sort))
        assert sorted(shown.id for shown in found.jobs) == [1, 2, 3, 4, 5, 6]
        assert found.total == 6
    assert asyncio.run(select_ids(hot, archive, JobQuery(states=ENDED_STATES))) == [1, 2, 3, 4, 5]


def test_cursor_stays_in_place_when_jobs_come_and_go(archive: Archive) -> None:
    archive.append([ended(number) for number in range(1, 8)])
    hot = HotTable([job(number) for number in range(8, 13)])
    query = JobQuery(states=STATES, limit=3)
    first = look(hot, archive, query)
    assert [found.id for found in first.jobs] == [12, 11, 10]
    hot.put(job(13))
    hot.put(ended(9))
    archive.append([ended(9)])
    hot.delete(9)
    hot.put(replace(job(10), priority=5))
    second = look(hot, archive, replace(query, cursor=first.next))
    assert [found.id for found in second.jobs] == [9, 8, 7]
    assert second.total == 13
    third = look(hot, archive, replace(query, cursor=second.next, limit=1000))
    assert ([found.id for found in third.jobs], third.next) == ([6, 5, 4, 3, 2, 1], None)


def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is 1 ms after the last, so that scans give way after every few chunks."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * 0.001)


def test_job_that_moves_to_the_archive_meanwhile_is_still_shown(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text search gives way to the loop; what it found moves before it is fetched."""
    slow_clock(monkeypatch)
    hot = HotTable([job(number, command="needle") for number in range(1, 3001)])

    async def scenario() -> tuple[Window, int]:
        moved = 0
        looking = asyncio.ensure_future(
            window(hot, archive, JobQuery(states=STATES, text="NEEDLE"), seq=lambda: hot.seq)
        )
        while not looking.done():
            await asyncio.sleep(0)
            if not moved:
                archive.append([ended(3000, command="needle")])
                hot.delete(3000)
                moved = 1
        return await looking, moved

    found, moved = asyncio.run(scenario())
    assert moved == 1
    assert found.jobs[0] == ended(3000, command="needle")
    assert [shown.id for shown in found.jobs] == list(range(3000, 2900, -1))
    assert found.total == 3000


@pytest.mark.parametrize(
    ("text", "command", "name"),
    [
        ("TRAIN.py --ep", ("python", "train.py", "--epochs"), ""),
        ('say "hi"', 'say "hi" twice', ""),
        ("back\\slash", "a back\\slash", ""),
        ("tab\there", "a tab\there", ""),
        ("größe", "die GRÖSSE Größe", ""),
        ("k", "300 \u212a", ""),  # the Kelvin sign's lower case is k
        ("\x7f", "a \x7f", ""),
        ("NAME", "true", "my name"),
    ],
)
@pytest.mark.parametrize("place", ["hot", "archive"])
def test_text_search(archive: Archive, text: str, command: str | tuple[str, ...], name: str, place: str) -> None:
    jobs = [ended(1, command=command, name=name), ended(2, command="nothing of the sort")]
    hot = HotTable(jobs if place == "hot" else [])
    if place == "archive":
        archive.append(jobs)
    found = look(hot, archive, JobQuery(states=STATES, text=text))
    assert ([shown.id for shown in found.jobs], found.total) == ([1], 1)


def test_select_ids_of_live_jobs_by_default(archive: Archive) -> None:
    archive.append([ended(1, tags=("a",))])
    hot = HotTable([job(2, tags=("a",)), job(3), job(4, tags=("a", "b"), owner="bob"), ended(5, tags=("a",))])
    assert asyncio.run(select_ids(hot, archive, JobQuery(tags=("a",), limit=1))) == [2, 4]
    assert asyncio.run(select_ids(hot, archive, JobQuery(tags=("a",), states=ENDED_STATES))) == [1, 5]
    with pytest.raises(ValueError, match="in the past"):
        asyncio.run(select_ids(hot, archive, JobQuery(at=1.0)))


class Counting(HotTable):
    """Counts the records that a query looks at."""

    looked = 0

    def record(self, job_id: int) -> Job | None:
        self.looked += 1
        return super().record(job_id)


def big_table() -> Counting:
    jobs = (
        job(number, owner="ann" if number % 2 else "bob", priority=number % 5, command=f"echo {number}")
        for number in range(1, 20_001)
    )
    return Counting(replace(one, state="STARTED") if one.id % 400 == 0 else one for one in jobs)


@pytest.mark.parametrize(
    "query",
    [
        JobQuery(),
        JobQuery(owner="ann"),
        JobQuery(owner="ann", sort="state"),
        JobQuery(owner="ann", sort="-priority"),
        JobQuery(states=("QUEUED",), owner="bob"),
        JobQuery(ids=((500, 15_000),), owner="bob"),
        JobQuery(states=STATES, sort="user"),
    ],
)
def test_common_windows_look_at_few_jobs_however_long_the_queue(archive: Archive, query: JobQuery) -> None:
    hot = big_table()
    found = look(hot, archive, query)
    assert len(found.jobs) == 100
    assert found.total == sum(1 for one in hot.records().values() if _plainly(query, one))
    assert hot.looked < 2000


def _plainly(query: JobQuery, one: Job) -> bool:
    inside = query.ids is None or any(low <= one.id <= high for low, high in query.ids)
    return one.state in query.states and query.owner in (None, one.owner) and inside


def test_paging_through_a_scan_scans_once(archive: Archive) -> None:
    hot = big_table()
    query = JobQuery(text="1", sort="priority")
    first = look(hot, archive, query)
    scanned = hot.looked
    assert scanned >= 20_000
    look(hot, archive, replace(query, cursor=first.next))
    assert hot.looked - scanned <= 200
    hot.put(job(20_001, command="echo 1"))
    assert look(hot, archive, query).total == first.total + 1


async def _turns_during(work: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """The result of ``work`` and how often the loop ran something else meanwhile."""
    turns = 0
    running = asyncio.ensure_future(work())
    while not running.done():
        turns += 1
        await asyncio.sleep(0)
    return await running, turns


def test_scans_give_way_to_the_loop(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that says every chunk took 1 ms, 100 chunks are at least 30 slices."""
    hot = big_table()
    slow_clock(monkeypatch)
    found, turns = asyncio.run(_turns_during(lambda: window(hot, archive, JobQuery(text="777"), seq=lambda: hot.seq)))
    assert found.total == sum("777" in str(one.command) for one in hot.records().values())
    assert turns > 30
