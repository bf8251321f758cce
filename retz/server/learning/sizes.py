"""What a job should ask for, from the runs of its step before it.

Memory by the rule for limits (:mod:`estimator.sizing`), cpus by what was kept busy. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from estimator.sizing import Size, size

from .past import Past, PastRun, StepKey

LEAST_S = 1.0
"""Processor time of a shorter run says little about cpus: starting costs as much as working."""
_SLACK = 0.1
"""A busy cpu measures as 1.02 now and then: that is no reason to ask for two."""
_ALL = 0.9
_ENOUGH = 2
"""Of so many runs that had all they asked for, the most busy tells what is needed: also one that was given less and
kept that busy was no better for more."""
_MOST_REMEMBERED = 20_000
SLACK_MB = 4.0
"""An allocator's whim, such as a huge page or two: the same work may hold so much more, though it never did."""


class StepSize(NamedTuple):
    """What the past of a step says.

    Attributes:
        runs: Runs whose memory was measured.
        memory: The limit in MiB and the reasons for it; its limit is 0 without runs.
        busy: Most cpus that a run kept busy on average; None if that was not measured often enough.
    """

    runs: int
    memory: Size
    busy: float | None


def step_size(runs: Sequence[PastRun]) -> StepSize:
    """What these runs, newest last, say about the next."""
    peaks = peaks_of(runs)
    return StepSize(len(peaks), size(peaks, SLACK_MB), _most_busy([run for run in runs if _busy(run) is not None]))


def _most_busy(runs: Sequence[PastRun]) -> float | None:
    """Most cpus that one of these measured runs kept busy; what it asked for if that cannot be told."""
    as_asked = [run for run in runs if run.given_cpus >= run.cpus_asked]
    most = max((_busy(run) or 0.0 for run in runs), default=None)
    if most is None or len(as_asked) >= _ENOUGH:
        return most
    # Where cpus are a limit and not only a share, it could not have shown more; a size must not shrink for ever.
    full = [run.cpus_asked for run in runs if run not in as_asked and (_busy(run) or 0.0) >= _ALL * run.given_cpus]
    return max([most, *full])


def _busy(run: PastRun) -> float | None:
    """How many cpus a run kept busy."""
    return None if run.cpu_s is None or run.duration_s < LEAST_S else run.cpu_s / run.duration_s


def peaks_of(runs: Sequence[PastRun]) -> list[float]:
    """The peaks that tell something, MiB. One that was cut short tells something only if it is the highest so far."""
    peaks: list[float] = []
    for run in runs:
        if run.peak_mb is not None and not (run.partial and peaks and run.peak_mb <= max(peaks)):
            peaks.append(run.peak_mb)
    return peaks


def cpus_for(busy: float | None, asked: float) -> float:
    """How many cpus: whole ones for who asked for whole ones, else tenths; as asked if nothing is known.

    Who asked for less than one keeps that: less would free next to nothing, and on a full machine runs
    show less than they need.

    The most busy of the runs decides, not their mean: a job that sizes itself by ``RETZ_CPUS`` would have fewer every
    time.
    """
    if busy is None:
        return asked
    if asked == int(asked):
        return float(max(1, math.ceil(busy - _SLACK)))
    return max(min(asked, 1.0), math.ceil(busy * 10) / 10)


class Sizes:
    """The sizes of all steps, computed once per change of a step: a bulk of 100 000 jobs asks as often."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._known: dict[StepKey, StepSize] = {}

    def of(self, key: StepKey) -> StepSize:
        """What the past of a step says."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            found = self._known[key] = step_size(self._past.runs(*key))
        return found

    def changed(self, key: StepKey) -> None:
        """There is news of a step."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Everything may have changed."""
        self._known.clear()
