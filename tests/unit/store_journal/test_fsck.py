"""fsck: finds every damage with its place, saves every valid record, and says what was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from retz.store.compaction import merge
from retz.store.database import Change, Database, StoreDamaged, StoreLocked, StoreOptions
from retz.store.files import FileLayer
from retz.store.fsck import check, repair
from tests.doubles.store_jobs import contents, gone, journals, put, read


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Jobs 1..10, one line each, and job 3 deleted; one journal."""
    with Database.open(tmp_path / "data") as database:
        for number in range(1, 11):
            database.apply([put(number)]).wait()
        database.apply([gone(3), Change("meta", "m", {"n": 1})]).wait()
    return tmp_path / "data"


def flip(path: Path, line: int) -> int:
    """Damage a line in its middle; return its offset."""
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines[line]) // 2
    lines[line] = lines[line][:middle] + b"\x00" + lines[line][middle + 1 :]
    path.write_bytes(b"".join(lines))
    return sum(map(len, lines[:line]))


def test_a_good_store_is_clean_and_left_alone(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in (directory / "store").iterdir()}
    for report in (check(directory), repair(directory)):
        assert report.clean and report.lost == [] and report.kept is None
        assert (report.records, report.seq) == (10, 12)
        assert "no problems" in report.text()
    assert {path.name: path.read_bytes() for path in (directory / "store").iterdir()} == before


def test_a_torn_tail_is_no_problem(directory: Path) -> None:
    path = journals(directory)[0]
    path.write_bytes(path.read_bytes()[:-3])
    report = check(directory)
    assert report.clean and report.torn is not None and report.torn.file == path.name
    assert "torn tail" in report.text()
    assert read(directory)["jobs"].keys() == set(range(1, 11))


def test_damage_is_found_and_everything_else_saved(directory: Path) -> None:
    path = journals(directory)[0]
    offset = flip(path, 5)
    with pytest.raises(StoreDamaged):
        Database.open(directory)
    report = check(directory)
    assert (report.problems[0].file, report.problems[0].offset) == (path.name, offset)
    assert journals(directory) == [path], "check changes nothing"

    report = repair(directory)
    assert report.kept is not None and report.kept.name.startswith("store.damaged-")
    assert (report.kept / path.name).exists()
    assert report.lost == ["changes 5 to 5 (1 of them)"]
    assert str(report.kept) in report.text() and "lost: changes 5 to 5" in report.text()
    with Database.open(directory) as database:
        assert contents(database)["jobs"].keys() == set(range(1, 11)) - {3, 5}
        assert database.meta.record("m") == {"n": 1}
        assert database.reserve_ids(1)[0] > 11, "the id that was lost is not given again"
        assert database.events_since(12, 10) is None, "clients reload"
        database.apply([put(500)]).wait()
    assert check(directory).clean


def test_cut_keeps_only_what_came_before_the_damage(directory: Path) -> None:
    flip(journals(directory)[0], 5)
    report = repair(directory, cut=True)
    assert any("everything after change 4" in sentence for sentence in report.lost)
    assert read(directory)["jobs"].keys() == {1, 2, 3, 4}


def test_damage_in_several_files(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with Database.open(directory, options=StoreOptions(rotate_bytes=500)) as database:
        for number in range(1, 31):
            database.apply([put(number)]).wait()
    first, second, *_ = journals(directory)
    flip(first, 1)
    second.unlink()
    report = check(directory)
    assert {problem.file for problem in report.problems} >= {first.name}
    assert any("are missing" in problem.what for problem in report.problems)
    repair(directory)
    kept = read(directory)["jobs"].keys()
    assert 1 not in kept and 30 in kept and len(kept) >= 20


def test_a_damaged_snapshot_is_replaced_by_the_journals_that_are_still_there(directory: Path) -> None:
    with Database.open(directory) as database:
        assert database._writer is not None and database._writer.rotate().wait(20)
        snapshot = merge(directory / "store", FileLayer())
        database.apply([put(11)]).wait()
        expected = contents(database)
    assert snapshot is not None
    flip(snapshot, 3)
    with Database.open(directory) as database:
        assert contents(database) == expected
        assert "passed over a bad snapshot" in database.recovery.notes[0]
    report = check(directory)
    assert report.problems[0].file == snapshot.name
    repair(directory)
    assert read(directory) == expected


def test_a_damaged_snapshot_without_its_journals_is_refused_and_salvaged(directory: Path) -> None:
    with Database.open(directory) as database:
        assert database._writer is not None and database._writer.rotate().wait(20)
        snapshot = merge(directory / "store", FileLayer())
        database.apply([put(11)]).wait()
    assert snapshot is not None
    journals(directory)[0].unlink()
    flip(snapshot, 3)
    with pytest.raises(StoreDamaged) as caught:
        Database.open(directory)
    assert caught.value.path == snapshot
    report = repair(directory)
    assert any("checksum" in sentence for sentence in report.lost)
    kept = read(directory)["jobs"].keys()
    assert 11 in kept and len(kept) >= 9


def test_a_missing_active_journal_is_damage(directory: Path) -> None:
    with Database.open(directory) as database:
        assert database._writer is not None and database._writer.rotate().wait(20)
        merge(directory / "store", FileLayer())
        expected = contents(database)
    journals(directory)[-1].unlink()
    journals(directory)[0].unlink()
    with pytest.raises(StoreDamaged, match="missing") as caught:
        Database.open(directory)
    assert f"--data-dir {directory}" in str(caught.value)
    assert not check(directory).clean
    repair(directory)
    assert read(directory) == expected


def test_an_interrupted_repair_is_finished_by_opening(directory: Path) -> None:
    flip(journals(directory)[0], 5)
    repair(directory)
    expected = read(directory)
    (directory / "store").rename(directory / "store.repaired")
    with Database.open(directory) as database:
        assert contents(database) == expected


def test_a_running_server_is_not_disturbed(directory: Path) -> None:
    with Database.open(directory):
        with pytest.raises(StoreLocked):
            check(directory)
        with pytest.raises(StoreLocked):
            repair(directory)


def test_no_store_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no store"):
        check(tmp_path)


def test_a_store_whose_every_file_is_gone_is_not_made_anew(directory: Path) -> None:
    for path in journals(directory):
        path.unlink()
    with pytest.raises(StoreDamaged, match="first journal is missing") as caught:
        Database.open(directory)
    assert f"--data-dir {directory}" in str(caught.value)
