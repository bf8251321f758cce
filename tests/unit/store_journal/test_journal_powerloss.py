"""Power lost at every step of creation, commit, rotation and merge: what was acknowledged is there, whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retz.store.compaction import clean, merge
from retz.store.database import Change, Database, StoreOptions
from tests.doubles.powerloss import RecordingFiles, Survival, after_power_loss, marks
from tests.doubles.store_jobs import contents, gone, put, read

SURVIVALS: tuple[Survival, ...] = ("synced", "data", "names", "all")
OPTIONS = StoreOptions(rotate_bytes=900, keep_sealed_s=0.0, keep_sealed_bytes=0)


def work(root: Path) -> RecordingFiles:
    """Create a store, commit, rotate (by size and on demand), merge twice, reopen; mark every acknowledgement."""
    files = RecordingFiles(root)
    directory = root / "data"

    def acknowledge(database: Database, changes: list[Change]) -> None:
        ticket = database.apply(changes)
        files.mark(("applied", contents(database)))
        ticket.wait()
        files.mark(("acknowledged", contents(database)))

    with Database.open(directory, files=files, options=OPTIONS) as database:
        for number in range(1, 6):
            acknowledge(database, [put(number), put(100 + number, tags=("x", "y")), Change("meta", "n", {"n": number})])
        rotate(database)
        merge(directory / "store", files)
        clean(directory / "store", files, OPTIONS, now=2e9)
        acknowledge(database, [gone(1), put(2, state="STARTED")])
        bulk = database.bulk()
        bulk.encode([put(number) for number in range(200, 204)])
        bulk.encode([put(number) for number in range(204, 208)])
        ticket = bulk.commit()
        while bulk.absorb(3):
            pass
        files.mark(("applied", contents(database)))
        ticket.wait()
        files.mark(("acknowledged", contents(database)))
        rotate(database)
        merge(directory / "store", files)
        clean(directory / "store", files, OPTIONS, now=2e9)
        acknowledge(database, [put(7)])
    with Database.open(directory, files=files, options=OPTIONS) as database:
        acknowledge(database, [gone(2)])
    return files


def rotate(database: Database) -> None:
    """Seal the active journal, in this process."""
    assert database._writer is not None
    assert database._writer.rotate().wait(30)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordingFiles:
    files = work(tmp_path_factory.mktemp("recorded"))
    kinds = [operation[0] for operation in files.log]
    assert kinds.count("rename") >= 6 and kinds.count("unlink") >= 4
    return files


def allowed(log: list[Any]) -> Iterator[dict[str, Any]]:
    """What may be found after these operations: the last acknowledged state, or one applied since."""
    states = [{}, *(state for _, state in marks(log))]
    settled = max((at for at, (kind, _) in enumerate(marks(log), 1) if kind == "acknowledged"), default=0)
    yield from states[settled:]


def found(directory: Path) -> dict[str, Any]:
    """Open for writing, as a server does, prove that it can go on, and return what was there."""
    if not directory.exists():
        return {}
    with Database.open(directory) as database:
        state = contents(database)
        database.apply([Change("meta", "after", {"alive": True})]).wait()
    assert read(directory)["meta"]["after"] == {"alive": True}
    return state


@pytest.mark.parametrize("survival", SURVIVALS)
def test_power_loss_after_every_operation(recorded: RecordingFiles, tmp_path: Path, survival: Survival) -> None:
    log = recorded.log
    for step in range(len(log) + 1):
        if step < len(log) and log[step][0] == "mark" and log[step][1][0] == "applied":
            # The writer's thread may be ahead of the mark: the state that was being applied is allowed already.
            continue
        target = tmp_path / f"{step}"
        after_power_loss(log[:step], target, survival)
        upcoming = [entry[1][1] for entry in log[step:] if entry[0] == "mark"][:1]
        assert found(target / "data") in [*allowed(log[:step]), *upcoming], (step, log[step - 1])


def test_power_loss_tearing_each_write_at_any_byte(recorded: RecordingFiles, tmp_path: Path) -> None:
    log = recorded.log
    writes = [step for step, operation in enumerate(log, 1) if operation[0] == "write"]
    for step in writes:
        length = len(log[step - 1][2])
        upcoming = [entry[1][1] for entry in log[step:] if entry[0] == "mark"][:1]
        for torn in {0, 1, 8, 9, length // 2, length - 1, *range(5, length, max(1, length // 7))}:
            target = tmp_path / f"{step}-{torn}"
            after_power_loss(log[:step], target, "all", torn=torn)
            assert found(target / "data") in [*allowed(log[:step]), *upcoming], (step, torn)


def test_the_double_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """The model itself: without it forgetting, the tests above would prove nothing."""
    root = tmp_path / "root"
    root.mkdir()
    files = RecordingFiles(root)
    fd = files.create(root / "a")
    files.write_all(fd, [b"one"])
    files.fsync(fd)
    files.write_all(fd, [b"two"])
    files.close(fd)
    after_power_loss(files.log, tmp_path / "no-name")
    assert list((tmp_path / "no-name").iterdir()) == []
    files.fsync_dir(root)
    after_power_loss(files.log, tmp_path / "synced")
    assert (tmp_path / "synced" / "a").read_bytes() == b"one"
    after_power_loss(files.log, tmp_path / "torn", "all", torn=1)
    assert (tmp_path / "torn" / "a").read_bytes() == b"onet"
    files.rename(root / "a", root / "b")
    after_power_loss(files.log, tmp_path / "rename")
    assert [path.name for path in (tmp_path / "rename").iterdir()] == ["a"]
