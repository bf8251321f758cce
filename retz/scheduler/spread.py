"""How long a job may run: a few equally likely durations, and what they say of one that has run for a while already.

From the past of a pipeline's step comes what the *predictor* that would have been right most often so far expects of
the next run, times the factors by which it was wrong so far. So a trend is followed where there is one, and the spread
is that of real errors.

Of jobs that are only alike the level changes from day to day. What is expected lies between the last two and the
middle of all that are known, and the spread is as wide as what was expected when each of them was submitted was wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Source = Literal["pipeline", "similar", "limit", "guess"]
"""What a duration is known from: runs of its pipeline, its user's last similar jobs, its time limit, nothing at all."""

LEAST_S = 0.001
"""No job is taken to be over sooner."""

LONGEST_S = 10 * 365 * 86400.0

RECENT = 16
"""So many runs are looked at, the last ones."""

_TREND = 8
"""A trend is that of so many runs."""

_WIDE = math.log(2.2)
"""One or two runs say little of the third: in two of three cases it is within this factor of their mean."""

_UNSURE = 1.0
"""The same, as a logarithm, of a job of which only similar ones are known (a factor of 2.7), until more is known."""

_UNSURE_COUNTS = 4
"""It counts as much as the errors of so many jobs."""

_TAIL = 4.0
"""One that runs longer than any before it ends within 1.19 times that long in half of all cases."""

_BEYOND = 2.5
"""From so many times the longest on the others say less and less of it; four times as far, it will last as long again
in half of all cases."""

_NORMAL = (-1.34, -0.84, -0.49, -0.21, 0.0, 0.21, 0.49, 0.84, 1.34)
"""Nine equally likely values of a normal distribution, its middle among them."""


class Spread(NamedTuple):
    """Equally likely durations in seconds, ascending, and what they come from.

    Told of the past (see :func:`cooked`): durations, the oldest first, and of similar jobs when each was submitted and
    ended.
    """

    source: Source
    values: tuple[float, ...]
    times: tuple[tuple[float, float], ...] = ()

    def at(self, part: float) -> float:
        """The duration below which a part (0 to 1) of all runs ends."""
        return min(LONGEST_S, max(LEAST_S, quantile(self.values, part)))

    def beyond(self, elapsed: float, part: float) -> float:
        """The same for a run that has lasted for ``elapsed`` seconds and is not over."""
        values = self.values
        longer = sum(value > elapsed for value in values)
        if not longer and self.source == "limit":
            return elapsed + LEAST_S  # it is being ended
        if not longer:
            times = max(elapsed, LEAST_S) / values[-1]
            tail = min(_TAIL, max(1.0, _TAIL * _BEYOND / times))
            factor: float = (1.0 - min(part, 0.999)) ** (-1.0 / tail)
            return max(elapsed, min(LONGEST_S, max(elapsed, LEAST_S) * factor))
        whole = self.at(1.0 - (1.0 - part) * (longer / len(values)))
        return max(whole, elapsed + LEAST_S)


def quantile(values: Sequence[float], part: float) -> float:
    """The value that the next one is below with this probability, if it comes from where these (ascending) came from.

    The k-th of n is above the next one with probability k/(n+1); beyond the last ones their distance goes on, at most
    once more.
    """
    count = len(values)
    if count == 1:
        return values[0]
    position = part * (count + 1) - 1
    low = min(max(int(position), 0), count - 2)
    if values[low] == values[low + 1]:
        return values[low]
    found = values[low] + (values[low + 1] - values[low]) * min(max(position - low, -1.0), 2.0)
    return max(found, values[0] / 2)


GUESS = Spread("guess", tuple(600.0 * math.exp(1.5 * each) for each in _NORMAL))
"""Nothing is known: ten minutes, give or take a factor of five."""


def cooked(past: Spread) -> Spread:
    """What durations of the past (oldest first, told as a spread), or a time limit, say of the next run."""
    if not past.values:
        return GUESS
    if past.source == "pipeline":
        return recurring(past.values)
    return similar(past.values, past.times) if past.source == "similar" else limited(past.values[-1])


