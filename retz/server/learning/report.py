"""What the past says about the size of a step, for people: what is asked for, what would be given, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from estimator.sizing import limit

from .past import PastRun
from .sizes import SLACK_MB, StepSize, peaks_of

REPLAYED = 10
"""So many of the last runs are predicted from those before them; some 4 ms."""


class Replayed(NamedTuple):
    """A past run, and the limit in MiB that those before it would have given it; None if they were too few."""

    run: PastRun
    limit_mb: float | None


class StepReport(NamedTuple):
    """A step.

    Attributes:
        asked_mb, asked_cpus: What its last run asked for.
        given_mb, given_cpus: What ``--predicted`` would give to the next that asks for as much; None: too few runs.
        size: What the past says.
        duration_s: Mean seconds of the jobs that ended well; None if none did.
        replayed: The last runs, newest last.
    """

    step: str
    asked_mb: int
    asked_cpus: float
    given_mb: int | None
    given_cpus: float | None
    size: StepSize
    duration_s: float | None
    replayed: Sequence[Replayed]


def replayed(runs: Sequence[PastRun], needed: int) -> list[Replayed]:
    """The last of the runs, each against what ``needed`` or more before it foretold."""
    found = []
    for place in range(max(0, len(runs) - REPLAYED), len(runs)):
        before = peaks_of(runs[:place])
        found.append(Replayed(runs[place], limit(before, SLACK_MB) if len(before) >= needed else None))
    return found


def mean_duration(runs: Sequence[PastRun]) -> float | None:
    """Seconds that jobs which ended well took on average."""
    good = [run.duration_s for run in runs if run.outcome == "finished"]
    return sum(good) / len(good) if good else None
