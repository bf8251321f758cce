"""A pipeline's history at a glance: when its runs were, how long they took, and how much they held at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .documents import amounts_to_json
from .model import RecurrenceId, ResourceSkyline
from .skyline import Skyline, total
from .skylinestore.base import Runs, SkylineStore


def runs_overview(runs: Runs) -> list[dict[str, Any]]:
    """One object per run, in the order of ``runs``.

    ``start`` is epoch milliseconds, 0 if unknown; ``duration_s`` reaches from its first to its last moment;
    ``allocated`` and ``used`` are the run's peaks by resource, ``used`` null where nobody measured.
    """
    return [_overview(run, jobs) for run, jobs in runs.items()]


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
