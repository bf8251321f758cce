"""The archive of ended jobs: what it keeps, what a crash or damage does to it."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import msgspec
import pytest

from retz.model.job import Attempt, Job, State
from retz.model.resources import Resources
from retz.store.archive import Archive
from retz.store.archive_match import match_rows
from retz.store.archive_segment import encode_line
from retz.store.files import Buffer, FileLayer
from retz.store.job_query import JobQuery


def ended_job(job_id: int, *, ended: float | None = None, state: State = "FINISHED", owner: str = "ann") -> Job:
    at = float(job_id) if ended is None else ended
    attempt = Attempt(number=1, agent="here", launched=at - 2, started=at - 1, ended=at, exit_code=0)
    return Job(
        id=job_id,
        owner=owner,
        command=f"echo {job_id}",
        resources=Resources(cpus=1, mem=512),
        submitted=at - 3,
        tags=(f"t{job_id % 3}",),
        state=state,
        ended=at,
        attempts=(attempt,),
    )


def ids(archive: Archive, query: JobQuery | None = None) -> list[int]:
    """The ids that the archive finds through its sidecars, sorted."""
    wanted = query or JobQuery(states=("FINISHED", "FAILED", "KILLED"))
    views = [segment.view() for segment in archive.segments()]
    return sorted(view.columns.id[row] for view in views for row in match_rows(view, wanted))


def fill(directory: Path, numbers: range, *, segment_records: int = 50_000) -> Path:
    archive = Archive.open(directory, segment_records=segment_records)
    archive.append([ended_job(number) for number in numbers])
    archive.close()
    return directory


def test_keeps_whole_records_over_segments_and_reopening(tmp_path: Path) -> None:
    jobs = [ended_job(number) for number in range(1, 26)]
    archive = Archive.open(tmp_path / "archive", segment_records=10)
    archive.append(jobs[:7])
    archive.append(jobs[7:])
    for opened in (archive, Archive.open(tmp_path / "archive"), Archive.open(tmp_path / "archive", read_only=True)):
        assert len(opened) == 25
        assert [opened.get(job.id) for job in jobs] == jobs
        assert opened.get(26) is None and 26 not in opened and 25 in opened
        assert ids(opened) == list(range(1, 26))
        assert opened.max_id == 25
        assert opened.damaged == 0
    assert sorted(path.name for path in (tmp_path / "archive").glob("*.idx")) == ["segment-1.idx", "segment-2.idx"]


def test_seals_by_size(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_bytes=1)
    archive.append([ended_job(1)])
    archive.append([ended_job(2)])
    assert [segment.number for segment in archive.segments()] == [1, 2, 3]
    assert ids(archive) == [1, 2]


def test_finds_jobs_that_ended_in_any_order(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_records=4)
    for number in (9, 2, 7, 4, 1, 8, 3, 6, 5):
        archive.append([ended_job(number, ended=100.0)])
    assert [archive.get(number).id for number in range(1, 10)] == list(range(1, 10))  # type: ignore[union-attr]


@pytest.mark.parametrize("reopen", [False, True])
def test_append_is_idempotent_by_id(tmp_path: Path, reopen: bool) -> None:
    archive = Archive.open(tmp_path, segment_records=3)
    archive.append([ended_job(number) for number in range(1, 6)])
    if reopen:
        archive.close()
        archive = Archive.open(tmp_path, segment_records=3)
    archive.append([ended_job(number) for number in (5, 1, 6, 6)])
    assert len(archive) == 6
    assert ids(archive) == [1, 2, 3, 4, 5, 6]


def test_refuses_a_job_that_has_not_ended(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    live = msgspec.structs.replace(ended_job(1), state="STARTED", ended=None)
    with pytest.raises(ValueError, match="job 1 has not ended"):
        archive.append([ended_job(2), live])
    assert len(archive) == 0


def test_active_segment_cut_at_every_byte_of_its_last_record(tmp_path: Path) -> None:
    data = (fill(tmp_path / "whole", range(1, 4)) / "segment-1.jsonl").read_bytes()
    last = len(encode_line(ended_job(3)))
    for cut in range(len(data) - last, len(data)):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / "segment-1.jsonl").write_bytes(data[:cut])
        reader = Archive.open(directory, read_only=True)
        assert ids(reader) == [1, 2]
        assert (directory / "segment-1.jsonl").stat().st_size == cut
        archive = Archive.open(directory)
        assert (ids(archive), archive.damaged) == ([1, 2], 0)
        archive.append([ended_job(3)])
        archive.close()
        assert (directory / "segment-1.jsonl").read_bytes() == data


def test_every_flipped_byte_of_the_last_record_is_noticed(tmp_path: Path) -> None:
    data = (fill(tmp_path / "whole", range(1, 4)) / "segment-1.jsonl").read_bytes()
    last = len(encode_line(ended_job(3)))
    directory = tmp_path / "flipped"
    directory.mkdir()
    for place in range(len(data) - last, len(data)):
        (directory / "segment-1.jsonl").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        archive = Archive.open(directory)
        assert ids(archive) == [1, 2], place
        archive.close()


def test_damage_before_valid_records_is_left_out_counted_and_survived(tmp_path: Path) -> None:
    path = fill(tmp_path, range(1, 6)) / "segment-1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"echo 2", b"echo 9")
    lines[3] = b"\x00" * 20 + b"\n"
    path.write_bytes(b"".join(lines))
    archive = Archive.open(tmp_path, segment_records=6)
    assert (ids(archive), archive.damaged) == ([1, 3, 5], 2)
    archive.append([ended_job(number) for number in (2, 4, 6, 7)])
    archive = Archive.open(tmp_path)
    assert (ids(archive), archive.damaged) == ([1, 2, 3, 4, 5, 6, 7], 2)


def test_a_record_damaged_after_indexing_reads_as_missing(tmp_path: Path) -> None:
    path = fill(tmp_path, range(1, 7), segment_records=3) / "segment-1.jsonl"
    archive = Archive.open(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"echo 2", b"echo 8"))
    assert archive.get(2) is None
    assert archive.get(3) == ended_job(3)


@pytest.mark.parametrize("suffixes", [(".idx",), (".json",), (".idx", ".json")])
@pytest.mark.parametrize("number", [1, 2])
def test_lost_sidecars_are_made_again(tmp_path: Path, suffixes: tuple[str, ...], number: int) -> None:
    """Also what a crash leaves between writing the summary and the sidecar."""
    fill(tmp_path, range(1, 7), segment_records=3)
    for suffix in suffixes:
        (tmp_path / f"segment-{number}{suffix}").unlink()
    assert ids(Archive.open(tmp_path, read_only=True)) == [1, 2, 3, 4, 5, 6]
    archive = Archive.open(tmp_path, segment_records=3)
    assert ids(archive) == [1, 2, 3, 4, 5, 6]
    archive.append([ended_job(7)])
    assert ids(Archive.open(tmp_path)) == [1, 2, 3, 4, 5, 6, 7]


def test_sidecar_with_any_byte_changed_or_cut_is_made_again(tmp_path: Path) -> None:
    fill(tmp_path, range(1, 4), segment_records=3)
    path = tmp_path / "segment-1.idx"
    good = path.read_bytes()
    unused = range(20, 24)  # four bytes of the header that mean nothing, yet the checksum covers them
    assert good[20:24] == bytes(4)
    for place in sorted({*range(32), *range(32, len(good), 7), *unused}):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x41]) + good[place + 1 :])
        archive = Archive.open(tmp_path)
        assert [archive.get(number) for number in (1, 2, 3)] == [ended_job(n) for n in (1, 2, 3)], place
        assert path.read_bytes() == good
    for cut in (0, 5, 31, 40, len(good) - 1):
        path.write_bytes(good[:cut])
        assert ids(Archive.open(tmp_path, read_only=True)) == [1, 2, 3]
        assert path.read_bytes() == good[:cut]
        assert ids(Archive.open(tmp_path)) == [1, 2, 3]


def test_damaged_summary_is_made_again(tmp_path: Path) -> None:
    fill(tmp_path, range(1, 4), segment_records=3)
    path = tmp_path / "segment-1.json"
    good = path.read_bytes()
    for bad in (b"", b"{", good.replace(b'"bytes":', b'"bytes":1'), good.replace(b'"version":1', b'"version":7')):
        assert bad != good
        path.write_bytes(bad)
        assert ids(Archive.open(tmp_path)) == [1, 2, 3]
        assert path.read_bytes() == good


def test_expires_whole_segments_and_never_forgets_the_highest_id(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_records=3)
    archive.append([ended_job(number) for number in range(1, 9)])
    assert archive.expire(3.0) == 0  # job 3 ended at 3.0: not before it
    assert archive.expire(5.5) == 3
    assert archive.expire(5.5) == 0
    assert ids(archive) == [4, 5, 6, 7, 8]
    assert archive.get(1) is None
    assert archive.expire(1e9) == 5
    assert len(archive) == 0 and archive.max_id == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json"]
    archive = Archive.open(tmp_path)
    assert archive.max_id == 8
    archive.append([ended_job(9)])
    assert (ids(archive), archive.max_id) == ([9], 9)


def test_expiry_interrupted_after_the_data_file_is_swept_up(tmp_path: Path) -> None:
    fill(tmp_path, range(1, 7), segment_records=3)
    (tmp_path / "segment-1.jsonl").unlink()
    (tmp_path / "segment-3.idx.tmp").write_bytes(b"half")
    archive = Archive.open(tmp_path)
    assert ids(archive) == [4, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segment-2.idx", "segment-2.json", "segment-2.jsonl"]


def test_reader_holding_a_view_survives_expiry(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_records=2)
    archive.append([ended_job(1), ended_job(2)])
    view = archive.segments()[0].view()
    archive.expire(1e9)
    assert list(view.columns.id) == [1, 2]
    assert list(view.jobs((0, 1))) == [None, None]


def test_read_only_refuses_changes(tmp_path: Path) -> None:
    archive = Archive.open(fill(tmp_path, range(1, 3)), read_only=True)
    for change in (lambda: archive.append([ended_job(3)]), lambda: archive.expire(1e9)):
        with pytest.raises(OSError, match="reading only"):
            change()
    assert ids(archive) == [1, 2]


class BrokenDisk(FileLayer):
    """Fails the n-th write or fsync, writing half of the data first."""

    def __init__(self, *, write: bool = False, sync: bool = False) -> None:
        self.write, self.sync = write, sync

    def write_all(self, fd: int, buffers: list[Buffer]) -> int:  # type: ignore[override]
        if self.write:
            half = b"".join(bytes(buffer) for buffer in buffers)
            super().write_all(fd, (half[: len(half) // 2],))
            raise OSError(errno.ENOSPC, "no space left")
        return super().write_all(fd, buffers)

    def fsync(self, fd: int) -> None:
        if self.sync:
            raise OSError(errno.EIO, "input/output error")
        super().fsync(fd)


def test_full_disk_takes_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    disk = BrokenDisk()
    archive = Archive.open(tmp_path, files=disk)
    archive.append([ended_job(1)])
    disk.write = True
    with pytest.raises(OSError, match="no space"):
        archive.append([ended_job(2), ended_job(3)])
    assert ids(archive) == [1] and archive.failure is None
    disk.write = False
    archive.append([ended_job(2), ended_job(3)])
    assert ids(archive) == ids(Archive.open(tmp_path)) == [1, 2, 3]
    assert Archive.open(tmp_path).damaged == 0


def test_failed_fsync_stops_appending_until_reopened(tmp_path: Path) -> None:
    disk = BrokenDisk()
    archive = Archive.open(tmp_path, files=disk)
    archive.append([ended_job(1)])
    disk.sync = True
    with pytest.raises(OSError, match="input/output"):
        archive.append([ended_job(2)])
    disk.sync = False
    with pytest.raises(OSError, match="restart the server"):
        archive.append([ended_job(2)])
    assert archive.failure is not None and 2 not in archive
    archive = Archive.open(tmp_path)
    archive.append([ended_job(2)])
    assert ids(archive) == [1, 2]


class Crash(BaseException):
    """The process ends here."""


class CrashingLayer(FileLayer):
    """Dies at the n-th call that touches the disk."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _step(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise Crash

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write_all(self, fd: int, buffers: list[Buffer]) -> int:  # type: ignore[override]
        self._step()
        return super().write_all(fd, buffers)

    def fsync(self, fd: int) -> None:
        self._step()
        super().fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def fsync_dir(self, path: Path) -> None:
        self._step()
        super().fsync_dir(path)


