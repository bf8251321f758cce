"""Tickets, callbacks, events, bulk batches, ids, indexes, schema versions: the database as the server uses it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retz.model.submission import Submission
from retz.store import records
from retz.store.database import Change, Database, Event, StoreDamaged, StoreFailed, StoreOptions, StoreTooNew
from tests.doubles.disk import Disk
from tests.doubles.store_jobs import check_indexes, contents, gone, job, journals, put, read


async def until(condition: Callable[[], object]) -> None:
    """Give the loop its turns until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is the loop's own turns that are waited for
            await asyncio.sleep(0)


@pytest.fixture(name="database")
def open_database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "data") as opened:
        yield opened


def test_memory_at_once_disk_later(tmp_path: Path) -> None:
    files = Disk()
    with Database.open(tmp_path / "data", files=files) as database:
        files.open.clear()
        ticket = database.apply([put(1), put(2)])
        assert (ticket.first, ticket.last, database.seq) == (1, 2, 2)
        assert database.jobs.record(1) == job(1)
        assert not ticket.durable and database.durable_seq == 0
        with pytest.raises(TimeoutError):
            ticket.wait(0.01)
        files.open.set()
        ticket.wait(20)
        assert ticket.durable and database.durable_seq == 2


def test_group_commit_many_changes_one_fsync_in_order(tmp_path: Path) -> None:
    files = Disk()
    order: list[int] = []

    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        await database.apply([put(1)])
        files.open.clear()
        before = files.syncs
        tickets = [database.apply([put(number)]) for number in range(2, 102)]
        for at in reversed(range(100)):
            tickets[at].then(lambda at=at: order.append(at))
        files.open.set()
        await tickets[-1]
        assert files.syncs - before <= 2
        late: list[bool] = []
        tickets[0].then(lambda: late.append(True))
        assert not late, "never from inside then()"
        await until(lambda: late)

    with Database.open(tmp_path / "data", files=files) as database:
        asyncio.run(scenario())
    assert order == list(range(100))


