"""Skylines: the resources that something held over time, as step functions kept run-length encoded.

A skyline maps a time to a vector of named amounts. It is zero before its first and from its last breakpoint on, and
constant between two. The unit of time is the caller's (the estimator uses whole seconds from the start of a run, the
queue milliseconds on the way there); steps are right-open. Amounts may be fractional, with a resolution of a millionth;
they are never negative in a recorded skyline, but a difference of two may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Amounts = Mapping[str, float]
"""Amount of each resource by its name."""

FIRST = ("memory", "vcores")
"""The resources that come first, and that JSON always shows: memory in MB, vcores."""

MAX_TIME = 2**53
MAX_AMOUNT = float(2**53)
"""Larger numbers are not exact in JSON readers nor in floating point; nothing real comes near."""

MAX_RESOURCES = 64
"""More names in one document are an attempt to fill the memory: each is a column over all steps."""

MAX_SAMPLES = 20_000_000
"""More intervals in one sampling (three years of 5 seconds) are a mistake in a log, and would fill the memory."""

_DECIMALS = 6
Operation = Literal["add", "subtract", "min", "max"]
_OPERATIONS: dict[Operation, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "min": np.minimum,
    "max": np.maximum,
}


class Skyline:
    """An immutable step function of resource vectors.

    Attributes:
        times: ``int64[k]``, strictly ascending breakpoints; ``k`` is 0 for the empty skyline and never 1.
        values: ``float64[k, r]``: row ``i`` holds on ``[times[i], times[i + 1])``; the last row is zero. Neighbouring
            rows differ and the first row is not zero, so that equal functions over equal names have equal arrays.
        resources: Names of the ``r`` columns: ``memory`` and ``vcores`` first, then others in alphabetical order.
    """

    __slots__ = ("resources", "times", "values")

    def __init__(self, times: npt.ArrayLike, values: npt.ArrayLike, resources: Sequence[str] = FIRST) -> None:
        """Make a skyline of arrays as described above; they are brought to canonical form.

        Raises:
            ValueError: shapes or names do not fit, times do not ascend, or a number is not finite or too large.
        """
        moments = _moments(times)
        amounts = np.asarray(values, dtype=np.float64).reshape(len(moments), -1 if len(moments) else len(resources))
        _check(moments, amounts, resources)
        order = ordered(resources)
        if order != tuple(resources):
            columns = np.zeros((len(moments), len(order)))
            for index, name in enumerate(resources):
                columns[:, order.index(name)] = amounts[:, index]
            amounts = columns
        self.times, self.values = _canonical(moments, amounts)
        self.resources = order
        self.times.setflags(write=False)
        self.values.setflags(write=False)

    # -- making ----------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, resources: Sequence[str] = FIRST) -> Skyline:
        """The skyline that is zero everywhere."""
        return cls((), (), resources)

    @classmethod
    def interval(cls, start: int, end: int, amounts: Amounts) -> Skyline:
        """``amounts`` on ``[start, end)``; empty if ``end == start``.

        Raises:
            ValueError: ``end < start``.
        """
        names = ordered(amounts)
        return cls.from_intervals([start], [end], [[amounts.get(name, 0.0) for name in names]], names)

    @classmethod
    def from_intervals(
        cls, starts: npt.ArrayLike, ends: npt.ArrayLike, amounts: npt.ArrayLike, resources: Sequence[str] = FIRST
    ) -> Skyline:
        """The sum of ``n`` intervals: ``amounts[i]`` on ``[starts[i], ends[i])``, in O(n log n).

        Args:
            amounts: ``[n, r]``, or ``[r]`` for the same amounts everywhere.

        Raises:
            ValueError: an interval ends before it starts, or the shapes do not fit.
        """
        first, last = _moments(starts), _moments(ends)
        if first.shape != last.shape:
            raise ValueError(f"{len(first)} starts but {len(last)} ends")
        if (last < first).any():
            index = int(np.argmax(last < first))
            raise ValueError(f"an interval ends at {last[index]}, before its start at {first[index]}")
        change = np.broadcast_to(np.asarray(amounts, dtype=np.float64), (len(first), len(resources)))
        times, place = np.unique(np.concatenate([first, last]), return_inverse=True)
        steps = np.zeros((len(times), len(resources)))
        np.add.at(steps, place, np.concatenate([change, -change]))
        levels = _exact(np.cumsum(steps, axis=0))
        levels[-1:] = 0.0  # by construction; adding 1e15 and 0.1 leaves a rest
        return cls(times, levels, resources)

    @classmethod
    def of(cls, steps: Mapping[int, Amounts]) -> Skyline:
        """The skyline that takes on ``steps[t]`` from time ``t`` until the next key; the last must be zero.

        Raises:
            ValueError: the last step is not zero, so that nobody knows when it ends.
        """
        names = ordered(name for amounts in steps.values() for name in amounts)
        times = sorted(steps)
        return cls(times, [[steps[time].get(name, 0.0) for name in names] for time in times], names)

    @classmethod
    def sampled(
        cls, samples: npt.ArrayLike, interval: int, resources: Sequence[str] = FIRST, start: int = 0
    ) -> Skyline:
        """The skyline that holds ``samples[k]`` (``[n, r]``) on ``[start + k·interval, start + (k + 1)·interval)``."""
        rows = np.asarray(samples, dtype=np.float64).reshape(-1, len(resources))
        times = start + interval * np.arange(len(rows) + 1, dtype=np.int64)
        return cls(times, np.vstack([rows, np.zeros((1, len(resources)))]), resources)

    @classmethod
    def trusted(cls, times: IntArray, values: FloatArray, resources: tuple[str, ...] = FIRST) -> Skyline:
        """Of arrays that are canonical and read-only already. Nothing is checked: for makers of many at once."""
        skyline = cls.__new__(cls)
        skyline.times, skyline.values, skyline.resources = times, values, resources
        return skyline

    # -- asking ------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether it is zero everywhere."""
        return len(self.times) == 0

    @property
    def start(self) -> int:
        """When it first is not zero; 0 for the empty skyline."""
        return 0 if self.is_empty else int(self.times[0])

    @property
    def end(self) -> int:
        """From when on it stays zero; 0 for the empty skyline."""
        return 0 if self.is_empty else int(self.times[-1])

    @property
    def duration(self) -> int:
        """``end - start``."""
        return self.end - self.start

    def at(self, time: int) -> dict[str, float]:
        """The amounts at a time."""
        index = int(np.searchsorted(self.times, time, side="right")) - 1
        row = self.values[index] if index >= 0 else np.zeros(len(self.resources))
        return self._named(row)

    def column(self, resource: str) -> FloatArray:
        """``float64[k]``: the values of one resource at the breakpoints; zeros for a name it does not have."""
        if resource not in self.resources:
            return np.zeros(len(self.times))
        return self.values[:, self.resources.index(resource)]

    def peak(self) -> dict[str, float]:
        """The largest amount of each resource, at least zero."""
        highest = self.values.max(axis=0) if len(self.values) else np.zeros(len(self.resources))
        return self._named(np.maximum(highest, 0.0))

    def integral(self) -> dict[str, float]:
        """Amount times time of each resource: MB-seconds, vcore-seconds."""
        lengths = np.diff(self.times).astype(np.float64)
        return self._named(lengths @ self.values[:-1] if len(lengths) else np.zeros(len(self.resources)))

    def sample(
        self,
        interval: int,
        *,
        how: Literal["peak", "mean"] = "peak",
        origin: int | None = None,
        count: int | None = None,
    ) -> FloatArray:
        """``float64[n, r]``: peak or mean over each ``[origin + k·interval, origin + (k + 1)·interval)``.

        Args:
            origin: Start of the first interval; the skyline's own start if None.
            count: Number of intervals; as many as reach its end if None.

        Raises:
            ValueError: the interval is not positive, or there would be more than :data:`MAX_SAMPLES` of them.
        """
        if interval <= 0:
            raise ValueError(f"the interval must be positive, not {interval}")
        begin = self.start if origin is None else origin
        number = max(0, -(-(self.end - begin) // interval)) if count is None else count
        if number > MAX_SAMPLES:
            raise ValueError(f"{number} intervals of {interval} from {begin}: choose a longer interval")
        if self.is_empty or number == 0:
            return np.zeros((number, len(self.resources)))
        edges = begin + interval * np.arange(number + 1, dtype=np.int64)
        times = np.union1d(edges, self.times[(self.times > begin) & (self.times < edges[-1])])
        rows = _values_at(self, times[:-1])
        pieces = np.searchsorted(times, edges[:-1])
        if how == "peak":
            return np.asarray(np.maximum.reduceat(rows, pieces, axis=0), dtype=np.float64)
        weighted = rows * np.diff(times).astype(np.float64)[:, None]
        return np.asarray(np.add.reduceat(weighted, pieces, axis=0) / interval, dtype=np.float64)

    # -- making others -----------------------------------------------------------------------------------------

    def add(self, start: int, end: int, amounts: Amounts) -> Skyline:
        """With ``amounts`` more on ``[start, end)``."""
        return self + Skyline.interval(start, end, amounts)

    def remove(self, start: int, end: int, amounts: Amounts) -> Skyline:
        """With ``amounts`` less on ``[start, end)``; may go below zero."""
        return self - Skyline.interval(start, end, amounts)

    def __add__(self, other: Skyline) -> Skyline:
        return self.merge(other, "add")

    def __sub__(self, other: Skyline) -> Skyline:
        return self.merge(other, "subtract")

    def merge(self, other: Skyline, operation: Operation, start: int | None = None, end: int | None = None) -> Skyline:
        """Both combined moment by moment; only on ``[start, end)`` if those are given, and zero elsewhere."""
        names = ordered((*self.resources, *other.resources))
        times = np.union1d(self.times, other.times)
        mine, others = (_values_at(each.with_resources(names), times) for each in (self, other))
        merged = Skyline(times, _exact(_OPERATIONS[operation](mine, others)), names)
        return merged if start is None and end is None else merged.between(start, end)

    def between(self, start: int | None, end: int | None) -> Skyline:
        """The same on ``[start, end)``, zero elsewhere; None is no limit."""
        first = self.start if start is None else start
        last = self.end if end is None else end
        if self.is_empty or last <= first:
            return Skyline.empty(self.resources)
        inside = self.times[(self.times > first) & (self.times < last)]
        times = np.concatenate([[first], inside, [last]])
        values = np.vstack([_values_at(self, times[:-1]), np.zeros((1, len(self.resources)))])
        return Skyline(times, values, self.resources)

    def shift(self, by: int) -> Skyline:
        """The same, ``by`` later."""
        return Skyline(self.times + by, self.values, self.resources) if by else self

    def coarsened(self, unit: int) -> Skyline:
        """With time in units of ``unit``, of which each holds the peak: at ``k`` that of ``[k·unit, (k + 1)·unit)``."""
        if self.is_empty:
            return self
        units = np.unique(np.concatenate([self.times // unit, self.times // unit + 1]))
        times = np.union1d(units * unit, self.times)
        peaks = np.maximum.reduceat(_values_at(self, times), np.searchsorted(times, units * unit), axis=0)
        return Skyline(units, peaks, self.resources)

    def with_resources(self, names: Sequence[str]) -> Skyline:
        """The same over at least these resources; those it does not have are zero."""
        wanted = ordered((*self.resources, *names))
        if wanted == self.resources:
            return self
        columns = np.column_stack([self.column(name) for name in wanted])
        return Skyline(self.times, columns, wanted)

    def steps(self) -> list[tuple[int, dict[str, float]]]:
        """(breakpoint, amounts from there on), in order."""
        return [(int(time), self._named(row)) for time, row in zip(self.times, self.values, strict=True)]

    def _named(self, row: FloatArray) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.resources, row, strict=True)}

    # -- comparing, showing ------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Whether both are the same function; a resource that is zero everywhere makes no difference."""
        if not isinstance(other, Skyline):
            return NotImplemented
        names = ordered((*self.resources, *other.resources))
        mine, others = self.with_resources(names), other.with_resources(names)
        return np.array_equal(mine.times, others.times) and np.array_equal(mine.values, others.values)

    __hash__ = None  # type: ignore[assignment]  # equal ones may have different arrays

    def __repr__(self) -> str:
        return f"Skyline.of({dict(self.steps())!r})"

    # -- JSON ---------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """``{"resourceAllocation": {"<time>": {"memory": .., "vcores": ..}, ..}}``; whole amounts are integers.

        Resources beyond those two are shown if they are not zero everywhere.
        """
        shown = [name for name in self.resources if name in FIRST or self.column(name).any()]
        return {
            "resourceAllocation": {
                str(time): {name: _number(amounts[name]) for name in shown} for time, amounts in self.steps()
            }
        }

    @classmethod
    def from_json(cls, document: object) -> Skyline:
        """The inverse of :meth:`to_json`. ``memory`` and ``vcores`` may be absent (zero).

        Raises:
            ValueError: it is not of that form, or holds a number that is negative, not finite or too large.
        """
        steps = document.get("resourceAllocation") if isinstance(document, dict) else None
        if not isinstance(steps, dict):
            raise ValueError('a skyline is an object like {"resourceAllocation": {"0": {"memory": 1024, "vcores": 1}}}')
        read = {_time(key): _amounts(key, value) for key, value in steps.items()}
        names = {name for amounts in read.values() for name in amounts}
        if len(read) != len(steps):
            raise ValueError("a time stands there twice")
        if len(names) > MAX_RESOURCES:
            raise ValueError(f"{len(names)} resources; at most {MAX_RESOURCES} are possible")
        return cls.of(read)


def total(skylines: Iterable[Skyline]) -> Skyline:
    """The sum of many, in one pass over all their breakpoints."""
    several = [skyline for skyline in skylines if not skyline.is_empty]
    if len(several) < 2:
        return several[0] if several else Skyline.empty()
    names = ordered(name for skyline in several for name in skyline.resources)
    starts, ends, amounts = [], [], []
    for skyline in several:
        aligned = skyline.with_resources(names)
        starts.append(aligned.times[:-1])
        ends.append(aligned.times[1:])
        amounts.append(aligned.values[:-1])
    return Skyline.from_intervals(np.concatenate(starts), np.concatenate(ends), np.vstack(amounts), names)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, ``memory`` and ``vcores`` first (there or not), the others in alphabetical order."""
    return (*FIRST, *sorted(set(names).difference(FIRST)))


def _moments(times: npt.ArrayLike) -> IntArray:
    try:
        return np.asarray(times, dtype=np.int64).reshape(-1)
    except OverflowError as error:
        raise ValueError(f"a time beyond {MAX_TIME}") from error


def _check(times: IntArray, values: FloatArray, resources: Sequence[str]) -> None:
    if values.shape[1] != len(resources) or len(set(resources)) != len(resources):
        raise ValueError(f"{values.shape[1]} columns of values for the resources {', '.join(resources)}")
    if len(times) == 0:
        return
    if (np.diff(times) <= 0).any():
        raise ValueError("the breakpoints of a skyline must ascend")
    if max(-int(times[0]), int(times[-1])) > MAX_TIME:
        raise ValueError(f"a time beyond {MAX_TIME}")
    if not (np.abs(values) <= MAX_AMOUNT).all():
        raise ValueError(f"an amount that is not a number, or beyond {MAX_AMOUNT:.0f}")
    if values[-1].any():
        raise ValueError("the last step of a skyline must be zero: it says when everything was given back")


def _canonical(times: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    before = np.vstack([np.zeros((1, values.shape[1])), values[:-1]]) if len(times) else values
    keep = (values != before).any(axis=1)
    return times[keep].copy(), values[keep] + 0.0  # + 0.0: a copy without negative zeros


def _values_at(skyline: Skyline, times: IntArray) -> FloatArray:
    places = np.searchsorted(skyline.times, times, side="right") - 1
    padded = np.vstack([skyline.values, np.zeros((1, len(skyline.resources)))])  # place -1 is the row of zeros
    return np.asarray(padded[places], dtype=np.float64)


def _exact(values: FloatArray) -> FloatArray:
    """Without what adding and subtracting fractions leaves behind: 0.1 + 0.2 - 0.3 is 0."""
    whole = np.rint(values)
    return np.where(values == whole, whole, np.round(values, _DECIMALS))


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _time(text: object) -> int:
    if not isinstance(text, str) or len(text) > 17 or not text.removeprefix("-").isdecimal() or not text.isascii():
        raise ValueError(f"{str(text)[:40]!r} is not a time: give whole seconds")
    return int(text)


def _amounts(time: str, document: object) -> dict[str, float]:
    if not isinstance(document, dict):
        raise ValueError(f'at time {time}: give amounts as an object like {{"memory": 1024, "vcores": 1}}')
    for name, value in document.items():
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not 0 <= value <= MAX_AMOUNT:  # false for NaN
            raise ValueError(f"at time {time}: {str(name)[:40]} is {str(value)[:40]}; give a number from 0 to 2^53")
    return {name: float(value) for name, value in document.items()}