def test_crash_at_every_step_of_append_seal_and_expire(tmp_path: Path) -> None:
    """Whatever append returned for is there afterwards; repeating the interrupted work completes it."""
    crashes = 0
    for calls in range(200):
        directory = tmp_path / str(calls)
        layer = CrashingLayer(calls)
        kept: list[int] = []
        expired = False
        try:
            archive = Archive.open(directory, files=layer, segment_records=2)
            for number in range(1, 6):
                archive.append([ended_job(number)])
                kept.append(number)
            expired = True
            archive.expire(2.5)
        except Crash:
            crashes += 1
        else:
            break
        archive = Archive.open(directory, segment_records=2)
        found = ids(archive)
        assert set(kept) - ({1, 2} if expired else set()) <= set(found)
        assert archive.damaged == 0
        assert archive.max_id >= max(kept, default=0)
        if not expired:
            archive.append([ended_job(number) for number in range(1, 6)])
            assert ids(archive) == [1, 2, 3, 4, 5]
        archive.expire(2.5)
        assert ids(Archive.open(directory)) == [3, 4, 5]
    else:
        pytest.fail("it never came through")
    assert crashes > 20


def test_summary_counts(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_records=4)
    archive.append(
        [
            ended_job(1),
            ended_job(2, state="FAILED"),
            ended_job(3, owner="bob"),
            ended_job(6, owner="bob", state="KILLED"),
        ]
    )
    summary = Archive.open(tmp_path).segments()[0].summary  # type: ignore[union-attr]
    assert (summary.min_id, summary.max_id, summary.count) == (1, 6, 4)
    assert (summary.min_submitted, summary.max_submitted) == (-2.0, 3.0)
    assert (summary.min_ended, summary.max_ended) == (1.0, 6.0)
    assert summary.counts == {"ann": {"FINISHED": 1, "FAILED": 1}, "bob": {"FINISHED": 1, "KILLED": 1}}
    assert summary.tags is not None
    assert summary.tags["t0"] == {"bob": {"FINISHED": 1, "KILLED": 1}}


