"""Ended jobs of a Retz queue, as JSON lines: each ended job of a pipeline is one job of its run.

Understood are the answers of its API and what its commands print with ``--json`` (a job, ``{"job": ..}``,
``{"jobs": [..]}``), the files of its archive and those of its journal. The first have times as text and say every
field; the others have seconds since the epoch, omit defaults and hold what was measured while the job ran.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from ..errors import ParseError
from ..model import RecurrenceId
from ..recording import Span, Usage, run_skyline
from ..skyline import MAX_AMOUNT
from .base import Bad, BlockParser, Finished
from .lines import name_of

MAX_LIVE = 100_000
"""Jobs that have not ended beyond so many are not counted."""

_SECOND = 1000
_LEAST_MS = 100
"""A shorter attempt's processor time is spread over so long: its clocks are too coarse for a rate."""

_RESOURCES = {"mem": "memory", "cpus": "vcores", "gpus": "gpus"}
_archived = re.compile(rb'\["([0-9a-f]{8})",').match
_journalled = re.compile(rb"([0-9a-f]{8}) (\d{1,20} \d{1,20} )(?=\[)").match
_journal_head = re.compile(rb'[0-9a-f]{8} \{"retz"').match

Record = Mapping[str, Any]


class RetzJobLineParser(BlockParser):
    """Understands Retz's jobs. The state is which jobs have begun and not ended."""

    name: ClassVar[str] = "retz"

    def __init__(self, interval: int = 5) -> None:
        """``interval`` makes no difference: Retz knows when a job began and ended."""
        super().__init__(interval)
        self._live: set[str] = set()
        self._nameless = 0

    def unfinished(self) -> int:
        """See :meth:`SingleLineParser.unfinished`."""
        return len(self._live)

    def nameless(self) -> int:
        """See :meth:`SingleLineParser.nameless`."""
        return self._nameless

    def parse_line(self, line: bytes) -> Finished | None:
        """See :meth:`SingleLineParser.parse_line`.

        Raises:
            ParseError: also for a line of several ended jobs; :meth:`parse_block` takes those.
        """
        found = list(self._take(line))
        for each in found:
            if isinstance(each, ParseError):
                raise each
        jobs = [each for each in found if not isinstance(each, ParseError)]
        if len(jobs) > 1:
            raise ParseError(f"{len(jobs)} jobs in one line")
        return jobs[0] if jobs else None

    def parse_block(self, block: bytes, bad: Bad) -> Iterator[Finished]:
        """See :meth:`BlockParser.parse_block`. A bad job does not spoil the others of its line."""
        offset = 0
        for line in block.split(b"\n")[:-1]:
            for each in self._take(line):
                if isinstance(each, ParseError):
                    bad(offset, str(each))
                else:
                    yield each
            offset += len(line) + 1

    def _take(self, line: bytes) -> Iterator[Finished | ParseError]:
        try:
            records = _records(line)
        except ParseError as error:
            yield error
            return
        for record in records:
            try:
                job = self._job(record)
            except ParseError as error:
                yield error
            else:
                if job is not None:
                    yield job

    def _job(self, record: object) -> Finished | None:
        if not isinstance(record, dict) or not isinstance(record.get("id"), int | str):
            raise ParseError("a job is an object with an id")
        job_id, ended = _name(str(record["id"]), "job"), record.get("ended")
        if not record.get("pipeline"):
            self._nameless += ended is not None
            return None
        if ended is None:
            if record.get("attempts") and len(self._live) < MAX_LIVE:
                self._live.add(job_id)
            return None
        self._live.discard(job_id)
        return _finished(record, job_id, _milliseconds(ended))


def _finished(record: Record, job_id: str, ended: int) -> Finished | None:
    run = RecurrenceId(_name(record["pipeline"], "pipeline"), _name(record.get("run") or job_id, "run"))
    amounts = {ours: _number(value) for name, ours in _RESOURCES.items() if (value := _resources(record).get(name))}
    spans, usages = [], []
    for attempt in _attempts(record):
        start, end = _milliseconds(attempt["started"]), _milliseconds(attempt.get("ended"), ended)
        span = _whole_seconds(start, end, amounts)
        spans.append(span)
        if usage := _usage(attempt.get("usage"), span, end - start):
            usages.append(usage)
    if not spans:  # never started: it held nothing
        return None
    try:
        return run, run_skyline(job_id, spans, usages)
    except ValueError as error:
        raise ParseError(f"job {job_id}: {error}") from error


