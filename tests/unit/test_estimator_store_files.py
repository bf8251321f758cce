"""What only the store in files has to withstand: names, damage, a full disk, many pipelines."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from estimator.errors import RecurrenceIdNotFound, SkylineStoreError, StoreDamaged
from estimator.model import Prediction, RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.skylinestore import files, pipeline_file
from estimator.skylinestore.base import PipelineSummary
from estimator.skylinestore.files import LONGEST_NAME, FileStore, file_name

JOB = ResourceSkyline("job", Skyline.interval(0, 5, {"memory": 1024, "vcores": 1.5}), finished=5)
RUN = RecurrenceId("etl", "monday")
ALL = RecurrenceId("etl", "*")
PREDICTION = Prediction("etl", JOB.skyline, "fast", "allocated", {"alpha": 0.1}, ("monday",))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CACHE", files._Cache())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "skylines"


@pytest.fixture
def store(place: Path) -> FileStore:
    return FileStore(place)


def etl(place: Path) -> Path:
    return place / "etl.json"


# -- what the directory looks like --------------------


def test_one_readable_file_for_each_pipeline(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    store.add_history(RecurrenceId("etl", "tuesday"), [JOB])
    assert sorted(each.name for each in place.iterdir()) == [".lock", "etl.json"]
    lines = etl(place).read_text().splitlines()
    assert len(lines) == 4
    document = json.loads("".join(lines))
    assert document["pipeline"]["1"] | {"digest": ""} == {
        "name": "etl",
        "runs": 2,
        "predicted": False,
        "digest": "",
        "writes": 2,
    }
    assert document["runs"]["2"]["run"] == "tuesday"
    assert document["runs"]["2"]["jobs"][0]["skyline"] == {
        "times": "0,5",
        "values": {"memory": "1024,0", "vcores": "1.5,0"},
    }


def test_only_the_owner_may_look(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in place.iterdir()} == {0o600}


def test_an_empty_pipeline_leaves_no_file(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    store.add_prediction("etl", PREDICTION)
    store.delete_history(RUN)
    assert etl(place).exists()
    store.delete_prediction("etl")
    assert not etl(place).exists()


def test_reading_makes_nothing(store: FileStore, place: Path) -> None:
    assert store.get_history(ALL) is None
    assert store.pipelines() == []
    assert not place.exists()


def test_nothing_is_written_when_nothing_changed(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    before = etl(place).stat()
    with pytest.raises(RecurrenceIdNotFound):
        store.delete_history(RecurrenceId("etl", "tuesday"))
    assert store.delete_prediction("etl") is False
    assert store.add_many([(RUN, [JOB])]) == [RUN]
    assert etl(place).stat() == before


def test_adding_many_writes_each_file_once(store: FileStore, place: Path) -> None:
    store.add_many([(RecurrenceId(f"p{number % 3}", f"run {number}"), [JOB]) for number in range(30)])
    for number in range(3):
        assert json.loads((place / f"p{number}.json").read_text())["pipeline"]["1"]["writes"] == 1
        assert store.summary(f"p{number}") == PipelineSummary(f"p{number}", 10, False)


def test_every_change_is_seen(store: FileStore, place: Path, tmp_path: Path) -> None:
    """Also where inode, size and time are as before: inodes are used again, and clocks tick every 4 ms."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    reader = FileStore(mirror)
    versions = set()
    for digit in "123456789":
        store.put_history(RUN, [ResourceSkyline(digit, JOB.skyline)])
        etl(mirror).write_bytes(etl(place).read_bytes())
        os.utime(etl(mirror), ns=(0, 0))
        status = etl(mirror).stat()
        versions.add((status.st_ino, status.st_mtime_ns, status.st_size))
        assert reader.get_history(RUN) == {RUN: [ResourceSkyline(digit, JOB.skyline)]}
    assert len(versions) == 1


