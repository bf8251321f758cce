"""A skyline store in a directory: one TinyDB document file per pipeline.

What is here is derived data: it can be made again from the logs, or from the queue's jobs. So a damaged file is set
aside and said so, once, and the pipeline begins anew.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote

from ..errors import DuplicateRecurrenceId, SkylineStoreError, StoreDamaged
from ..model import Prediction, RecurrenceId, ResourceSkyline
from .base import (
    WILDCARD,
    PipelineSummary,
    Runs,
    SkylineStore,
    added,
    given_pipeline,
    given_prediction,
    given_run,
    given_skylines,
    not_found,
    put,
    updated,
)
from .pipeline_file import Damaged, Header, PipelineFile, StoredRun, read_header, replace

T = TypeVar("T")

SUFFIX = ".json"
LONGEST_NAME = 180
"""Longer encoded names are shortened: file systems allow 255 bytes, and ``.json.damaged-1`` needs room."""

CACHED_BYTES = 64 << 20
"""Files of so many bytes together, of all stores, stay in memory; 1 000 runs of 1 000 steps are about 17 MB, and take
three times as much there.
"""


class FileStore(SkylineStore):
    """The skylines of one owner in one directory, which is made when something is first written.

    Any number of processes may use the directory at once. Every change holds the directory's lock; readers need none,
    because a file is only ever replaced as a whole.

    Every operation may raise:
        StoreDamaged: the pipeline's file was unreadable. It was set aside, and the pipeline is empty from now on.
        SkylineStoreError: the file system refused: no space, no permission.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    # -- history -----------------------------------------------------------------------------------------------

    def add_history(self, run: RecurrenceId | None, skylines: Sequence[ResourceSkyline | None] | None) -> None:
        place, jobs = given_run(run), given_skylines(skylines)
        if jobs:
            with self._changing(place.pipeline) as file:
                _add(file, place, jobs)

    def add_many(self, runs: Iterable[tuple[RecurrenceId, Sequence[ResourceSkyline]]]) -> list[RecurrenceId]:
        by_pipeline: dict[str, list[tuple[RecurrenceId, list[ResourceSkyline]]]] = {}
        for run, skylines in runs:
            if jobs := given_skylines(skylines):
                by_pipeline.setdefault(run.pipeline, []).append((run, jobs))
        refused = []
        for pipeline, entries in by_pipeline.items():
            with self._changing(pipeline) as file:
                for run, jobs in entries:
                    try:
                        _add(file, run, jobs)
                    except DuplicateRecurrenceId:
                        refused.append(run)
        return refused

    def update_history(self, run: RecurrenceId | None, skylines: Sequence[ResourceSkyline | None] | None) -> None:
        place, jobs = given_run(run), given_skylines(skylines)
        with self._changing(place.pipeline) as file:
            file.runs[place.run] = StoredRun.of(place.run, updated(place, place.run in file.runs, jobs))

    def put_history(self, run: RecurrenceId, skylines: Sequence[ResourceSkyline], keep: int | None = None) -> None:
        jobs = put(run, skylines, keep)
        with self._changing(run.pipeline) as file:
            file.runs[run.run] = StoredRun.of(run.run, jobs)
            for oldest in list(islice(file.runs, max(0, len(file.runs) - (keep or len(file.runs))))):
                del file.runs[oldest]

    def delete_history(self, run: RecurrenceId | None) -> None:
        place = given_run(run)
        with self._changing(place.pipeline) as file:
            if place.run not in file.runs:
                raise not_found(place)
            del file.runs[place.run]

    def forget(self, pipeline: str) -> int:
        with self._changing(pipeline) as file:
            count = len(file.runs)
            file.runs.clear()
            file.prediction = None
        return count

    def get_history(self, run: RecurrenceId | None) -> Runs | None:
        place = given_run(run)
        if place.pipeline == WILDCARD:
            found: Runs = {}
            for name in [each.pipeline for each in self.pipelines()]:
                found.update(self._runs(RecurrenceId(name, WILDCARD)))
            return found
        return self._runs(place) or None

    # -- predictions -------------------------------------------------------------------------------------------

    def add_prediction(self, pipeline: str | None, prediction: Prediction | None) -> None:
        name, given = given_pipeline(pipeline), given_prediction(prediction)
        with self._changing(name) as file:
            file.prediction = given

    def get_prediction(self, pipeline: str | None) -> Prediction | None:
        return self._read(given_pipeline(pipeline), lambda file: file.prediction)

    def delete_prediction(self, pipeline: str | None) -> bool:
        with self._changing(given_pipeline(pipeline)) as file:
            present, file.prediction = file.prediction is not None, None
        return present

    # -- lists --------------------------------------------------------------------------------------------------

    def digest(self, pipeline: str) -> str:
        header = self._known(pipeline)
        return header.digest if header else ""

    def summary(self, pipeline: str) -> PipelineSummary | None:
        header = self._known(pipeline)
        return PipelineSummary(header.name, header.runs, header.predicted) if header else None

    def pipelines(self) -> list[PipelineSummary]:
        """All pipelines by name, from the first line of each file; one that is damaged there shows no runs."""
        return sorted(found for name in self._files() if (found := self._listed(name)) is not None)

    def _listed(self, name: str) -> PipelineSummary | None:
        with suppress(Damaged):
            header = self._header(self._directory / name)
            if header is None:
                return None
            if file_name(header.name) == name:
                return PipelineSummary(header.name, header.runs, header.predicted)
        pipeline = unquote(name.removesuffix(SUFFIX), errors="replace")
        return PipelineSummary(pipeline, 0, False) if file_name(pipeline) == name else None

    def _files(self) -> list[str]:
        with _refusals(), suppress(FileNotFoundError):
            return [name for name in os.listdir(self._directory) if name.endswith(SUFFIX)]  # noqa: PTH208
        return []

    def _known(self, pipeline: str) -> Header | None:
        with suppress(Damaged):
            return self._header(self._path(pipeline))
        return None

    def _header(self, path: Path) -> Header | None:
        with _refusals(), _opened(path) as descriptor:
            return None if descriptor is None else read_header(descriptor)[0]

    # -- reading ------------------------------------------------------------------------------------------------

    def _runs(self, place: RecurrenceId) -> Runs:
        def wanted(file: PipelineFile) -> Runs:
            names = list(file.runs) if place.run == WILDCARD else [place.run]
            return {RecurrenceId(file.name, name): file.runs[name].jobs() for name in names if name in file.runs}

        return self._read(place.pipeline, wanted)

    def _read(self, pipeline: str, wanted: Callable[[PipelineFile], T]) -> T:
        """What ``wanted`` takes of the file; a file that is damaged is set aside."""
        try:
            return wanted(self._load(pipeline))
        except Damaged:
            with self._locked():  # only now nobody replaces it: look again
                try:
                    return wanted(self._load(pipeline))
                except Damaged as error:
                    raise self._set_aside(pipeline, error) from error

    def _load(self, pipeline: str) -> PipelineFile:
        """The file as it is now, of the cache or read; one without anything if there is none."""
        path = self._path(pipeline)
        with _refusals(), _opened(path) as descriptor:
            if descriptor is None:
                return PipelineFile(pipeline)
            version = _Version.of(descriptor)
            file = _CACHE.get(path, version)
            if file is None:
                with open(descriptor, "rb", closefd=False) as stream:
                    file = PipelineFile.from_bytes(stream.read())
                if file.name != pipeline:
                    raise Damaged("it belongs to another pipeline")
                _CACHE.put(path, version, file)
            return file

    def _set_aside(self, pipeline: str, why: Damaged) -> StoreDamaged:
        path = self._path(pipeline)
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        with _refusals():
            path.rename(aside)
        return StoreDamaged(
            f"The file of pipeline {pipeline} could not be read ({why}) and was set aside as {aside}. The pipeline has "
            "no history now: parse its logs again."
        )

    # -- writing ------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, pipeline: str) -> Iterator[PipelineFile]:
        """The pipeline's contents, to be changed; what became of them is written at the end of the block.

        An exception in the block changes nothing.
        """
        with self._locked():
            try:
                before = self._load(pipeline)
                file = before.copy()
                yield file
            except Damaged as error:
                raise self._set_aside(pipeline, error) from error
            if file != before:
                self._save(file)

    def _save(self, file: PipelineFile) -> None:
        path = self._path(file.name)
        file.writes += 1
        with _refusals():
            if file.runs or file.prediction is not None:
                replace(path, self._directory / ".writing", file.to_bytes())
            else:
                path.unlink(missing_ok=True)
            with _opened(path) as descriptor:
                if descriptor is not None:
                    _CACHE.put(path, _Version.of(descriptor), file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _refusals():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, pipeline: str) -> Path:
        return self._directory / file_name(pipeline)


