"""How well each solver would have done: every past run predicted from the runs before it, and compared.

For run ``k`` every solver is given the runs before ``k`` only, and its plan is held against what run ``k`` did:

- *over*: reserved and not held, resource-seconds; the report's ``waste`` is all of it over all that was held.
- *under*: held and not reserved, in the same way.
- *in time*: with the plan as capacity, is all the work done by the plan's end? Work that finds no room waits and is
  done whenever there is room later, but not before its own time: the backlog that the linear programme minimises.
- *peak miss*: the run's peak exceeded the plan's. What waiting cannot help, such as memory, fails there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import SOLVERS, EstimatorConfig, load_class
from .errors import InvalidInput, SolverError
from .model import History, Kind, RecurrenceId
from .skyline import Amounts, Skyline, ordered
from .solver.base import Solver, SolverSettings
from .solver.confidence import cells_of, difference
from .solver.runs import usable_runs

MOST_REPLAYED = 50
"""Only the newest runs are replayed, each from all before it."""

MOST_CELLS = 10_000_000
"""Fewer are, if that would be more than so many runs x intervals: some ten seconds for one solver."""

LP_CELLS = 2_000
"""The reference solver is left out above so many runs x intervals; ``fast`` finds the same optimum."""

_NOISE = 1e-9  # relative to what was held
_RESOLUTION = 1e-6  # of amounts


@dataclass(frozen=True)
class Point:
    """One replayed run against the plan that one solver made for it.

    Attributes:
        run: Its id.
        reserved, held: Resource-seconds of the plan and of the run, by resource.
        over, under: Resource-seconds reserved and not held, held and not reserved.
        planned_peak, peak: The largest amount of the plan and of the run.
        late: Resources of which work was left at the plan's end.
    """

    run: str
    reserved: Amounts
    held: Amounts
    over: Amounts
    under: Amounts
    planned_peak: Amounts
    peak: Amounts
    late: tuple[str, ...]

    @property
    def in_time(self) -> bool:
        """Whether the whole need was met by the plan's end."""
        return not self.late

    @property
    def exceeded(self) -> tuple[str, ...]:
        """Resources of which the run's peak was above the plan's."""
        return tuple(name for name, peak in self.peak.items() if peak > self.planned_peak[name] + _RESOLUTION)


@dataclass(frozen=True)
class SolverResult:
    """How one solver did.

    Attributes:
        solver: Its name.
        points: One per replayed run, oldest first; empty if it was left out.
        skipped: Why it was left out; empty if it was not.
    """

    solver: str
    points: tuple[Point, ...] = ()
    skipped: str = ""

    @property
    def waste(self) -> dict[str, float]:
        """Reserved and not held, relative to what was held (0.4: 40 % too much); by resource that was held at all."""
        return self._relative([point.over for point in self.points])

    @property
    def under(self) -> dict[str, float]:
        """Held and not reserved, relative to what was held."""
        return self._relative([point.under for point in self.points])

    @property
    def deadline_hits(self) -> float | None:
        """Share of runs whose whole need was met by the plan's end; None if nothing was replayed."""
        return sum(point.in_time for point in self.points) / len(self.points) if self.points else None

    @property
    def peak_misses(self) -> dict[str, float]:
        """Share of runs whose peak was above the plan's, by resource."""
        names = self.points[0].peak if self.points else ()
        return {
            name: sum(name in point.exceeded for point in self.points) / len(self.points)
            for name in names
            if any(point.held[name] for point in self.points)
        }

    def _relative(self, amounts: Sequence[Amounts]) -> dict[str, float]:
        names = self.points[0].held if self.points else ()
        held = {name: sum(point.held[name] for point in self.points) for name in names}
        return {name: sum(each[name] for each in amounts) / held[name] for name in names if held[name] > 0}