def test_a_callback_that_raises_does_not_keep_the_next_ones(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def broken() -> None:
        raise ZeroDivisionError

    first = database.apply([put(1)])
    first.then(broken)
    second = database.apply([put(2)])
    second.then(lambda: seen.append(2))
    second.wait()
    assert seen == [2] and "ZeroDivisionError" in caplog.text


def test_barrier_waits_for_everything_before_it(tmp_path: Path) -> None:
    files = Disk()

    async def scenario() -> None:
        await database.apply([])
        files.open.clear()
        database.apply([put(1)])
        barrier = database.apply([])
        assert not barrier.durable
        files.open.set()
        await barrier
        assert database.durable_seq == 1
        called: list[bool] = []
        database.apply(()).then(lambda: called.append(True))
        await until(lambda: called)

    with Database.open(tmp_path / "data", files=files) as database:
        asyncio.run(scenario())
        assert journals(tmp_path / "data")[0].read_bytes().count(b"\n") == 2


def test_events_come_durable_in_order_and_stop_when_unsubscribed(tmp_path: Path) -> None:
    files = Disk()
    events: list[Event] = []

    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        unsubscribe = database.subscribe(events.extend)
        files.open.clear()
        ticket = database.apply([put(1), put(2)])
        database.apply([gone(1)])
        await asyncio.sleep(0)
        assert events == []
        files.open.set()
        await ticket
        await until(lambda: len(events) == 3)
        unsubscribe()
        await database.apply([put(3)])
        await until(lambda: database.published_seq == 4)

    with Database.open(tmp_path / "data", files=files) as database:
        asyncio.run(scenario())
    assert events == [Event(1, "jobs", 1, job(1)), Event(2, "jobs", 2, job(2)), Event(3, "jobs", 1, None)]


def test_events_since_from_memory_and_from_disk_are_the_same(tmp_path: Path) -> None:
    options = StoreOptions(ring=20, rotate_bytes=2_000)
    with Database.open(tmp_path / "data", options=options) as database:
        every: list[Event] = []
        database.subscribe(every.extend)
        for number in range(1, 61):
            database.apply([put(number), Change("meta", f"m{number}", {"n": number})]).wait()
        database.apply([gone(3)]).wait()
        assert len(journals(tmp_path / "data")) > 2
        assert len(every) == 121
        for since in (0, 1, 2, 7, 50, 99, 100, 101, 119, 120):
            for limit in (1, 3, 1000):
                assert database.events_since(since, limit) == every[since : since + limit], (since, limit)
        paged: list[Event] = []
        while page := database.events_since(len(paged), 7):
            paged += page
        assert paged == every
        assert database.events_since(121, 10) == []
        assert database.events_since(122, 10) is None, "a number from a future that never was"
        journals(tmp_path / "data")[0].unlink()
        assert database.events_since(0, 10) is None


def test_events_since_survives_a_restart(tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        database.apply([put(1)]).wait()
    with Database.open(tmp_path / "data") as database:
        assert database.events_since(0, 10) == [Event(1, "jobs", 1, job(1))]
        database.apply([put(2)]).wait()
        assert [event.seq for event in database.events_since(0, 10) or []] == [1, 2]


def test_bulk_is_one_line_invisible_until_absorbed_and_published_whole(tmp_path: Path, database: Database) -> None:
    events: list[Event] = []
    database.subscribe(events.extend)
    bulk = database.bulk()
    changes = [put(number, tags=("bulk",)) for number in database.reserve_ids(1000)]
    for at in range(0, 1000, 300):
        bulk.encode(changes[at : at + 300])
    bulk.encode([Change("submissions", "ann/k", Submission(id="ann/k", digest="d", first=1, count=1000, at=1.0))])
    assert database.seq == 0
    ticket = bulk.commit()
    assert (ticket.first, ticket.last, database.seq) == (1, 1001, 1001)
    later = database.apply([put(5000)])
    later.wait()
    assert ticket.durable and later.durable
    assert len(database.jobs.records()) == 1 and events == [], "not absorbed yet: later events wait too"
    assert read(tmp_path / "data")["jobs"].keys() == {*range(1, 1001), 5000}
    taken = []
    while part := bulk.absorb(300):
        taken += part
    assert taken[:1000] == changes and len(taken) == 1001
    assert [event.seq for event in events] == list(range(1, 1003))
    assert list(database.jobs.ids("tag", "bulk")) == list(range(1, 1001))
    assert contents(database) == read(tmp_path / "data")
    assert journals(tmp_path / "data")[0].read_bytes().count(b"\n") == 3
    assert database.events_since(400, 3) == events[400:403]


def test_bulk_events_are_handed_out_in_small_turns(tmp_path: Path, database: Database) -> None:
    sizes: list[int] = []

    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        database.subscribe(lambda events: sizes.append(len(events)))
        bulk = database.bulk()
        bulk.encode([put(number) for number in range(1, 2001)])
        ticket = bulk.commit()
        while bulk.absorb(500):  # noqa: ASYNC110 - as the server does
            await asyncio.sleep(0)
        await ticket
        await until(lambda: sum(sizes) == 2000)

    asyncio.run(scenario())
    assert max(sizes) <= 200


def test_bulk_misuse_is_refused(database: Database) -> None:
    bulk = database.bulk()
    with pytest.raises(ValueError, match="empty"):
        bulk.commit()
    with pytest.raises(ValueError, match="commit"):
        bulk.absorb(1)
    bulk.encode([put(1)])
    bulk.commit()
    with pytest.raises(ValueError, match="once"):
        bulk.commit()
    with pytest.raises(ValueError, match="committed"):
        bulk.encode([put(2)])


def test_a_torn_bulk_is_gone_whole(tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        database.apply([put(1)]).wait()
        bulk = database.bulk()
        bulk.encode([put(number) for number in range(2, 50)])
        bulk.commit().wait()
    path = journals(tmp_path / "data")[0]
    path.write_bytes(path.read_bytes()[:-20])
    assert read(tmp_path / "data")["jobs"].keys() == {1}


def test_job_ids_are_never_used_again(tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        assert list(database.reserve_ids(3)) == [1, 2, 3]
        assert list(database.reserve_ids(1)) == [4]
        database.apply([put(4)]).wait()
        database.apply([gone(4)]).wait()
    with Database.open(tmp_path / "data") as database:
        assert database.reserve_ids(1)[0] == 5
        database.apply([put(40)]).wait()
        assert database.reserve_ids(1)[0] == 41
        database.reserve_above(99)
        database.reserve_above(7)
        assert database.reserve_ids(2) == range(100, 102)


def test_indexes_follow_every_change(tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        database.apply([put(3, tags=("a", "b")), put(1, pipeline="p"), put(2, owner="bob", tags=("b", "b"))]).wait()
        check_indexes(database)
        database.apply([put(3, tags=("b", "c"), state="STARTED", priority=-3), put(1, pipeline="q")]).wait()
        check_indexes(database)
        assert list(database.jobs.ids("tag", "b")) == [2, 3]
        assert list(database.jobs.ids("tag", "nobody's")) == []
        assert database.jobs.values("pipeline") == ["q"]
        database.apply([gone(2), gone(3), gone(77)]).wait()
        check_indexes(database)
        assert database.jobs.values("tag") == []
    with Database.open(tmp_path / "data") as database:
        check_indexes(database)


def test_equal_parts_are_shared_after_loading_and_after_apply(tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        database.apply([put(number, tags=("t", "u"), environment={"A": "b"}) for number in (1, 2)]).wait()
        fresh = [database.jobs.record(number) for number in (1, 2)]
    with Database.open(tmp_path / "data") as database:
        loaded = [database.jobs.record(number) for number in (1, 2)]
        assert loaded == fresh
    for one, other in (fresh, loaded):
        assert one is not None and other is not None
        assert one.resources is other.resources and one.tags is other.tags
        assert one.environment is other.environment and one.owner is other.owner
        assert not gc.is_tracked(one)


def test_read_only_beside_a_writer(tmp_path: Path, database: Database) -> None:
    database.apply([put(1)]).wait()
    other = Database.open(tmp_path / "data", read_only=True)
    assert contents(other) == contents(database)
    other.close()


def test_read_only_refuses_changes(tmp_path: Path, database: Database) -> None:
    database.apply([put(1)]).wait()
    other = Database.open(tmp_path / "data", read_only=True)
    with pytest.raises(StoreFailed, match="read-only"):
        other.apply([put(2)])
    with pytest.raises(StoreFailed, match="read-only"):
        other.jobs.truncate()
    with pytest.raises(FileNotFoundError):
        Database.open(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_closed_is_closed(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "data")
    ticket = database.apply([put(1)])
    database.close()
    database.close()
    assert ticket.durable
    with pytest.raises(StoreFailed, match="closed"):
        database.apply([put(2)])


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Database.open(tmp_path / "data").close()
    path = tmp_path / "data" / "store" / "format.json"
    path.write_text(json.dumps({"format": 1, "schema": 99}))
    for read_only in (False, True):
        with pytest.raises(StoreTooNew, match="schema 99"):
            Database.open(tmp_path / "data", read_only=read_only)
    path.write_text("{}")
    with pytest.raises(StoreDamaged, match=r"format\.json"):
        Database.open(tmp_path / "data")


def test_old_records_are_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database.open(tmp_path / "data") as database:
        database.apply([put(1, name="old"), Change("meta", "m", {"n": 1})]).wait()

    def rename(table: str, record: dict[str, object]) -> dict[str, object]:
        return {**record, "name": "new"} if table == "jobs" else record

    from retz.store import layout, opening, recovery

    for module in (records, layout, opening):
        monkeypatch.setattr(module, "SCHEMA", 2)
    assert vars(recovery)["decode_record"] is records.decode_record
    monkeypatch.setitem(records.MIGRATIONS, 2, rename)
    with Database.open(tmp_path / "data") as database:
        assert database.jobs.record(1) == job(1, name="new")
        database.apply([put(2, name="kept")]).wait()
        assert [event.record.name for event in database.events_since(0, 9) or [] if event.table == "jobs"] == [
            "new",
            "kept",
        ]
    with Database.open(tmp_path / "data") as database:
        assert [record.name for record in database.jobs.records().values()] == ["new", "kept"]
        assert database.meta.record("m") == {"n": 1}
    assert json.loads((tmp_path / "data" / "store" / "format.json").read_text())["schema"] == 2
    assert len(journals(tmp_path / "data")) == 2
