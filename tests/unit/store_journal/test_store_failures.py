"""ENOSPC and EIO, on write and on fsync: nothing more is acknowledged, and the next start finds what was."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from retz.store.database import Database, StoreFailed, StoreOptions, Ticket
from tests.doubles.powerloss import FailingFiles
from tests.doubles.store_jobs import contents, put, read


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("operation", "short"), [("writev", None), ("writev", 30), ("fdatasync", None)])
@pytest.mark.parametrize("truncate_fails", [False, True])
def test_a_failed_write_stops_everything(
    tmp_path: Path, code: int, operation: str, short: int | None, truncate_fails: bool
) -> None:
    files = FailingFiles()
    with Database.open(tmp_path / "data", files=files) as database:
        database.apply([put(1)]).wait()
        acknowledged = contents(database)
        told: list[str] = []
        database.on_failed(told.append)
        files.fail_next(operation, code)
        files.short = short
        if truncate_fails:
            files.fail_next("truncate", errno.EIO)
        callbacks: list[str] = []
        ticket = database.apply([put(2)])
        ticket.then(lambda: callbacks.append("released"))
        with pytest.raises(StoreFailed, match="journal-"):
            ticket.wait(30)
        assert database.failed is not None and "restart" in database.failed
        with pytest.raises(StoreFailed):
            database.apply([put(3)])
        assert 3 not in database.jobs.records()
        assert callbacks == [] and not ticket.durable
        synced = files.calls.count("fdatasync")
    assert len(told) == 1 and "journal-" in told[0]
    assert files.calls.count("fdatasync") == synced, "a failed fsync is never retried"
    with Database.open(tmp_path / "data") as database:
        after = contents(database)
        if truncate_fails and operation == "fdatasync":
            assert after["jobs"].keys() in ({1}, {1, 2})
        else:
            assert after == acknowledged


@pytest.mark.parametrize("operation", ["create", "writev", "fsync", "rename", "fsync_dir"])
def test_a_failed_rotation_stops_everything(tmp_path: Path, operation: str) -> None:
    files = FailingFiles()
    with Database.open(tmp_path / "data", files=files, options=StoreOptions(rotate_bytes=100_000)) as database:
        database.apply([put(1)]).wait()
        acknowledged = contents(database)
        files.fail_next(operation, errno.ENOSPC)
        assert database._writer is not None
        assert database._writer.rotate().wait(30)
        database._writer._thread.join(30)
        assert database.failed
    assert read(tmp_path / "data") == acknowledged
    with Database.open(tmp_path / "data") as database:
        database.apply([put(2)]).wait()
        assert contents(database)["jobs"].keys() == {1, 2}


def test_all_who_wait_are_told(tmp_path: Path) -> None:
    files = FailingFiles()

    async def scenario() -> list[BaseException | None]:
        database.attach(asyncio.get_running_loop())
        await database.apply([put(1)])
        files.fail_next("fdatasync", errno.EIO)
        tickets = [database.apply([put(number)]) for number in range(2, 6)]

        async def outcome(ticket: Ticket) -> None:
            await ticket

        return await asyncio.gather(*(outcome(ticket) for ticket in tickets), return_exceptions=True)

    with Database.open(tmp_path / "data", files=files) as database:
        outcomes = asyncio.run(scenario())
    # The first batch may have held one of them or all; none after the failure was acknowledged.
    assert outcomes and all(isinstance(outcome, StoreFailed) for outcome in outcomes)


def test_failure_is_told_on_the_loop_and_events_are_withheld(tmp_path: Path) -> None:
    files = FailingFiles()

    async def scenario() -> None:
        database.attach(asyncio.get_running_loop())
        events: list[object] = []
        database.subscribe(events.extend)
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        database.on_failed(told.set_result)
        files.fail_next("writev", errno.ENOSPC)
        database.apply([put(1)])
        assert "No space left" in await asyncio.wait_for(told, 30)
        assert events == []

    with Database.open(tmp_path / "data", files=files) as database:
        asyncio.run(scenario())


def test_barrier_fails_with_what_it_waits_for(tmp_path: Path) -> None:
    files = FailingFiles()
    with Database.open(tmp_path / "data", files=files) as database:
        files.fail_next("writev", errno.EIO)
        database.apply([put(1)])
        try:
            barrier = database.apply([])
        except StoreFailed:
            return
        with pytest.raises(StoreFailed):
            barrier.wait(30)
