"""Runs of a history as one skyline each, for what looks at whole runs instead of intervals."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidInput
from ..model import History, Kind, ResourceSkyline
from ..skyline import Skyline
from .base import SolverSettings
from .demand import merge, refuse_too_long


def run_skyline(jobs: Sequence[ResourceSkyline], kind: Kind) -> Skyline:
    """What the jobs of one run held together, in seconds from the run's first moment; empty if nobody knows."""
    merged = merge(jobs, kind)
    if merged is None:
        return Skyline.empty()
    skyline, start = merged
    return skyline.shift(-start)


def usable_runs(history: History, settings: SolverSettings) -> tuple[dict[str, Skyline], tuple[str, ...]]:
    """The runs that held something, by run id in the order of the history, and the ids of those that held nothing.

    Raises:
        InvalidInput: the history is empty, fewer than ``min_runs`` runs held something, or they are too long to be
            looked at interval by interval.
    """
    if not history:
        raise InvalidInput("Job ResourceSkyline history", "invalid", "no run is known; parse a log first")
    skylines = {run.run: run_skyline(jobs, settings.kind) for run, jobs in history.items()}
    runs = {run: skyline for run, skyline in skylines.items() if not skyline.is_empty}
    if len(runs) < settings.min_runs:
        measured = "held something" if settings.kind == "allocated" else "have measured use"
        raise InvalidInput(
            "Job ResourceSkyline history",
            f"containing less job runs than {settings.min_runs}",
            f"{len(runs)} of {len(skylines)} runs {measured}; wait for more runs, or lower minJobRuns",
        )
    refuse_too_long({run: skyline.end for run, skyline in runs.items()}, settings.interval)
    return runs, tuple(run for run in skylines if run not in runs)