def test_reads_while_another_thread_appends(tmp_path: Path) -> None:
    """A reader sees a growing list and never half a job."""
    archive = Archive.open(tmp_path, segment_records=50)
    wrong: list[object] = []

    def append() -> None:
        for number in range(1, 401):
            archive.append([ended_job(number)])

    writer = threading.Thread(target=append)
    writer.start()
    seen = 0
    while writer.is_alive() or seen < 400:
        found = ids(archive)
        if found != list(range(1, len(found) + 1)) or len(found) < seen:
            wrong.append(found)
            break
        seen = len(found)
        if seen and archive.get(seen) != ended_job(seen):
            wrong.append(seen)
            break
    writer.join()
    assert wrong == []
    assert seen == 400


def test_newest_of_a_user(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_records=3)
    assert archive.newest("ann") is None
    archive.append([ended_job(5), ended_job(9, owner="bob"), ended_job(2), ended_job(3), ended_job(4), ended_job(1)])
    archive.append([ended_job(8, owner="cy")])
    assert [archive.newest(user) for user in ("ann", "bob", "cy", "dan")] == [5, 9, 8, None]


def test_ended_between(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path, segment_records=3)
    archive.append([ended_job(number) for number in (5, 1, 4, 2, 3, 7, 6)])
    assert archive.ended_between(2.0, 7.0) == [2, 3, 4, 5, 6]
    assert archive.ended_between(8.0, 9.0) == []
