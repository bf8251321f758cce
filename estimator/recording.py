"""From what a queue knows of a run, its attempts and their measured use, to the skyline that is kept of it.

The whole run, a workflow of any number of jobs, becomes one record. Zero is the start of its first job.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .model import ResourceSkyline
from .skyline import FIRST, MAX_AMOUNT, MAX_TIME, Amounts, FloatArray, IntArray, Skyline, ordered

_SECOND = 1000
_MICRO = 1_000_000
"""Amounts have a resolution of a millionth."""


@dataclass(frozen=True)
class Span:
    """One attempt of one job: it held ``amounts`` (memory MB, vcores, ..) from start to end, in epoch milliseconds."""

    start_ms: int
    end_ms: int
    amounts: Amounts


@dataclass(frozen=True)
class Usage:
    """What one attempt was measured to use.

    Attributes:
        start_ms: Epoch milliseconds of the first point.
        interval_ms: Time from one point to the next; a point holds for that long.
        points: (vcores in use, memory MB) in order.
        end_ms: When the attempt ended: its last point holds no longer than that. None if it holds for its full time.
    """

    start_ms: int
    interval_ms: float
    points: Sequence[tuple[float, float]]
    end_ms: int | None = None


def run_skyline(job_id: str, spans: Sequence[Span], usages: Sequence[Usage] = ()) -> ResourceSkyline:
    """What one run held, and what it used.

    What overlaps is added up to the millisecond; then each whole second holds the peak of what it spans, so that
    short jobs one after the other count once and not side by side. The container is the largest size of which all
    amounts are multiples. Measurements count from the run's start to its end; jobs that were not measured count as
    using nothing.

    Args:
        job_id: Names the record within its run.
        spans: All attempts of all jobs of the run, in any order.
        usages: Their measurements; without any the use is unknown.

    Raises:
        ValueError: there is no span, one ends before it starts, an interval is not positive, or a number is
            negative, not finite or beyond 2^53.
    """
    if not spans:
        raise ValueError("a run without attempts held nothing: there is nothing to record")
    zero = min(span.start_ms for span in spans)
    end = max(span.end_ms for span in spans)
    if zero < 0 or end > MAX_TIME:
        raise ValueError(f"the run lasts from {zero} to {end}: give milliseconds since 1970")
    return ResourceSkyline(
        job_id=job_id,
        skyline=_held(spans, zero).coarsened(_SECOND),
        submitted=zero,
        finished=end,
        container=_container(span.amounts for span in spans),
        used=_used(usages, zero).between(0, end - zero).coarsened(_SECOND) if usages else None,
    )


def _held(spans: Sequence[Span], zero: int) -> Skyline:
    names = ordered(name for span in spans for name in span.amounts)
    amounts = np.array([[span.amounts.get(name, 0.0) for name in names] for span in spans], dtype=np.float64)
    _refuse_odd(amounts)
    starts, ends = [span.start_ms - zero for span in spans], [span.end_ms - zero for span in spans]
    return Skyline.from_intervals(starts, ends, amounts, names)


def _used(usages: Sequence[Usage], zero: int) -> Skyline:
    starts: list[IntArray] = []
    ends: list[IntArray] = []
    amounts: list[FloatArray] = []
    for usage in usages:
        edges = _edges(usage, zero)
        starts.append(edges[:-1])
        ends.append(edges[1:])
        amounts.append(np.asarray(usage.points, dtype=np.float64).reshape(-1, 2)[:, ::-1])  # memory first
    points = np.concatenate(amounts)
    _refuse_odd(points)
    return Skyline.from_intervals(np.concatenate(starts), np.concatenate(ends), points, FIRST)


def _edges(usage: Usage, zero: int) -> IntArray:
    """``int64[n + 1]``: where each of the n points begins, and where the last ends, in milliseconds from zero."""
    if not usage.interval_ms > 0:
        raise ValueError(f"the points of a measurement are {usage.interval_ms} ms apart; it must be more than 0")
    edges = np.rint(usage.interval_ms * np.arange(len(usage.points) + 1, dtype=np.float64)) + (usage.start_ms - zero)
    if not (np.abs(edges) <= MAX_TIME).all():
        raise ValueError(f"a measurement of {len(usage.points)} points, {usage.interval_ms} ms apart, is too long")
    moments = edges.astype(np.int64)
    # Beyond the end it would stand beside the use of the job that came next.
    return moments if usage.end_ms is None else np.minimum(moments, usage.end_ms - zero)


def _container(sizes: Iterable[Amounts]) -> dict[str, float]:
    """The largest amounts of which all of them are multiples; resources that nobody holds are left out."""
    divisors = dict.fromkeys(FIRST, 0)
    for amounts in {tuple(size.items()): size for size in sizes}.values():
        for name, amount in amounts.items():
            divisors[name] = math.gcd(divisors.get(name, 0), round(amount * _MICRO))
    names = (name for name in ordered(divisors) if divisors[name])
    return {name: divisors[name] / _MICRO for name in names}


def _refuse_odd(amounts: FloatArray) -> None:
    fitting = (amounts >= 0) & (amounts <= MAX_AMOUNT)  # false for NaN
    if not fitting.all():
        raise ValueError(f"an amount of {amounts[~fitting][0]}: give numbers from 0 to 2^53")
