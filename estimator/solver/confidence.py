"""How far a prediction can be trusted, measured on the runs that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..model import Confidence, History, Prediction, RecurrenceId
from ..skyline import Amounts, FloatArray, Skyline, ordered
from .base import Solver, SolverSettings
from .quantiles import quantile
from .runs import run_skyline

LOWER, UPPER = 10, 90
MOST_LEFT_OUT = 10
LEFT_OUT_LIMIT = 50_000
"""Up to so many runs x intervals (at least 100 intervals a run) the left-out error is computed, in a second or so;
above, a large prediction would take ten times as long for it."""

_LEAST = 100  # a run costs at least as much as so many intervals
_BLOCK = 1 << 22  # samples in memory at a time, 32 MB


class Difference(NamedTuple):
    """One run against a plan, resource-seconds by name.

    Attributes:
        over: Reserved and not held.
        under: Held and not reserved.
        held: What the run held.
    """

    over: Amounts
    under: Amounts
    held: Amounts


def difference(plan: Skyline, run: Skyline) -> Difference:
    """Both compared moment by moment (not interval by interval), each from its own time 0."""
    apart = plan - run
    lengths = np.diff(apart.times).astype(np.float64)
    rows = apart.values[:-1]
    sums = [lengths @ np.maximum(sign * rows, 0.0) if len(rows) else np.zeros(len(apart.resources)) for sign in (1, -1)]
    over, under = (dict(zip(apart.resources, map(float, row), strict=True)) for row in sums)
    held = run.with_resources(apart.resources).integral()
    return Difference(over, under, held)


def confidence(solver: Solver, history: History, settings: SolverSettings, prediction: Prediction) -> Confidence:
    """The figures of :class:`~estimator.model.Confidence` for a prediction that ``solver`` made of ``history``.

    The newest runs, at most ten, are left out in turn and predicted from the others. This is not done for a single
    run, nor if runs x intervals exceed :data:`LEFT_OUT_LIMIT`; then ``left_out_runs`` is 0. A run that held nothing of
    a resource has no relative error in it and does not count there.
    """
    used = set(prediction.runs)
    chosen = {run: jobs for run, jobs in history.items() if run.run in used}
    skylines = {run: run_skyline(jobs, settings.kind) for run, jobs in chosen.items()}
    runs = list(skylines.values())
    names = ordered(name for skyline in (prediction.skyline, *runs) for name in skyline.resources)
    lower, upper = _band(runs, names, settings.interval)
    differences = [difference(prediction.skyline.with_resources(names), run) for run in runs]
    left_out = _left_out(runs, settings.interval)
    return Confidence(
        runs=len(runs),
        lower=lower,
        upper=upper,
        over=_mean([each.over for each in differences], names),
        under=_mean([each.under for each in differences], names),
        needed=_mean([each.held for each in differences], names),
        fixed=_fixed(runs, names),
        left_out_error=_error(solver, chosen, skylines, settings, prediction.pipeline, names) if left_out else None,
        left_out_runs=left_out,
    )


def cells_of(runs: Sequence[Skyline], interval: int) -> int:
    """Runs x intervals of the longest run: what a solve costs grows with it."""
    return len(runs) * max(-(-run.end // interval) for run in runs)


def _band(runs: Sequence[Skyline], names: Sequence[str], interval: int) -> tuple[Skyline, Skyline]:
    """Quantiles over the runs of the peak in each interval; a run that has ended counts as zero."""
    count = max(-(-run.end // interval) for run in runs)
    block = max(1, _BLOCK // (len(runs) * len(names)))
    bands = [np.zeros((count, len(names))) for _ in range(2)]
    for first in range(0, count, block):
        number = min(block, count - first)
        samples = np.stack([_samples(run, names, interval, first, number) for run in runs])
        for band, percent in zip(bands, (LOWER, UPPER), strict=True):
            band[first : first + number] = quantile(samples, percent)
    lower, upper = (Skyline.sampled(band, interval, names) for band in bands)
    return lower, upper


def _samples(run: Skyline, names: Sequence[str], interval: int, first: int, number: int) -> FloatArray:
    return run.with_resources(names).sample(interval, origin=first * interval, count=number)


def _fixed(runs: Sequence[Skyline], names: Sequence[str]) -> dict[str, float]:
    longest = max(run.end for run in runs)
    peaks = [run.peak() for run in runs]
    return {name: longest * max(peak.get(name, 0.0) for peak in peaks) for name in names}


def _left_out(runs: Sequence[Skyline], interval: int) -> int:
    cells = max(cells_of(runs, interval), len(runs) * _LEAST)
    bounded = len(runs) > 1 and cells <= LEFT_OUT_LIMIT
    return min(MOST_LEFT_OUT, len(runs)) if bounded else 0


def _error(
    solver: Solver,
    history: History,
    skylines: Mapping[RecurrenceId, Skyline],
    settings: SolverSettings,
    pipeline: str,
    names: Sequence[str],
) -> dict[str, float]:
    # One run less must not be refused: the question is how good the plan is, not whether there are enough runs.
    alone = replace(settings, confidence=False, min_runs=1)
    errors: dict[str, list[float]] = {name: [] for name in names}
    for left_out in list(skylines)[-MOST_LEFT_OUT:]:
        others = {run: jobs for run, jobs in history.items() if run != left_out}
        plan = solver.solve(pipeline, others, alone).skyline
        over, under, held = difference(plan.with_resources(names), skylines[left_out])
        for name in names:
            if held[name] > 0:
                errors[name].append((over[name] + under[name]) / held[name])
    return {name: float(np.mean(each)) if each else 0.0 for name, each in errors.items()}


def _mean(rows: Sequence[Amounts], names: Sequence[str]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in names}
