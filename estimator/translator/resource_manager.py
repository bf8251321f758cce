"""The log of YARN's ResourceManager: applications named ``Pipeline-Run``, with the containers that they held.

Two layouts are understood: the one of Hadoop's sample (``id,MM/dd/yyyy HH:mm:ss,source,tag,message``) and the one
that log4j writes by default (``yyyy-MM-dd HH:mm:ss,SSS message``). Six kinds of messages count; of a line with
several the leftmost decides. All others, which are most, are passed over without being looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import ClassVar

from ..errors import ParseError
from ..model import RecurrenceId
from ..skyline import MAX_AMOUNT
from .applications import Applications, Size
from .base import Bad, BlockParser, Finished
from .lines import excerpt, name_of

_SUBMITTED, _ALLOCATED, _RELEASED = b"Submit Application Request", b"AM Allocated Container", b"AM Released Container"
_RESOURCE, _ATTEMPT_FAILED, _SUMMARY = b", Resource:", b"finalState=FAILED", b"ApplicationSummary"
_KEYWORDS = (_SUBMITTED, _ALLOCATED, _RESOURCE, _RELEASED, _ATTEMPT_FAILED, _SUMMARY)

_keyword = re.compile(b"|".join(map(re.escape, _KEYWORDS))).search
_date = re.compile(rb"(?:(\d\d)/(\d\d)/(\d{4})|(\d{4})-(\d\d)-(\d\d)) (\d\d):(\d\d):(\d\d)").fullmatch
_log4j = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[,. ]").match
_ID = rb"(\w{1,100})(?!\w)"
_app_id = re.compile(rb"APPID=" + _ID).search
_container_id = re.compile(rb"CONTAINERID=" + _ID).search
_summary_id = re.compile(rb"appId=" + _ID).search
_owner = re.compile(rb"(?:container_(?:e\d{1,20}_)?|appattempt_)(\d{1,20}_\d{1,20})(?!\d)").search
_sized_container = re.compile(rb"(?i:ContainerId): ?" + _ID).search
_attempt = re.compile(rb"appattempt_(\d{1,20}_\d{1,20})_\d").search
_size = re.compile(
    rb"memory:(\d{1,16})(?!\d)\\?, ?vCores:(\d{1,16})(?!\d)(?:\\?, ?yarn\.io/gpu: ?(\d{1,16})(?!\d))?"
).search
_name = re.compile(rb"[,\s]name=((?:[^,\\]|\\.)*)").search
_escaped = re.compile(rb"\\(.)")


class ResourceManagerLineParser(BlockParser):
    """Understands the ResourceManager's log. The state is what it knows of applications that have not ended."""

    name: ClassVar[str] = "rm"

    def __init__(self, interval: int = 5, timezone: tzinfo = UTC) -> None:
        """``timezone``: in which the log's times are; without meaning for skylines unless clocks were changed."""
        super().__init__(interval)
        self._timezone = timezone
        self._applications = Applications()
        self._nameless = 0

    def unfinished(self) -> int:
        """See :meth:`SingleLineParser.unfinished`; with those forgotten because there were too many."""
        return len(self._applications) + self._applications.forgotten

    def nameless(self) -> int:
        """See :meth:`SingleLineParser.nameless`."""
        return self._nameless

    def parse_block(self, block: bytes, bad: Bad) -> Iterator[Finished]:
        """See :meth:`BlockParser.parse_block`. Searching the block for each keyword passes over most lines."""
        for start in sorted({start for word in _KEYWORDS for start in _lines_with(block, word)}):
            try:
                finished = self.parse_line(block[start : block.find(b"\n", start)])
            except ParseError as error:
                bad(start, str(error))
            else:
                if finished is not None:
                    yield finished

    def parse_line(self, line: bytes) -> Finished | None:
        """See :meth:`SingleLineParser.parse_line`."""
        date, message = _columns(line)
        found = _keyword(message)
        if found is None:
            return None
        time = _epoch(date, self._timezone)
        kind = found.group()
        if kind == _SUMMARY:
            return self._ended(message, time)
        if kind == _RESOURCE:
            self._resized(message)
        elif kind == _ATTEMPT_FAILED:
            if attempt := _attempt(message):  # else it says so of something else
                self._applications.fail(_application(attempt[1]), time)
        elif kind == _SUBMITTED:
            if b"RESULT=FAILURE" not in message:
                self._applications.submit(_id(_app_id, message, "APPID"), time)
        else:
            self._moved(kind, message, time)
        return None

    def _moved(self, kind: bytes, message: bytes, time: int) -> None:
        application = _id(_app_id, message, "APPID")
        container = _id(_container_id, message, "CONTAINERID")
        if kind == _RELEASED:
            self._applications.release(application, container, time)
            return
        self._applications.allocate(application, container, time)
        if size := _size(message):  # newer Hadoops tell the size here
            self._applications.resize(application, container, _size_of(size))

    def _resized(self, message: bytes) -> None:
        owner, size, container = _owner(message), _size(message), _sized_container(message)
        if owner is None:  # the resource of a node or a queue
            return
        if size is None:
            raise ParseError("a resource without memory:.. and vCores:..")
        self._applications.resize(_application(owner[1]), container and container[1], _size_of(size))

    def _ended(self, message: bytes, time: int) -> Finished | None:
        name = _id(_summary_id, message, "appId")
        application = self._applications.end(name)
        if application is None:
            return None
        job = _name(message)
        pipeline, _, run = _escaped.sub(rb"\1", job[1] if job else b"").partition(b"-")
        if not pipeline or not run:
            self._nameless += 1
            return None
        try:
            record = application.record(name.decode("ascii"), time)
        except ValueError as error:
            raise ParseError(str(error)) from error
        return RecurrenceId(name_of(pipeline, "pipeline"), name_of(run, "run")), record


