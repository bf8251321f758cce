"""Hadoop's native format: a line is a run, and says how many containers it held from when on.

Fields, separated by blanks: pipeline, number of instances, times of submission, start and end, run, skyline of
memory, skyline of containers. As in Hadoop only the pipeline, the run and the last are used. The last is
``N:t|N:t|..``: N containers from second t on, for ``timeInterval`` seconds; units that overlap add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from ..errors import ParseError
from ..model import RecurrenceId, ResourceSkyline
from ..skyline import FIRST, MAX_AMOUNT, MAX_TIME, IntArray, Skyline
from .base import Bad, BlockParser, Finished
from .lines import MAX_NAME, each_line, excerpt, name_of

CONTAINER = {"memory": 1024.0, "vcores": 1.0}
"""Size of every container: the format does not say."""

_FIELDS = 8
_SIZE = np.array([CONTAINER[name] for name in FIRST])
_MAX_CONTAINERS = int(MAX_AMOUNT / max(CONTAINER.values()))

_FEW_LINES = 16
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_MARK = "\0"
_COLON, _BAR, _END = b":|\n"
_MAX_TIME_DIGITS, _MAX_COUNT_DIGITS = 15, 12
"""Longer numbers take the slow path. With 12 digits the sum over a block of 2^24 bytes stays below 2^63."""


class NativeLineParser(BlockParser):
    """Understands the native format; has no state."""

    name: ClassVar[str] = "native"

    def parse_line(self, line: bytes) -> Finished | None:
        """See :meth:`SingleLineParser.parse_line`. Every line that is not blank is a run of one job."""
        fields = line.split()
        if not fields:
            return None
        if len(fields) < _FIELDS:
            raise ParseError(f"{len(fields)} fields, but a native line has {_FIELDS}; is this another format?")
        run = RecurrenceId(name_of(fields[0], "pipeline"), name_of(fields[5], "run"))
        text = fields[7].rstrip(b"|")
        units = [_unit(unit) for unit in text.split(b"|")] if text else []
        starts = [start for _, start in units]
        ends = [start + self.interval for start in starts]
        amounts = np.array([count for count, _ in units], dtype=np.float64)[:, None] * _SIZE
        try:
            skyline = Skyline.from_intervals(starts, ends, amounts)
        except ValueError as error:
            raise ParseError(str(error)) from error
        return run, _job(run.run, skyline, max(ends, default=0))

    def parse_block(self, block: bytes, bad: Bad) -> Iterator[Finished]:
        """See :meth:`BlockParser.parse_block`. Ordinary lines are parsed together, in numpy."""
        yield from self._parse(block, bad, 0)

    def _parse(self, block: bytes, bad: Bad, offset: int) -> Iterator[Finished]:
        jobs = _jobs(block, self.interval)
        lines = block.count(b"\n")
        if jobs is not None:
            yield from jobs
        elif lines <= _FEW_LINES:
            yield from each_line(block, self.parse_line, bad, offset)
        else:  # halve until the odd line is among few
            middle = block.rfind(b"\n", 0, len(block) // 2) + 1 or block.find(b"\n") + 1
            yield from self._parse(block[:middle], bad, offset)
            yield from self._parse(block[middle:], bad, offset + middle)


def _unit(text: bytes) -> tuple[int, int]:
    count, colon, start = text.partition(b":")
    if not (colon and count.isdigit() and start.isdigit()):
        raise ParseError(f"{excerpt(text)!r} is no unit: give whole numbers from 0 on as containers:second")
    # Checked before it is converted: Python refuses to convert very long numbers.
    if len(start.lstrip(b"0")) > len(str(MAX_TIME)) or len(count.lstrip(b"0")) > len(str(MAX_TIME)):
        raise ParseError(f"the unit {excerpt(text)!r} has a number beyond {MAX_TIME}")
    return int(count), int(start)


def _jobs(block: bytes, interval: int) -> Iterator[Finished] | None:
    """The jobs of ordinary lines: exactly eight printable ASCII fields, numbers of ordinary size. Else None."""
    tokens = _tokens(block)
    if tokens is None:
        return None
    pipelines, names = tokens[0 :: _FIELDS + 1], tokens[5 :: _FIELDS + 1]
    units = _units("\n".join(tokens[7 :: _FIELDS + 1]) + "\n")
    if units is None or max(map(len, pipelines)) > MAX_NAME or max(map(len, names)) > MAX_NAME:
        return None
    steps = _steps(*units, interval)
    if len(steps.levels) and steps.levels.max() > _MAX_CONTAINERS:
        return None
    return _records(pipelines, names, steps)


def _tokens(block: bytes) -> list[str] | None:
    """The fields of all lines in one list, a mark behind the eight of each line."""
    if block.translate(None, _PLAIN):
        return None
    lines = block.count(b"\n")
    tokens = block.replace(b"\n", b" \0\n").decode("ascii").split()
    regular = len(tokens) == lines * (_FIELDS + 1) and tokens[_FIELDS :: _FIELDS + 1].count(_MARK) == lines
    return tokens if regular else None


def _units(text: str) -> tuple[IntArray, IntArray, IntArray] | None:
    """(containers, start, number of the line) of every unit of the lines ``N:t|N:t|..``; None if any is odd."""
    data = np.frombuffer(text.replace("|\n", "\n").encode("ascii"), dtype=np.uint8)
    digits = data - np.uint8(ord("0"))  # anything else becomes more than nine
    ends = np.flatnonzero(digits > 9)
    kinds = data[ends]
    lengths = np.diff(ends, prepend=-1) - 1
    last = kinds[1::2] == _END
    regular = len(ends) % 2 == 0 and lengths.min() > 0 and (kinds[::2] == _COLON).all() and last[-1]
    if not regular or not (last | (kinds[1::2] == _BAR)).all():
        return None
    if lengths[::2].max() > _MAX_COUNT_DIGITS or lengths[1::2].max() > _MAX_TIME_DIGITS:
        return None
    numbers = np.zeros(len(ends), dtype=np.int64)
    for place in range(int(lengths.max())):
        numbers += np.where(lengths > place, digits[ends - 1 - place], 0) * np.int64(10**place)
    return numbers[::2], numbers[1::2], np.cumsum(last) - last


class _Steps(NamedTuple):
    """The canonical steps of many lines one after the other; line ``i`` has ``bounds[i]`` to ``bounds[i + 1]``."""

    times: IntArray
    levels: IntArray
    bounds: IntArray
    finished: IntArray


def _steps(counts: IntArray, starts: IntArray, lines: IntArray, interval: int) -> _Steps:
    times = np.column_stack([starts, starts + interval]).reshape(-1)
    changes = np.column_stack([counts, -counts]).reshape(-1)
    owners = np.repeat(lines, 2)
    same = owners[1:] == owners[:-1]
    if (same & (times[1:] < times[:-1])).any():
        order = np.lexsort((times, owners))
        times, changes = times[order], changes[order]  # owners were in order
    first = np.flatnonzero(np.concatenate([[True], ~same | (times[1:] != times[:-1])]))
    change = np.add.reduceat(changes, first)
    kept = change != 0
    # The changes of a line sum to zero, so that one cumulative sum serves all lines.
    levels = np.cumsum(change)[kept]
    begins = np.flatnonzero(np.concatenate([[True], ~same]))
    bounds = np.searchsorted(owners[first][kept], np.arange(len(begins) + 1))
    return _Steps(times[first][kept], levels, bounds, np.maximum.reduceat(times, begins))


def _records(pipelines: list[str], names: list[str], steps: _Steps) -> Iterator[Finished]:
    times, values = steps.times, steps.levels[:, None] * _SIZE
    times.setflags(write=False)
    values.setflags(write=False)
    bounds = steps.bounds.tolist()
    rows = zip(pipelines, names, bounds, bounds[1:], steps.finished.tolist(), strict=False)  # bounds has one more
    for pipeline, name, begin, end, finished in rows:
        skyline = Skyline.trusted(times[begin:end], values[begin:end])
        yield RecurrenceId(pipeline, name), _job(name, skyline, finished)


def _job(name: str, skyline: Skyline, finished: int) -> ResourceSkyline:
    return ResourceSkyline(name, skyline, 0, finished, CONTAINER)
