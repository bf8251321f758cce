"""Reads logs: files into a line parser, and the jobs that come out of it into a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ParseError
from ..model import RecurrenceId, ResourceSkyline
from ..skylinestore.base import SkylineStore
from .base import MAX_PROBLEMS, Bad, BlockParser, Finished, LogParser, Progress, Report, SingleLineParser
from .lines import Block, blocks_of, each_line, excerpt

PORTION = 500_000
"""Steps of the skylines that are given to the store at once, some 50 MB: it writes each pipeline once a portion."""

_STEPS_OF_A_JOB = 16
"""What a job costs beside its steps."""


class BaseLogParser(LogParser):
    """Reads files as they are named, block by block. Memory is bounded by a few times ``MAX_LINE``."""

    def parse(
        self,
        paths: Iterable[Path],
        parser: SingleLineParser,
        report: Report,
        *,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finished]:
        """See :meth:`LogParser.parse`."""
        for path in paths:
            for file in _files_of(path, report):
                source = _Source(file, report, strict)
                for block in blocks_of(file, progress):
                    yield from source.parse(block, parser)
        report.unfinished += parser.unfinished()
        report.nameless += parser.nameless()


def translate(
    paths: Iterable[Path],
    store: SkylineStore,
    *,
    parser: SingleLineParser,
    log_parser: LogParser | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Add the jobs of logs to a store; those that it has already (same run, same job id) are counted, not added.

    What was added before an error stays in the store; to read the log again then does no harm.

    Raises:
        ParseError: a bad line under ``strict``.
        OSError: a file cannot be read.
    """
    report = Report()
    jobs = (log_parser or BaseLogParser()).parse(paths, parser, report, strict=strict, progress=progress)
    for portion in _portions(jobs):
        _add(store, portion, report)
    return report


class _Source:
    """A file that is being read: counts its lines, and reports what is wrong in them."""

    def __init__(self, file: Path, report: Report, strict: bool) -> None:
        self._file = file
        self._report = report
        self._strict = strict
        self._lines = 0

    def parse(self, block: Block, parser: SingleLineParser) -> Iterator[Finished]:
        """The jobs that a block completes."""
        if block.problem:
            self._count(1)
            self._bad(block.problem, self._lines, block.data)
            return
        first = self._lines + 1
        self._count(block.data.count(b"\n"))

        def bad(offset: int, why: str) -> None:
            if self._wanted():  # counting lines for each of many bad ones would take long
                number = first + block.data.count(b"\n", 0, offset)
                self._bad(why, number, block.data[offset : block.data.find(b"\n", offset)])
            else:
                self._report.bad_lines += 1

        found = parser.parse_block(block.data, bad) if isinstance(parser, BlockParser) else _each(parser, block, bad)
        report = self._report
        for job in found:
            report.jobs += 1
            yield job

    def _count(self, lines: int) -> None:
        self._lines += lines
        self._report.lines += lines

    def _wanted(self) -> bool:
        return self._strict or len(self._report.problems) < MAX_PROBLEMS

    def _bad(self, why: str, number: int, line: bytes) -> None:
        text = f"{self._file}:{number}: {why}" + (f": {shown}" if (shown := excerpt(line)) else "")
        if self._strict:
            raise ParseError(text)
        self._report.bad_lines += 1
        _problem(self._report, text)


def _each(parser: SingleLineParser, block: Block, bad: Bad) -> Iterator[Finished]:
    return each_line(block.data, parser.parse_line, bad)


def _problem(report: Report, text: str) -> None:
    if len(report.problems) < MAX_PROBLEMS:
        report.problems.append(text)


def _files_of(path: Path, report: Report) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    inside = path.resolve()
    for entry in sorted(path.iterdir()):
        if not entry.is_file():
            continue
        if entry.is_symlink() and not entry.resolve().is_relative_to(inside):
            _problem(report, f"{entry}: not read: the link leads out of its directory")
        else:
            yield entry


def _portions(jobs: Iterable[Finished]) -> Iterator[list[Finished]]:
    portion: list[Finished] = []
    size = 0
    for run, job in jobs:
        portion.append((run, job))
        size += _STEPS_OF_A_JOB + len(job.skyline.times) + (len(job.used.times) if job.used else 0)
        if size >= PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _add(store: SkylineStore, jobs: list[Finished], report: Report) -> None:
    runs: dict[RecurrenceId, list[ResourceSkyline]] = {}
    for run, job in jobs:
        runs.setdefault(run, []).append(job)
    report.runs.update(dict.fromkeys(runs))
    while runs:
        # A run that has one of the jobs may lack the others; in the next round another process may have added some.
        refused = {run: runs[run] for run in store.add_many(runs.items())}
        runs = {}
        for run, given in refused.items():
            missing = _missing(store, run, given)
            report.duplicates[run] = report.duplicates.get(run, 0) + len(given) - len(missing)
            if missing:
                runs[run] = missing


def _missing(store: SkylineStore, run: RecurrenceId, jobs: list[ResourceSkyline]) -> list[ResourceSkyline]:
    """Those of the jobs that the run does not have; of two with one id the first."""
    found = (store.get_history(run) or {}).get(run, [])
    missing = {job.job_id: job for job in reversed(jobs)}
    for known in found:
        missing.pop(known.job_id, None)
    return list(missing.values())[::-1]
