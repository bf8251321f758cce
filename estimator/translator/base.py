"""What a translator is: a line parser understands one format, a log parser feeds it files and collects the runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..model import RecurrenceId, ResourceSkyline

MAX_LINE = 16 << 20
"""Bytes of the longest line that is looked at; a longer one is a bad line and costs no memory."""

Finished = tuple[RecurrenceId, ResourceSkyline]
"""A job whose skyline is complete, and the run it belongs to."""


class SingleLineParser(ABC):
    """Understands the lines of one format. One object reads one log; what is open between lines is its own state.

    Attributes:
        name: Short name for configuration and ``--format``.
    """

    name: ClassVar[str]

    def __init__(self, interval: int = 5) -> None:
        """``interval``: seconds that one point of a native skyline lasts (``timeInterval``)."""
        self.interval = interval

    @abstractmethod
    def parse_line(self, line: bytes) -> Finished | None:
        """Take one line without its end; return a job if this line completes one.

        Lines that have nothing to say (comments, empty lines, messages of no interest) return None.

        Raises:
            ParseError: the line should say something, but does not; the parser stays usable.
        """

    def unfinished(self) -> int:
        """Number of jobs that have begun but not ended so far; they are reported, never stored."""
        return 0

    def nameless(self) -> int:
        """Number of jobs that ended so far but belong to no pipeline; they are reported, never stored."""
        return 0


Bad = Callable[[int, str], None]
"""Told of a bad line: where in the block it begins, and why it is bad. Raises ``ParseError`` under ``strict``."""


class BlockParser(SingleLineParser):
    """A line parser that is also given many lines at once, which is faster, or that finds several jobs in a line."""

    @abstractmethod
    def parse_block(self, block: bytes, bad: Bad) -> Iterator[Finished]:
        """Take a block of whole lines, each with its end; yield the jobs that they complete, in order.

        Equivalent to :meth:`parse_line` for each of them, except that bad lines are told to ``bad``.
        """


@dataclass
class Report:
    """What became of a log.

    Attributes:
        lines, bad_lines: Lines read, and those that could not be understood.
        jobs: Jobs found.
        unfinished: Jobs that began but did not end in this log.
        nameless: Jobs that ended but belong to no pipeline: their names are not of the form ``Pipeline-Run``.
        problems: The first bad lines as ``file:line: why``; at most :data:`MAX_PROBLEMS`.
        runs: Ids of the runs that were found, in order, about 200 bytes each. ``translate`` fills this and the next.
        duplicates: Run -> how many of its jobs were not stored because the store had jobs of their ids.
    """

    lines: int = 0
    bad_lines: int = 0
    jobs: int = 0
    unfinished: int = 0
    nameless: int = 0
    problems: list[str] = field(default_factory=list)
    runs: dict[RecurrenceId, None] = field(default_factory=dict)
    duplicates: dict[RecurrenceId, int] = field(default_factory=dict)


MAX_PROBLEMS = 20

Progress = Callable[[int], None]
"""Told how many bytes of the files (as they lie on disk) were read since the last call."""


class LogParser(ABC):
    """Feeds files to a line parser. ``BaseLogParser`` is the one there is; own ones may read other sources."""

    @abstractmethod
    def parse(
        self,
        paths: Iterable[Path],
        parser: SingleLineParser,
        report: Report,
        *,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finished]:
        """Yield jobs as they are completed, in bounded memory; fill ``report`` on the way.

        Args:
            paths: Files, ``.gz`` or plain; of a directory its files in the order of their names. The line parser's
                state lives across all of them.
            strict: Raise at the first bad line instead of counting it.

        Raises:
            ParseError: a bad line under ``strict``.
            OSError: a file cannot be read.
        """
