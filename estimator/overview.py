"""A pipeline's history at a glance: when its runs were, how long they took, and how much they held at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .documents import amounts_to_json
from .model import RecurrenceId, ResourceSkyline
from .skyline import Skyline, total
from .skylinestore.base import Runs, SkylineStore
from .solver.runs import run_skyline

MOST_STEPS = 1000
"""Of a run's skyline in an overview: finer ones are coarsened, each step then tells the most that was held in it."""


def runs_overview(runs: Runs, skylines: int = 0) -> list[dict[str, Any]]:
    """One object per run, in the order of ``runs``.

    ``start`` is epoch milliseconds, 0 if unknown; ``duration_s`` reaches from its first to its last moment;
    ``allocated`` and ``used`` are the run's peaks by resource, ``used`` null where nobody measured. So many of the
    last runs have ``skylines``, with an allocated and a used one, which is null where nobody measured.
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
    first = min((job.submitted for job in jobs), default=0)
    allocated = total(_placed(job, job.skyline, first) for job in jobs)
    used = [_placed(job, job.used, first) for job in jobs if job.used is not None]
    return {
        "run": run.run,
        "start": first,
        "jobs": len(jobs),
        "duration_s": allocated.duration,
        "allocated": amounts_to_json(allocated.peak()),
        "used": amounts_to_json(total(used).peak()) if used else None,
    }


def _placed(job: ResourceSkyline, skyline: Skyline, first: int) -> Skyline:
    """On the run's clock."""
    return skyline.shift((job.submitted - first) // 1000)


def forget(store: SkylineStore, pipeline: str, runs: Runs) -> int:
    """Delete the history (``runs``: all of it) and the prediction of a pipeline; how many runs there were."""
    for run in runs:
        store.delete_history(run)
    store.delete_prediction(pipeline)
    return len(runs)
