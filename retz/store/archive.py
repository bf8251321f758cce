"""Ended jobs, on disk: sealed segments that are read by range and never loaded whole.

The owner of the queue appends here first and deletes from the hot table after; an append is idempotent by id, so
a crash between the two is harmless. Whole segments go when everything in them is old enough.

Appending and expiring run in one worker thread at a time (a lock sees to it) while any thread reads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from retz.model.job import ENDED_STATES, Job

from .archive_match import Matches
from .archive_segment import ActiveSegment, SealedSegment, View
from .files import FileLayer

log = logging.getLogger(__name__)

SEGMENT_RECORDS = 50_000
SEGMENT_BYTES = 64 << 20
_CHUNK = 1000


class _Memory(Struct):
    """What must outlive deleted segments."""

    max_id: int = 0


class _Segments(NamedTuple):
    """Swapped as one, so that a reader without a lock sees every job once."""

    sealed: tuple[SealedSegment, ...]
    active: ActiveSegment


class Archive:
    """See the module's text. Made by :meth:`open`."""

    def __init__(
        self,
        directory: Path,
        segments: _Segments,
        max_id: int,
        *,
        files: FileLayer,
        read_only: bool,
        limits: tuple[int, int],
    ) -> None:
        self.directory = directory
        self._files = files
        self._segments = segments
        self._expired_max_id = max_id
        self._read_only = read_only
        self._records, self._bytes = limits
        self._lock = threading.Lock()
        self.matches = Matches()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        files: FileLayer | None = None,
        segment_records: int = SEGMENT_RECORDS,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Archive:
        """Open, and create if need be, the archive in ``directory``.

        A torn tail is cut, damaged records are left out and counted, lost sidecars are made again: the archive
        never stops the queue from starting. Read-only changes nothing on disk, not even that.

        Raises:
            OSError: the directory cannot be read or written.
        """
        files = files or FileLayer()
        if not read_only:
            if not directory.exists():
                directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files.mkdir(directory)
            # Also of one that was there: the process that made it may have died before this.
            files.fsync_dir(directory.parent)
            _sweep(directory, files)
        numbers = sorted(int(path.stem[8:]) for path in directory.glob("segment-*.jsonl") if path.stem[8:].isdecimal())
        active = numbers[-1] if numbers else 1
        if (directory / f"segment-{active}.idx").exists():
            active += 1
        sealed = tuple(
            SealedSegment(directory, number, files, read_only=read_only) for number in numbers if number != active
        )
        segments = _Segments(sealed, ActiveSegment(directory, active, files, read_only=read_only))
        max_id = _remembered(directory / "state.json")
        limits = (segment_records, segment_bytes)
        return cls(directory, segments, max_id, files=files, read_only=read_only, limits=limits)

    def append(self, jobs: Sequence[Job]) -> None:
        """Keep ended jobs, durably when this returns. Blocks; a job that is here already is skipped.

        Raises:
            ValueError: one of them has not ended.
            OSError: disk full or broken; some of ``jobs`` may be here, so the same call may be repeated.
        """
        for job in jobs:
            if job.state not in ENDED_STATES or job.ended is None:
                raise ValueError(f"job {job.id} has not ended")
        with self._lock:
            self._check_writable()
            fresh = {job.id: job for job in jobs if job.id not in self}
            waiting = list(fresh.values())
            while waiting:
                active = self._segments.active
                room = min(_CHUNK, self._records - active.count)
                if room > 0 and active.size < self._bytes:
                    active.append(waiting[:room])
                    del waiting[:room]
                self._seal_if_full()

    def _seal_if_full(self) -> None:
        active = self._segments.active
        if active.count >= self._records or active.size >= self._bytes:
            self._seal()

    def _check_writable(self) -> None:
        if self._read_only:
            raise OSError("the archive is open for reading only")

    def _seal(self) -> None:
        sealed, active = self._segments
        following = ActiveSegment(self.directory, active.number + 1, self._files, read_only=False)
        self._segments = _Segments((*sealed, active.seal()), following)

    def expire(self, before: float) -> int:
        """Delete the segments in which every job ended before ``before``; how many jobs went. Blocks."""
        with self._lock:
            self._check_writable()
            active = self._segments.active
            if active.count and active.max_ended < before:
                self._seal()
            old = tuple(segment for segment in self._segments.sealed if segment.summary.max_ended < before)
            if not old:
                return 0
            # Before the deletion: ids are never used again, even when nothing else remembers them.
            self._expired_max_id = self.max_id
            memory = msgspec.json.encode(_Memory(self.max_id))
            self._files.close(self._files.install(self.directory / "state.json", (memory,)))
            kept = tuple(segment for segment in self._segments.sealed if segment not in old)
            self._segments = _Segments(kept, self._segments.active)
            for segment in old:
                segment.delete()
            self._files.fsync_dir(self.directory)
            return sum(segment.summary.count for segment in old)

    def get(self, job_id: int) -> Job | None:
        """The job, or None if it is not here (any more)."""
        found = self._find(job_id)
        return None if found is None else next(found[0].jobs((found[1],)))

    def _find(self, job_id: int) -> tuple[View, int] | None:
        sealed, active = self._segments
        found = active.find(job_id)
        for segment in reversed(sealed):
            if found is not None:
                break
            found = segment.find(job_id)
        return found

    def __contains__(self, job_id: int) -> bool:
        return self._find(job_id) is not None

    def __len__(self) -> int:
        sealed, active = self._segments
        return active.count + sum(segment.summary.count for segment in sealed)

    def newest(self, owner: str) -> int | None:
        """The highest id of a user's jobs here; None if there is none."""
        sealed, active = self._segments
        best = _newest_of(active.view(), owner)
        candidates = [segment for segment in sealed if owner in segment.summary.counts]
        for segment in sorted(candidates, key=lambda segment: -segment.summary.max_id):
            if segment.summary.max_id < best:
                break
            best = max(best, _newest_of(segment.view(), owner))
        return best or None

    def ended_between(self, since: float, before: float) -> list[int]:
        """Ids, ascending, of the jobs that ended at or after ``since`` and before ``before``."""
        sealed, active = self._segments
        views = [active.view()]
        views += [
            segment.view()
            for segment in sealed
            if segment.summary.max_ended >= since and segment.summary.min_ended < before
        ]
        return sorted(
            view.columns.id[row] for view in views for row in view.order if since <= view.columns.ended[row] < before
        )

    def segments(self) -> tuple[SealedSegment | ActiveSegment, ...]:
        """All segments, the growing one last."""
        sealed, active = self._segments
        return (*sealed, active)

    @property
    def max_id(self) -> int:
        """The highest id ever kept here, expired ones included; 0 if none was."""
        sealed, active = self._segments
        return max(self._expired_max_id, active.max_id, *(segment.summary.max_id for segment in sealed), 0)

    @property
    def damaged(self) -> int:
        """Records that could not be read when their segment was last scanned, and so are left out."""
        sealed, active = self._segments
        return active.damaged + sum(segment.summary.damaged for segment in sealed)

    @property
    def failure(self) -> str | None:
        """Why nothing more can be appended until a restart; None normally."""
        return self._segments.active.failed

    def close(self) -> None:
        """Let go of the files. Reading goes on to work; twice is harmless."""
        with self._lock:
            self._segments.active.close()


def _newest_of(view: View, owner: str) -> int:
    if owner not in view.tables.owners:
        return 0
    number, owners = view.tables.owners.index(owner), view.columns.owner
    row = next((row for row in reversed(view.order) if owners[row] == number), None)
    return 0 if row is None else view.columns.id[row]


def _sweep(directory: Path, files: FileLayer) -> None:
    """Remove what a crash left: half-written files, and sidecars whose data was deleted."""
    for path in directory.iterdir():
        derived = path.suffix in (".idx", ".json") and path.name.startswith("segment-")
        if path.suffix == ".tmp" or (derived and not path.with_suffix(".jsonl").exists()):
            files.unlink(path)


def _remembered(path: Path) -> int:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Memory).max_id
    except FileNotFoundError:
        return 0
    except msgspec.MsgspecError as error:
        log.error("archive: %s is damaged and ignored: %s", path, error)
        return 0