def test_what_was_read_is_not_parsed_again(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    with mock.patch.object(pipeline_file.PipelineFile, "from_bytes", side_effect=AssertionError):
        assert store.get_history(ALL) == {RUN: [JOB]}
        store.add_history(RecurrenceId("etl", "tuesday"), [JOB])
        assert len(FileStore(place).get_history(ALL) or {}) == 2
        (place / "etl.json").write_bytes((place / "etl.json").read_bytes() + b"\n")
        with pytest.raises(AssertionError):
            store.get_history(ALL)


def test_what_is_kept_in_memory_is_bounded(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_history(RUN, [JOB])
    size = etl(store._directory).stat().st_size
    monkeypatch.setattr(files, "CACHED_BYTES", 3 * size + size // 2)
    for name in ("a", "bb", "ccc", "dddd"):
        store.add_history(RecurrenceId(name, "monday"), [JOB])
    assert [path.name for path in files._CACHE._files] == ["bb.json", "ccc.json", "dddd.json"]
    assert files._CACHE._bytes == sum(path.stat().st_size for path in files._CACHE._files)


# -- names --------------------

NAMES = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "a/b",
    "*",
    "%",
    "%2E",
    ".lock",
    ".writing",
    "etl.json",
    "with blanks \n and\ttabs",
    "nul \0 byte",
    "x" * 200,
    "x" * 201,
    "長い名前" * 60,
    "長い名前" * 60 + "!",
    "half \ud800",
    "y" * 100_000,
]


def test_any_text_may_name_a_pipeline(store: FileStore, place: Path, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        store.add_history(RecurrenceId(name, f"run {number}"), [JOB])
    fresh = FileStore(place)
    assert [each.pipeline for each in fresh.pipelines()] == sorted(NAMES)
    for number, name in enumerate(NAMES):
        run = RecurrenceId(name, f"run {number}")
        if name != "*":
            assert fresh.get_history(RecurrenceId(name, "*")) == {run: [JOB]}
        assert fresh.summary(name) == PipelineSummary(name, 1, False)
        fresh.delete_history(run)
    assert [each.name for each in place.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == [place]


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text())
@example("x" * 300, "x" * 301)
@example("", "%")
@example(".", "%2E")
def test_different_names_have_different_files(one: str, two: str) -> None:
    for name in (one, two):
        encoded = file_name(name)
        assert len(f"{encoded}.damaged-100") <= 255
        assert encoded.isascii() and encoded.isprintable()
        assert "/" not in encoded
        assert not encoded.startswith(".")
    assert (file_name(one) == file_name(two)) == (one == two)


def test_a_name_at_the_limit_stays_whole() -> None:
    assert file_name("x" * LONGEST_NAME) == "x" * LONGEST_NAME + ".json"


# -- damage --------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def cut_in_first_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 200_000)


def other_json(path: Path) -> None:
    path.write_text('{"pipeline": {"1": {"name": "etl"}},\n"runs": []}')


def wrong_values(path: Path) -> None:
    path.write_text(path.read_text().replace('"1024,0"', '"1024,nought"'))


def missing_values(path: Path) -> None:
    path.write_text(path.read_text().replace('"1024,0"', '"1024"'))


def jobs_are_no_list(path: Path) -> None:
    document = json.loads(path.read_text())
    document["runs"]["1"]["jobs"] = 7
    pipeline, rest = json.dumps(document).split(', "prediction"')
    path.write_text(f'{pipeline},\n"prediction"{rest}')


def a_run_lost(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], '"runs": {}}']))


def of_another(path: Path) -> None:
    path.write_text(path.read_text().replace('"name": "etl"', '"name": "ltl"'))


