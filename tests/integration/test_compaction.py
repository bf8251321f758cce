"""Compaction in its own process, beside a store that goes on."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from retz.store.compaction import clean, compactor_command, merge
from retz.store.database import Change, Database, StoreFailed, StoreOptions
from retz.store.files import FileLayer
from retz.store.layout import read_layout
from tests.doubles.store_jobs import contents, gone, journals, put, read


def snapshots(directory: Path) -> list[Path]:
    return sorted((directory / "store").glob("snapshot-*.jsonl"))


def test_compact_while_changes_go_on(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        for number in range(1, 301):
            database.apply([put(number, tags=("ä\n",)), Change("meta", f"k{number % 7}", {"n": [number, None]})])
        bulk = database.bulk()
        bulk.encode([gone(number) for number in range(1, 50)])
        bulk.encode([put(number, name="later") for number in range(40, 120)])
        bulk.commit()
        while bulk.absorb(40):
            pass
        await database.apply([])
        running = asyncio.create_task(database.compact())
        number = 1000
        while not running.done():
            number += 1
            await database.apply([put(number), gone(number - 1)])
        await running
        await database.compact()
        await database.apply([gone(number)])

    with Database.open(directory) as database:
        asyncio.run(scenario())
        expected = contents(database)
        next_id = database.reserve_ids(1)[0]
        assert len(snapshots(directory)) == 1, "older ones are deleted"
        assert database.compaction_error is None
    assert read(directory) == expected
    with Database.open(directory) as database:
        assert contents(database) == expected
        assert database.recovery.snapshot > 0 and database.recovery.replayed < 50
        assert database.reserve_ids(1)[0] == next_id, "ids of deleted jobs are not used again"


def test_the_snapshot_alone_holds_everything(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with Database.open(directory, options=StoreOptions(keep_sealed_bytes=0)) as database:
        database.apply([put(1), put(2), Change("meta", "q", {"mode": "open", "deep": {"x": [1.5, None, "ü"]}})]).wait()
        database.apply([gone(2)]).wait()
        asyncio.run(database.compact())
        expected = contents(database)
    assert [read_layout(directory / "store", FileLayer()).journals.keys()] == [{5}]
    assert read(directory) == expected


def test_it_starts_by_itself_when_enough_was_sealed(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    options = StoreOptions(rotate_bytes=4_000, compact_bytes=10_000)

    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        async with asyncio.timeout(30):
            number = 0
            while not snapshots(directory):
                number += 1
                await database.apply([put(number % 10 + 1, name=f"n{number}")])
                if len(journals(directory)) > 8:
                    await asyncio.sleep(0.01)

    with Database.open(directory, options=options) as database:
        asyncio.run(scenario())
        expected = contents(database)
    assert read(directory) == expected


def test_damage_stops_the_merge_and_nothing_is_deleted(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with Database.open(directory, options=StoreOptions(keep_sealed_bytes=0)) as database:
        for number in range(1, 20):
            database.apply([put(number)]).wait()
        path = journals(directory)[0]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(StoreFailed, match=r"compaction failed.*journal-0+1\.log"):
            asyncio.run(database.compact())
        assert database.failed is None, "the store itself goes on"
        database.apply([put(20)]).wait()
        assert snapshots(directory) == [] and len(journals(directory)) == 2


def test_retention_keeps_the_newest_sealed_journals(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with Database.open(directory, options=StoreOptions(rotate_bytes=1_000)) as database:
        for number in range(1, 40):
            database.apply([put(number)]).wait()
        assert database._writer is not None and database._writer.rotate().wait(20)
        merge(directory / "store", FileLayer())
        sealed = journals(directory)[:-1]
        sizes = [path.stat().st_size for path in sealed]
        now = time.time()
        day = StoreOptions()
        assert clean(directory / "store", FileLayer(), day, now) == []
        small = StoreOptions(keep_sealed_bytes=sum(sizes[-2:]))
        assert clean(directory / "store", FileLayer(), small, now) == sealed[:-2]
        assert database.events_since(0, 10) is not None, "memory still has them"
        assert clean(directory / "store", FileLayer(), day, now + 86_500) == sealed[-2:]
        expected = contents(database)
    assert read(directory) == expected


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    """Its standard input is the parent's promise to be alive."""
    Database.open(tmp_path / "data").close()
    command = compactor_command(tmp_path / "data" / "store", StoreOptions())
    command[2:4] = ["-c", "from retz.store import compaction as c; c._end_with_parent()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 1


def test_closing_during_a_merge_leaves_no_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        for number in range(1, 2000):
            database.apply([put(number)])
        await database.apply([])
        running = asyncio.create_task(database.compact())
        async with asyncio.timeout(20):
            while database._compactor is None and not running.done():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0.001)
        process = database._compactor
        database.close()
        await asyncio.wait([running])
        assert process is None or process.returncode is not None
        running.exception()

    database = Database.open(tmp_path / "data")
    asyncio.run(scenario())
    assert len(read(tmp_path / "data")["jobs"]) == 1999
