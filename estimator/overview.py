"""A pipeline's history at a glance: when its runs were, how long they took, and how much they held at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .documents import amounts_to_json
from .model import RecurrenceId, ResourceSkyline
from .skyline import Skyline
from .skylinestore.base import Runs, SkylineStore
from .solver.demand import merge
from .solver.runs import run_skyline

MOST_STEPS = 1000
"""Of a run's skyline in an overview: finer ones are coarsened, each step then tells the most that was held in it."""


def runs_overview(runs: Runs, skylines: int = 0) -> list[dict[str, Any]]:
    """One object per run, in the order of ``runs``.

    ``start`` is epoch milliseconds, 0 if unknown; ``duration_s`` reaches from its first to its last moment;
    ``allocated`` and ``used`` are the run's peaks by resource, ``used`` null unless all its jobs were measured. So
    many of the last runs have ``skylines``, with an allocated and a used one, which is null where ``used`` is.
    """
    found = [_overview(run, jobs) for run, jobs in runs.items()]
    for each, jobs in list(zip(found, runs.values(), strict=True))[len(found) - min(skylines, len(found)) :]:
        each["skylines"] = {"allocated": _steps(run_skyline(jobs, "allocated")), "used": None}
        if each["used"] is not None:
            each["skylines"]["used"] = _steps(run_skyline(jobs, "used"))
    return found


def _steps(skyline: Skyline) -> dict[str, Any]:
    if len(skyline.times) > MOST_STEPS:
        unit = -(-skyline.end // MOST_STEPS)
        coarse = skyline.coarsened(unit)
        skyline = Skyline(coarse.times * unit, coarse.values, coarse.resources)
    return skyline.to_json()


def _overview(run: RecurrenceId, jobs: Sequence[ResourceSkyline]) -> dict[str, Any]:
    allocated, used = merge(jobs), merge(jobs, "used")
    assert allocated is not None  # only what was used can be unknown
    return {
        "run": run.run,
        "start": min((job.submitted for job in jobs if job.submitted), default=0),
        "jobs": len(jobs),
        "duration_s": allocated[0].duration,
        "allocated": amounts_to_json(allocated[0].peak()),
        "used": None if used is None else amounts_to_json(used[0].peak()),
    }


def forget(store: SkylineStore, pipeline: str, runs: Runs) -> int:
    """Delete the history (``runs``: all of it) and the prediction of a pipeline; how many runs there were."""
    for run in runs:
        store.delete_history(run)
    store.delete_prediction(pipeline)
    return len(runs)
