"""The estimator's records: which run, what its jobs held, and what the next run will need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .skyline import Amounts, Skyline

Kind = Literal["allocated", "used"]
"""``allocated``: what was reserved; ``used``: what was really used of it, where that was measured."""


class RecurrenceId(NamedTuple):
    """One run of a recurring pipeline."""

    pipeline: str
    run: str

    def __str__(self) -> str:
        return f"{{pipelineId: {self.pipeline}, runId: {self.run}}}"


@dataclass(frozen=True, eq=True)
class ResourceSkyline:
    """What one job of a run held.

    Attributes:
        job_id: The job's (for YARN the application's) id.
        skyline: What was allocated, in seconds from the job's own submission: memory MB, vcores, others by name.
        submitted: Epoch milliseconds, or 0 if unknown; places the job within its run.
        finished: Epoch milliseconds, or seconds of the skyline if ``submitted`` is 0.
        container: Size of one container: every step is a whole number of them, unless the run mixed sizes.
        input_size: Bytes of input, 0 if unknown.
        used: What was used of the allocated, on the same clock; None if nobody measured.
    """

    job_id: str
    skyline: Skyline
    submitted: int = 0
    finished: int = 0
    container: Amounts = field(default_factory=lambda: {"memory": 1024.0, "vcores": 1.0})
    input_size: float = 0.0
    used: Skyline | None = None

    __hash__ = None  # type: ignore[assignment]  # skylines have none


History = Mapping[RecurrenceId, Sequence[ResourceSkyline]]
"""Runs with their jobs, in the order in which they were added."""


@dataclass(frozen=True)
class Confidence:
    """How far a prediction can be trusted: all figures are over the runs it was made from.

    Attributes:
        runs: Number of runs.
        lower, upper: The band from the 10th to the 90th percentile of the runs, interval by interval.
        over: Expected over-allocation of one run, resource-seconds by name: reserved but not held.
        under: Expected under-allocation of one run: held but not reserved.
        needed: What one run held on average, resource-seconds by name: ``over`` and ``under`` are seen against it.
        fixed: What a request of constant size that fits every run would have reserved, resource-seconds by name.
        left_out_error: Mean over runs left out in turn of |reserved - held| / held, summed over time, predicted
            without that run, by resource; None if it was not computed (``left_out_runs`` is 0).
        left_out_runs: How many runs were left out in turn: the newest ones, at most ten.
    """

    runs: int
    lower: Skyline
    upper: Skyline
    over: Amounts
    under: Amounts
    needed: Amounts
    fixed: Amounts
    left_out_error: Amounts | None
    left_out_runs: int


@dataclass(frozen=True)
class Prediction:
    """What the next run of a pipeline will need.

    Attributes:
        skyline: The plan, in seconds from the run's start.
        solver: Name of the solver.
        kind: Which of the runs' skylines it was made from.
        settings: The parameters that it depends on (see ``SolverSettings.fingerprint``): others make another one.
        runs: Ids of the runs it was made from.
        ignored: Ids of runs that held nothing and could not be used.
        history: Digest of the history it was made from; it is out of date when the store's differs.
        objective, gap: Value of the objective and the certified relative distance from the optimum; None for
            solvers that optimise nothing. Summed over the problems if resources were planned one by one.
        confidence: None only if it was not asked for.
        warm: What lets the next solve of the same pipeline start from here; JSON-able, small, solver's own.
    """

    pipeline: str
    skyline: Skyline
    solver: str
    kind: Kind
    settings: Mapping[str, Any]
    runs: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    history: str = ""
    objective: float | None = None
    gap: float | None = None
    confidence: Confidence | None = None
    warm: Mapping[str, Any] | None = None
