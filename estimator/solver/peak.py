"""Heights that no run may exceed: memory limits.

The linear programme lets an early deficit be made up later. Work forgives that, a memory limit does not: a process
over its limit is killed on the spot. So a limit comes from the peaks of whole runs, and from how well such limits did
before.

For each resource on its own, with the runs in the order of the history: :func:`estimator.sizing.size`, rounded up to
whole units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..model import History, Prediction
from ..sizing import limit
from ..skyline import Skyline, ordered
from .base import Solver, SolverSettings
from .confidence import confidence
from .quantiles import rank
from .runs import usable_runs

QUANTILE = 95
_RESOLUTION = 0.01
"""Fractional amounts are rounded up to hundredths; memory, and what was always whole, to whole numbers."""
_NOISE = 1e-6  # what multiplying and dividing leaves behind is not worth a unit


class PeakSolver(Solver):
    """A constant plan as high as :func:`~estimator.sizing.limit` says, as long as 95 % of the runs.

    alpha and beta mean nothing here.
    """

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


def _columns(peaks: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, list[float]]:
    return {name: [peak.get(name, 0.0) for peak in peaks] for name in names}


def _whole(height: float, name: str, peaks: Sequence[float]) -> float:
    if name == "memory" or all(peak.is_integer() for peak in peaks):
        return float(math.ceil(height - _NOISE))
    return round(math.ceil(height / _RESOLUTION - _NOISE) * _RESOLUTION, 2)