def limited(limit_s: float) -> Spread:
    """Only a time limit is known."""
    return Spread("limit", (max(LEAST_S, limit_s),))


def similar(durations: Sequence[float], times: Sequence[tuple[float, float]] = ()) -> Spread:
    """From similar jobs of its user, the newest last: as likely to be too high as too low.

    Args:
        times: When each of them was submitted and ended, if that is known: says how wrong one would have been so far.
    """
    past = [max(LEAST_S, each) for each in durations]
    wrong = []
    for lasted, (submitted, _) in zip(past, times, strict=False):
        known = [before for before, (_, ended) in zip(past, times, strict=False) if ended <= submitted]
        if known:
            wrong.append(math.log(lasted / _likely(known)))
    width = math.sqrt(
        (sum(error * error for error in wrong) + _UNSURE_COUNTS * _UNSURE**2) / (len(wrong) + _UNSURE_COUNTS)
    )
    return Spread("similar", _around(_likely(past), width))


def _around(middle: float, width: float) -> tuple[float, ...]:
    return tuple(middle * math.exp(width * each) for each in _NORMAL)


def _likely(past: Sequence[float]) -> float:
    """Between the last two and the middle of all."""
    return math.sqrt(math.sqrt(past[-1] * past[-2:][0]) * _middle(past))


def recurring(durations: Sequence[float]) -> Spread:
    """From the past of a pipeline's step, the newest last; one or two runs say little."""
    past = [max(LEAST_S, each) for each in durations[-RECENT:]]
    if len(past) < 3:
        apart = abs(math.log(past[-1] / past[0]))
        return Spread("pipeline", _around(math.sqrt(past[0] * past[-1]), max(_WIDE, min(apart / 2, 2.0))))
    expect = min(_PREDICTORS, key=lambda each: _wrong(each, past))
    errors = sorted(past[n] / expect(past[:n]) for n in range(2, len(past)))
    wide = _widened(errors)
    nearest = expect(past)
    return Spread("pipeline", tuple(nearest * error for error in wide))


def _widened(errors: list[float]) -> list[float]:
    """Few errors say little about how large they get: some are added that are as likely as not."""
    if len(errors) >= 8:
        return errors
    middle = (
        errors[len(errors) // 2]
        if len(errors) % 2
        else math.sqrt(errors[len(errors) // 2 - 1] * errors[len(errors) // 2])
    )
    spread = max(0.05, *(abs(math.log(error / middle)) for error in errors))
    return sorted([*errors, middle * math.exp(spread), middle * math.exp(-spread)])


def _last_two(past: Sequence[float]) -> float:
    return (past[-1] + past[-2]) / 2


def _middle(past: Sequence[float]) -> float:
    ordered = sorted(past)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _trend(past: Sequence[float]) -> float:
    """The median of the slopes between all pairs, from the median of the levels (Theil and Sen), of logarithms."""
    last = [math.log(each) for each in past[-_TREND:]]
    count = len(last)
    if count < 4:
        return past[-1]
    slope = _middle([(last[j] - last[i]) / (j - i) for i in range(count) for j in range(i + 1, count)])
    level = _middle([value - slope * index for index, value in enumerate(last)])
    return math.exp(min(level + slope * count, math.log(LONGEST_S)))


_PREDICTORS: tuple[Callable[[Sequence[float]], float], ...] = (_middle, _last_two, _trend)


def _wrong(expect: Callable[[Sequence[float]], float], past: Sequence[float]) -> float:
    """By how much it would have been wrong so far: the mean of the better three quarters, so outliers do not tell."""
    errors = sorted(abs(math.log(past[n] / expect(past[:n]))) for n in range(2, len(past)))
    kept = errors[: max(1, len(errors) * 3 // 4)]
    return sum(kept) / len(kept)