@dataclass(frozen=True)
class BacktestReport:
    """What a backtest found.

    Attributes:
        pipeline, kind, interval: What was replayed, and with which step.
        runs: Number of runs known that held something.
        replayed: Ids of the runs that were predicted, oldest first.
        resources: Names that every mapping of the points has.
        solvers: One result per solver, in the order asked for.
    """

    pipeline: str
    kind: Kind
    interval: int
    runs: int
    replayed: tuple[str, ...]
    resources: tuple[str, ...]
    solvers: tuple[SolverResult, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-able values; shares and waste are fractions of 1."""
        return {
            "pipeline": self.pipeline,
            "kind": self.kind,
            "interval": self.interval,
            "runs": self.runs,
            "replayed": list(self.replayed),
            "resources": list(self.resources),
            "solvers": [_result_to_json(result) for result in self.solvers],
        }


def backtest(history: History, config: EstimatorConfig, solvers: Sequence[str] = SOLVERS) -> BacktestReport:
    """Replay the history of one pipeline for each solver, with the configured settings.

    The newest runs are replayed, at most :data:`MOST_REPLAYED`; fewer if there is very much of them.

    Raises:
        InvalidInput: there are not more than ``min_runs`` runs that held something.
        ConfigurationError: there is no such solver.
    """
    settings = replace(config.settings, confidence=False)
    runs, _ = usable_runs(history, settings)
    if len(runs) <= settings.min_runs:
        raise InvalidInput(
            "Job ResourceSkyline history",
            f"containing less job runs than {settings.min_runs + 1}",
            f"a backtest predicts a run from at least {settings.min_runs} before it; wait for more runs",
        )
    kept = {run: jobs for run, jobs in history.items() if run.run in runs}
    cells = cells_of(list(runs.values()), settings.interval)
    number = max(1, min(MOST_REPLAYED, MOST_CELLS // cells, len(runs) - settings.min_runs))
    names = ordered(name for run in runs.values() for name in run.resources)
    results = [_replay(name, kept, runs, names, settings, number, cells) for name in solvers]
    return BacktestReport(
        pipeline=next(iter(kept)).pipeline,
        kind=settings.kind,
        interval=settings.interval,
        runs=len(runs),
        replayed=tuple(runs)[-number:],
        resources=names,
        solvers=tuple(results),
    )


def _replay(
    name: str,
    history: History,
    runs: Mapping[str, Skyline],
    names: Sequence[str],
    settings: SolverSettings,
    number: int,
    cells: int,
) -> SolverResult:
    solver = load_class(name, Solver)()  # type: ignore[type-abstract]
    if solver.name == "lp" and cells > LP_CELLS:
        return SolverResult(solver.name, skipped="too slow for a history of this size; fast finds the same optimum")
    try:
        return SolverResult(solver.name, tuple(_points(solver, history, runs, names, settings, number)))
    except SolverError as error:
        return SolverResult(solver.name, skipped=str(error))


def _points(
    solver: Solver,
    history: History,
    runs: Mapping[str, Skyline],
    names: Sequence[str],
    settings: SolverSettings,
    number: int,
) -> list[Point]:
    order: list[RecurrenceId] = list(history)
    points = []
    warm: Mapping[str, Any] | None = None
    for place in range(len(order) - number, len(order)):
        past = {run: history[run] for run in order[:place]}
        prediction = solver.solve(order[place].pipeline, past, settings, warm=warm)
        warm = prediction.warm
        points.append(_point(order[place].run, prediction.skyline, runs[order[place].run], names))
    return points


def _point(run: str, plan: Skyline, held: Skyline, names: Sequence[str]) -> Point:
    plan, held = plan.with_resources(names), held.with_resources(names)
    apart = difference(plan, held)
    return Point(
        run=run,
        reserved=_only(plan.integral(), names),
        held=apart.held,
        over=apart.over,
        under=apart.under,
        planned_peak=_only(plan.peak(), names),
        peak=_only(held.peak(), names),
        late=_late(plan, held, apart.held),
    )


def _late(plan: Skyline, run: Skyline, held: Amounts) -> tuple[str, ...]:
    """Resources with work left at the plan's end: some time from which on the run wanted more than the plan gave."""
    missing = run - plan
    pieces = np.diff(missing.times).astype(np.float64)[:, None] * missing.values[:-1]
    backlog = np.cumsum(pieces[::-1], axis=0).max(axis=0, initial=0.0)
    return tuple(
        name for name, left in zip(missing.resources, backlog, strict=True) if left > _NOISE * max(1.0, held[name])
    )


def _only(amounts: Amounts, names: Sequence[str]) -> dict[str, float]:
    return {name: amounts[name] for name in names}


def _result_to_json(result: SolverResult) -> dict[str, Any]:
    return {
        "solver": result.solver,
        "skipped": result.skipped or None,
        "waste": result.waste,
        "under": result.under,
        "deadline_hits": result.deadline_hits,
        "peak_misses": result.peak_misses,
        "points": [_point_to_json(point) for point in result.points],
    }


def _point_to_json(point: Point) -> dict[str, Any]:
    return {
        "run": point.run,
        "reserved": dict(point.reserved),
        "held": dict(point.held),
        "over": dict(point.over),
        "under": dict(point.under),
        "planned_peak": dict(point.planned_peak),
        "peak": dict(point.peak),
        "in_time": point.in_time,
        "late": list(point.late),
    }
