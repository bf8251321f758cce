"""Heights that no run may exceed: memory limits.

The linear programme lets an early deficit be made up later. Work forgives that, a memory limit does not: a process
over its limit is killed on the spot. So a limit comes from the peaks of whole runs, and from how well such limits did
before.

For each resource on its own, with the runs in the order of the history, the limit for the next run is ::

    base * (1 + margin)        rounded up to whole units

``base`` is the 95 % quantile of the peaks so far: a peak that was seen, with up to 20 runs the largest of all.
``margin`` is 0 at first; then each run is held against the limit that the runs before it would have given:

- over the limit: the margin grows to what this run would have needed, so that the same miss would not happen again;
- over ``base`` but within the limit: the margin was needed and was enough, it stays;
- within ``base``: the margin was not needed and shrinks by a tenth, so that one outlier is not paid for ever.

A limit never is more than twice the largest peak: a run ten times as large as all before it raises the base tenfold
already, and is no reason to expect a hundredfold one.

A history that grows by some percent with every run (more input every day) would be missed by any quantile of its past
again and again; here it is missed once, and once more when the quantile falls behind the largest. A margin that shrank
with every run it covers would miss every second one.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..model import History, Prediction
from ..skyline import Skyline, ordered
from .base import Solver, SolverSettings
from .confidence import confidence
from .quantiles import rank
from .runs import usable_runs

QUANTILE = 95
DECAY = 0.9
MOST = 2.0
_RESOLUTION = 0.01
"""Fractional amounts are rounded up to hundredths; memory, and what was always whole, to whole numbers."""
_NOISE = 1e-6  # what multiplying and dividing leaves behind is not worth a unit


class PeakSolver(Solver):
    """A constant plan as high as :func:`limit` says, as long as 95 % of the runs; alpha and beta mean nothing here."""

    name = "peak"

    def solve(
        self, pipeline: str, history: History, settings: SolverSettings, *, warm: Mapping[str, Any] | None = None
    ) -> Prediction:
        """See :class:`Solver`; ``warm`` changes nothing, there is nothing to warm up."""
        runs, ignored = usable_runs(history, settings)
        names = ordered(name for run in runs.values() for name in run.resources)
        peaks = [run.peak() for run in runs.values()]
        heights = {name: _whole(limit(column), name, column) for name, column in _columns(peaks, names).items()}
        ends = sorted(run.end for run in runs.values())
        end = -(-ends[rank(len(ends), QUANTILE)] // settings.interval) * settings.interval
        prediction = Prediction(
            pipeline=pipeline,
            skyline=Skyline.interval(0, end, heights),
            solver=self.name,
            kind=settings.kind,
            settings=settings.fingerprint(self.name),
            runs=tuple(runs),
            ignored=ignored,
        )
        if not settings.confidence:
            return prediction
        return replace(prediction, confidence=confidence(self, history, settings, prediction))


def limit(peaks: Sequence[float]) -> float:
    """The limit for the run after these (at least one), by the rule above; not rounded yet."""
    seen: list[float] = []
    margin = base = 0.0
    for peak in peaks:
        margin = _adapted(margin, peak, base)
        bisect.insort(seen, peak)
        base = seen[rank(len(seen), QUANTILE)]
        if base > 0:
            margin = min(margin, MOST * seen[-1] / base - 1)
    return base * (1 + margin)


def _adapted(margin: float, peak: float, base: float) -> float:
    """``base`` is 0 before the first run, and while hardly any run held the resource: no margin helps there."""
    if base == 0:
        return margin
    return max(margin, peak / base - 1) if peak > base else margin * DECAY


def _columns(peaks: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, list[float]]:
    return {name: [peak.get(name, 0.0) for peak in peaks] for name in names}


def _whole(height: float, name: str, peaks: Sequence[float]) -> float:
    if name == "memory" or all(peak.is_integer() for peak in peaks):
        return float(math.ceil(height - _NOISE))
    return round(math.ceil(height / _RESOLUTION - _NOISE) * _RESOLUTION, 2)