def _columns(line: bytes) -> tuple[bytes, bytes]:
    """Date and message of a line; nothing if it has neither layout (a stack trace, a remark)."""
    if date := _log4j(line):
        return date[1], line[date.end() :]
    columns = line.split(b",", 4)
    if len(columns) == 5:
        return columns[1], columns[4]
    if _keyword(line):
        raise ParseError("no date: give lines like '2017-06-21 16:10:13,123 ..' or 'id,06/21/2017 16:10:13,..,..,..'")
    return b"", b""


@lru_cache(maxsize=4096)
def _epoch(date: bytes, timezone: tzinfo) -> int:
    match = _date(date)
    if match is None:
        raise ParseError(f"{excerpt(date)!r} is no date like 06/21/2017 16:10:13")
    month, day, year, year2, month2, day2, hour, minute, second = (int(part or 0) for part in match.groups())
    try:
        moment = datetime(year or year2, month or month2, day or day2, hour, minute, second, tzinfo=timezone)
        return int(moment.timestamp())
    except (ValueError, OverflowError) as error:
        raise ParseError(f"{excerpt(date)!r} is no date: {error}") from error


def _id(search: Callable[[bytes], re.Match[bytes] | None], message: bytes, what: str) -> bytes:
    found = search(message)
    if found is None:
        raise ParseError(f"the message has no {what}")
    return found[1]


def _application(numbers: bytes) -> bytes:
    return b"application_" + numbers


def _size_of(found: re.Match[bytes]) -> Size:
    size = int(found[1]), int(found[2]), int(found[3] or 0)
    if max(size) > MAX_AMOUNT:
        raise ParseError(f"an amount beyond {MAX_AMOUNT:.0f}")
    return size


def _lines_with(block: bytes, word: bytes) -> Iterator[int]:
    """Where the lines begin that have the word."""
    place = block.find(word)
    while place >= 0:
        yield block.rfind(b"\n", 0, place) + 1
        # On from the line's end: a line that is full of the word is looked at once.
        place = block.find(word, block.find(b"\n", place))