def file_name(pipeline: str) -> str:
    """The name of a pipeline's file: percent-encoded, and never hidden, empty or too long."""
    encoded = quote(pipeline, safe="", errors="surrogatepass") or "%"
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) > LONGEST_NAME:  # no other name has "%-" in it
        digest = blake2b(pipeline.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        encoded = f"{encoded[: LONGEST_NAME - 40]}%-{digest}"
    return encoded + SUFFIX


class _Version(NamedTuple):
    """What tells one version of a file from the next; the first line counts the writes."""

    inode: int
    changed_ns: int
    size: int
    header: bytes

    @classmethod
    def of(cls, descriptor: int) -> _Version:
        status = os.fstat(descriptor)
        return cls(status.st_ino, status.st_mtime_ns, status.st_size, read_header(descriptor)[1])


class _Cache:
    """The files read last, up to :data:`CACHED_BYTES` together."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, tuple[_Version, PipelineFile]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, path: Path, version: _Version) -> PipelineFile | None:
        with self._lock:
            known, file = self._files.get(path, (None, None))
            if known != version:
                return None
            self._files.move_to_end(path)
            return file

    def put(self, path: Path, version: _Version, file: PipelineFile) -> None:
        with self._lock:
            if path in self._files:
                self._bytes -= self._files.pop(path)[0].size
            self._files[path] = (version, file)
            self._bytes += version.size
            while self._bytes > CACHED_BYTES:
                _, (gone, _) = self._files.popitem(last=False)
                self._bytes -= gone.size


_CACHE = _Cache()


def _add(file: PipelineFile, run: RecurrenceId, jobs: list[ResourceSkyline]) -> None:
    known = file.runs[run.run].jobs() if run.run in file.runs else None
    file.runs[run.run] = StoredRun.of(run.run, added(run, known, jobs))


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor for reading; None if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the file system refuses, as an error for the user."""
    try:
        yield
    except OSError as error:
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "look at the store's directory"
        what = f"The skyline store cannot use {error.filename or 'its file'}: {error.strerror or error}"
        raise SkylineStoreError(f"{what}; {hint}.") from error