DAMAGES = [
    cut,
    cut_in_first_line,
    empty,
    garbage,
    zeros,
    nested,
    other_json,
    wrong_values,
    missing_values,
    jobs_are_no_list,
    a_run_lost,
    of_another,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_once(store: FileStore, place: Path, damage: Callable[[Path], None]) -> None:
    store.add_history(RUN, [JOB])
    damage(etl(place))
    spoilt = etl(place).read_bytes()
    with pytest.raises(StoreDamaged) as refused:
        FileStore(place).get_history(ALL)
    aside = place / "etl.json.damaged-1"
    assert str(aside) in str(refused.value)
    assert "etl" in str(refused.value)
    assert aside.read_bytes() == spoilt
    for each in (store, FileStore(place)):
        assert each.get_history(ALL) is None
        assert each.pipelines() == []
        assert each.digest("etl") == ""
    store.add_history(RUN, [JOB])
    assert store.get_history(ALL) == {RUN: [JOB]}


def test_damage_is_found_by_changes_too(store: FileStore, place: Path) -> None:
    changes: list[Callable[[FileStore], object]] = [
        lambda fresh: fresh.add_history(RUN, [JOB]),
        lambda fresh: fresh.put_history(RUN, [JOB]),
        lambda fresh: fresh.delete_history(RUN),
        lambda fresh: fresh.add_prediction("etl", PREDICTION),
        lambda fresh: fresh.get_prediction("etl"),
        lambda fresh: fresh.add_many([(RUN, [JOB])]),
    ]
    for number, change in enumerate(changes, start=1):
        store.put_history(RUN, [JOB])
        cut(etl(place))
        with pytest.raises(StoreDamaged, match=f"damaged-{number}"):
            change(FileStore(place))
        assert not etl(place).exists()


def test_a_damaged_run_is_found_when_a_job_is_added_to_it(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    wrong_values(etl(place))
    with pytest.raises(StoreDamaged):
        FileStore(place).add_history(RUN, [ResourceSkyline("other", JOB.skyline)])


def test_a_list_survives_damage(store: FileStore, place: Path) -> None:
    for name in ("a", "etl", "z", "q" * 300):
        store.add_history(RecurrenceId(name, "monday"), [JOB])
    garbage(etl(place))
    garbage(place / file_name("q" * 300))
    fresh = FileStore(place)
    assert fresh.pipelines() == [
        PipelineSummary("a", 1, False),
        PipelineSummary("etl", 0, False),
        PipelineSummary("z", 1, False),
    ]
    with pytest.raises(StoreDamaged, match=r"etl\.json\.damaged-1"):
        fresh.get_history(RecurrenceId("*", "*"))
    assert set(fresh.get_history(RecurrenceId("*", "*")) or {}) == {
        RecurrenceId("a", "monday"),
        RecurrenceId("z", "monday"),
    }


def test_a_file_repaired_meanwhile_is_left_alone(store: FileStore, place: Path) -> None:
    """A reader that saw damage looks again under the lock before it sets anything aside."""
    store.add_history(RUN, [JOB])
    whole = etl(place).read_bytes()
    cut(etl(place))
    reader = FileStore(place)
    locked = reader._locked

    def after_repair() -> object:
        etl(place).write_bytes(whole)
        return locked()

    with mock.patch.object(reader, "_locked", after_repair):
        assert reader.get_history(ALL) == {RUN: [JOB]}
    assert etl(place).read_bytes() == whole


def test_foreign_files_are_left_alone(store: FileStore, place: Path) -> None:
    store.add_history(RUN, [JOB])
    (place / "README").write_text("mine")
    (place / ".hidden.json").write_text("mine")
    (place / "A B.json").write_text("not encoded: no pipeline has this file")
    assert store.pipelines() == [PipelineSummary("etl", 1, False)]


# -- refusals of the file system --------------------


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(store: FileStore, place: Path, call: str) -> None:
    store.add_history(RUN, [JOB])
    before = etl(place).read_bytes()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    target: tuple[object, str] = {"write": (os, "open"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[call]
    real_open = os.open

    def no_room(path: Path, flags: int, mode: int = 0o777) -> int:
        """/dev/full takes no byte."""
        return real_open("/dev/full" if Path(path).name == ".writing" else path, flags, mode)

    effect = no_room if call == "write" else full
    with (
        mock.patch.object(*target, side_effect=effect),
        pytest.raises(SkylineStoreError, match=r"No space left on device; free some space"),
    ):
        store.put_history(RUN, [ResourceSkyline("new", JOB.skyline)])
    assert etl(place).read_bytes() == before
    assert sorted(each.name for each in place.iterdir()) == [".lock", "etl.json"]
    for each in (store, FileStore(place)):
        assert each.get_history(ALL) == {RUN: [JOB]}
    store.put_history(RUN, [ResourceSkyline("new", JOB.skyline)])
    assert FileStore(place).get_history(ALL) == {RUN: [ResourceSkyline("new", JOB.skyline)]}


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FileStore(tmp_path / "file")
    with pytest.raises(SkylineStoreError, match=r"cannot use .*file.*; look at the store's directory"):
        store.add_history(RUN, [JOB])
    with pytest.raises(SkylineStoreError, match="cannot use"):
        store.pipelines()


def test_a_link_in_place_of_the_temporary_file_is_not_followed(store: FileStore, place: Path, tmp_path: Path) -> None:
    store.add_history(RUN, [JOB])
    (tmp_path / "precious").write_text("mine")
    (place / ".writing").symlink_to(tmp_path / "precious")
    with pytest.raises(SkylineStoreError, match="cannot use"):
        store.put_history(RUN, [JOB])
    assert (tmp_path / "precious").read_text() == "mine"


# -- many --------------------


def test_many_pipelines_make_one_no_slower(store: FileStore, place: Path) -> None:
    """Counted in files touched, not in seconds."""
    store.add_many([(RecurrenceId(f"p{number}", "monday"), [JOB]) for number in range(1500)])
    fresh = FileStore(place)
    with mock.patch.object(os, "open", wraps=os.open) as opened, mock.patch.object(os, "listdir") as listed:
        fresh.add_history(RecurrenceId("p77", "tuesday"), [JOB])
        assert len(fresh.get_history(RecurrenceId("p77", "*")) or {}) == 2
        assert fresh.summary("p77") == PipelineSummary("p77", 2, False)
    assert {Path(call.args[0]).name for call in opened.call_args_list} == {"p77.json", ".lock", ".writing"}
    assert opened.call_count < 10
    listed.assert_not_called()
    with mock.patch.object(pipeline_file.PipelineFile, "from_bytes", side_effect=AssertionError):
        assert len(fresh.pipelines()) == 1500
