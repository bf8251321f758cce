"""From skylines to counts: what each run held in each interval, as whole numbers of a common unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidInput
from ..model import History, Kind, ResourceSkyline
from ..skyline import FloatArray, IntArray, Skyline, ordered, total
from .base import MAX_INTERVAL, SolverSettings
from .kernel import MAX_TOTAL

MAX_CELLS = 20_000_000
"""Runs times intervals; a solve of so many takes about 2 GB."""

_MICRO = 1_000_000
_MAX_AMOUNT = 1e12
_FRACTION = 0.01
"""Unit of a resource that comes in fractions, such as cpus; memory is rounded up to whole MB."""

_HISTORY = "Job ResourceSkyline history"


@dataclass(frozen=True)
class Demand:
    """One problem for a solver: counts of one unit, over the runs and intervals of a history.

    Attributes:
        resources: The resources that this problem plans.
        unit: What one unit holds of each of them: a container, or a step of a single resource.
        counts: ``int64[n, N]``: units that run ``i`` held at most during interval ``k`` of its own time.
    """

    resources: tuple[str, ...]
    unit: Mapping[str, float]
    counts: IntArray


@dataclass(frozen=True)
class Demands:
    """A history made ready for solving.

    Attributes:
        runs: Ids of the runs, in the order of the rows.
        ignored: Ids of the runs that held nothing, or where nobody measured what the settings ask for.
        problems: One over all resources if they come in containers of one size, else one per resource.
    """

    runs: tuple[str, ...]
    ignored: tuple[str, ...]
    problems: tuple[Demand, ...]


def demands(history: History, settings: SolverSettings) -> Demands:
    """Count what the runs of one pipeline held, interval by interval from each run's own first moment.

    Jobs of one run are placed by their submissions and added up. An interval counts with its peak.

    Raises:
        InvalidInput: there are fewer than ``settings.min_runs`` runs that held something, or so much of it that it
            would not fit into memory.
    """
    if not history:
        raise InvalidInput(_HISTORY, "invalid", "no run is known; parse a log first")
    merged = {run.run: merge(jobs, settings.kind) for run, jobs in history.items()}
    runs = {name: found for name, found in merged.items() if found is not None and not found[0].is_empty}
    ignored = tuple(name for name in merged if name not in runs)
    if len(runs) < settings.min_runs:
        raise InvalidInput(_HISTORY, f"containing less job runs than {settings.min_runs}", _thin(ignored, settings))
    refuse_too_long({run: skyline.end - start for run, (skyline, start) in runs.items()}, settings.interval)
    names, samples = _samples(list(runs.values()), settings.interval)
    containers = [job.container for run, jobs in history.items() if run.run in runs for job in jobs]
    return Demands(tuple(runs), ignored, tuple(_problems(names, samples, containers)))


def merge(jobs: Sequence[ResourceSkyline], kind: Kind = "allocated") -> tuple[Skyline, int] | None:
    """The sum of a run's jobs on the run's clock, and its first moment (also if only use, not allocation is asked for).

    A job whose submission is unknown (0) starts with the run. None if ``used`` is asked for and a job has none.
    """
    known = [job.submitted for job in jobs if job.submitted]
    first = min(known, default=0)
    shifts = [(job.submitted - first) // 1000 if job.submitted else 0 for job in jobs]
    allocated = total(job.skyline.shift(by) for job, by in zip(jobs, shifts, strict=True))
    if kind == "allocated":
        return allocated, allocated.start
    parts = [job.used.shift(by) for job, by in zip(jobs, shifts, strict=True) if job.used is not None]
    if len(parts) < len(jobs):
        return None
    used = total(parts)
    starts = [each.start for each in (allocated, used) if not each.is_empty]
    return used, min(starts, default=0)


def refuse_too_long(durations: Mapping[str, int], interval: int) -> None:
    """Check that runs of so many seconds can be looked at interval by interval.

    Raises:
        InvalidInput: runs x intervals are more than :data:`MAX_CELLS`; the text says what would help.
    """
    longest = max(durations, key=durations.__getitem__)
    number = -(-durations[longest] // interval)
    if number * len(durations) <= MAX_CELLS:
        return
    fitting = interval * -(-number * len(durations) // MAX_CELLS)
    longer = f"raise timeInterval from {interval} s to at least {fitting} s, or " if fitting <= MAX_INTERVAL else ""
    raise InvalidInput(
        _HISTORY,
        f"too long ({len(durations)} runs x {number} intervals)",
        f"{longer}delete runs; the longest is {longest[:80]!r} with {durations[longest]} s",
    )


def _thin(ignored: Sequence[str], settings: SolverSettings) -> str:
    why = "held nothing" if settings.kind == "allocated" else "lack measured use"
    found = f"{len(ignored)} runs {why}; " if ignored else ""
    return f"{found}wait for more runs, or lower minJobRuns"


def _samples(runs: Sequence[tuple[Skyline, int]], interval: int) -> tuple[tuple[str, ...], FloatArray]:
    """Names of ``r`` resources, and ``float64[r, n, N]``: peak of each run in each interval."""
    number = max(-(-(skyline.end - start) // interval) for skyline, start in runs)
    names = ordered(name for skyline, _ in runs for name in skyline.resources)
    samples = np.zeros((len(names), len(runs), number))
    for row, (skyline, start) in enumerate(runs):
        peaks = skyline.with_resources(names).sample(interval, origin=start)
        samples[:, row, : len(peaks)] = peaks.T
    if samples.max() > _MAX_AMOUNT or samples.min() < 0:
        raise InvalidInput(_HISTORY, "damaged", f"amounts must be from 0 to {_MAX_AMOUNT:.0e}")
    return names, samples


def _problems(names: tuple[str, ...], samples: FloatArray, containers: Sequence[Mapping[str, float]]) -> list[Demand]:
    common = _containers(names, samples, containers)
    if common is not None:
        return [common]
    found = []
    for name, values in zip(names, samples, strict=True):
        if values.any():
            unit = _unit(name, values, containers)
            counts = np.ceil(values / unit - 1 / _MICRO).astype(np.int64)
            found.append(Demand((name,), {name: unit}, _checked(counts, name)))
    return found


def _containers(
    names: tuple[str, ...], samples: FloatArray, containers: Sequence[Mapping[str, float]]
) -> Demand | None:
    """Everything counted in containers, if all have one size and all resources come in whole containers."""
    unit = {name: containers[0].get(name, 0.0) for name in names}
    if any({name: other.get(name, 0.0) for name in names} != unit for other in containers):
        return None
    counts: IntArray | None = None
    for name, values in zip(names, samples, strict=True):
        if unit[name] <= 0:
            if values.any():
                return None
            continue
        number = np.rint(values / unit[name])
        if np.abs(number * unit[name] - values).max() > 1 / _MICRO:
            return None
        if counts is not None and not np.array_equal(counts, number):
            return None
        counts = number.astype(np.int64)
    if counts is None:
        return None
    planned = tuple(name for name in names if unit[name] > 0)
    return Demand(planned, {name: unit[name] for name in planned}, _checked(counts, "containers"))


def _unit(name: str, values: FloatArray, containers: Sequence[Mapping[str, float]]) -> float:
    """The largest step in which this resource was given out, or a small one if there is none."""
    common = math.gcd(*(round(each.get(name, 0.0) * _MICRO) for each in containers))
    exact = np.rint(values * _MICRO).astype(np.int64)
    if common and not (exact % common).any():
        return common / _MICRO
    return 1.0 if name == "memory" or not (exact % _MICRO).any() else _FRACTION


def _checked(counts: IntArray, name: str) -> IntArray:
    if counts.sum(axis=1, dtype=np.float64).max() > MAX_TOTAL:
        raise InvalidInput(_HISTORY, f"too large in {name}", "its amounts do not add up exactly; use larger units")
    return counts