def _resources(record: Record) -> Record:
    resources = record.get("resources", {})
    if not isinstance(resources, dict):
        raise ParseError("the resources of a job are an object")
    return resources


def _attempts(record: Record) -> list[Record]:
    attempts = record.get("attempts", [])
    if not isinstance(attempts, list) or not all(isinstance(attempt, dict) for attempt in attempts):
        raise ParseError("the attempts of a job are a list of objects")
    return [attempt for attempt in attempts if attempt.get("started") is not None]


def _whole_seconds(start: int, end: int, amounts: Mapping[str, float]) -> Span:
    """Both moments rounded down, so that a job that begins when another ends does not stand beside it for a second.

    The jobs of a run are records of their own here, with whole seconds. What is shorter holds for one second.
    """
    first = start // _SECOND * _SECOND
    return Span(first, max(first + _SECOND, end // _SECOND * _SECOND) if end > start else first - start + end, amounts)


def _usage(usage: object, span: Span, duration: int) -> Usage | None:
    """What was measured; of an attempt too short for a series its sums, as if it had used them evenly."""
    if not isinstance(usage, dict):
        return None
    series = usage.get("series") or []
    if not isinstance(series, list) or not all(isinstance(point, list) and len(point) == 2 for point in series):
        raise ParseError("the series of a usage is a list of pairs")
    if series:
        points = [(_number(cpus) / 100, _number(memory)) for cpus, memory in series]
        return Usage(span.start_ms, _number(usage.get("interval_s")) * 1000, points, span.end_ms)
    memory = _number(usage.get("max_rss_mb") or 0)
    # Without an interval it may be a long job's: answers of the API have no series. Whatever runs has some memory.
    if not usage.get("interval_s") or not memory:
        return None
    vcores = _number(usage.get("cpu_s") or 0) * 1000 / max(_LEAST_MS, duration)
    return Usage(span.start_ms, max(1, span.end_ms - span.start_ms), [(vcores, memory)], span.end_ms)


def _name(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ParseError(f"the name of the {what} is no text")
    return name_of(value.encode("utf-8", "surrogatepass"), what)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_AMOUNT:  # not for NaN
        raise ParseError(f"{str(value)[:40]!r} is no number from 0 to 2^53")
    return float(value)


def _milliseconds(value: object, default: int | None = None) -> int:
    """Epoch milliseconds of a time as text (UTC unless it says otherwise) or in seconds."""
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        return round(_number(value) * 1000)
    try:
        moment = datetime.fromisoformat(value)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise ParseError(f"{value[:40]!r} is no time: {error}") from error


def _records(line: bytes) -> list[Any]:
    """The jobs of a line, whatever they are wrapped in."""
    line = line.strip()
    if not line or _journal_head(line):
        return []
    if archived := _archived(line):
        return [_json(_checked(archived[1], line[archived.end() : -1]))]
    if batch := _journalled(line):
        return _changed(_json(_checked(batch[1], line[batch.end() :], batch[2])))
    document = _json(line)
    if not isinstance(document, dict):
        raise ParseError("neither a job nor an object with jobs")
    if "job" in document:
        return [document["job"]]
    jobs = document.get("jobs")
    return jobs if isinstance(jobs, list) else [document]


def _changed(changes: object) -> list[Any]:
    if not isinstance(changes, list) or not all(isinstance(change, list) and len(change) == 3 for change in changes):
        raise ParseError("not an array of changes")
    return [record for table, _, record in changes if table == "jobs" and record is not None]


def _checked(checksum: bytes, text: bytes, numbers: bytes = b"") -> bytes:
    if b"%08x" % zlib.crc32(numbers, zlib.crc32(text)) != checksum:
        raise ParseError("damaged: the checksum is another")
    return text


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also for bytes that are not UTF-8
        raise ParseError(f"no JSON: {error}") from error
