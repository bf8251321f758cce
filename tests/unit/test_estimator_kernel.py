"""What a plan costs, plans in whole numbers, the reference programme, and predictions made of plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import InvalidInput, SolverError
from estimator.model import RecurrenceId, ResourceSkyline
from estimator.skyline import IntArray, Skyline
from estimator.solver import kernel
from estimator.solver.base import SolverSettings
from estimator.solver.fast import FastSolver
from estimator.solver.kernel import Plan
from estimator.solver.lp import LpSolver
from estimator.solver.matrix import MatrixSolver

SAMPLE = ([1, 1, 1074, 2538, 2468], [1, 1, 794, 2517, 2484])
"""Containers every five seconds of two runs of a query."""
PLAIN = SolverSettings(confidence=False)


def matrix(rows: object) -> IntArray:
    return np.array(rows, dtype=np.int64)


def naive(plan: list[float], counts: list[list[int]], alpha: float, beta: float) -> float:
    """The programme's objective with the smallest slack variables, step by step."""
    cost = 0.0
    for row in counts:
        backlog = over = missing = 0.0
        for planned, held in zip(plan, row, strict=True):
            over += max(0.0, planned - held)
            missing += max(0.0, held - planned)
            backlog = max(0.0, backlog + held - planned)
        cost += alpha * over + (1 - alpha) * backlog + (beta * missing / sum(row) if any(row) else 0.0)
    return cost / len(counts)


rows_and_plan = st.integers(1, 6).flatmap(
    lambda number: st.tuples(
        st.lists(st.lists(st.integers(0, 30), min_size=number, max_size=number), min_size=1, max_size=5),
        st.lists(st.integers(0, 160).map(lambda quarter: quarter / 4), min_size=number, max_size=number),
    )
)
weights = st.floats(0, 1)


@settings(max_examples=100, deadline=None)
@given(rows_and_plan, weights, weights)
def test_objective_is_the_programme_step_by_step(
    given: tuple[list[list[int]], list[float]], alpha: float, beta: float
) -> None:
    counts, plan = given
    expected = naive(plan, counts, alpha, beta)
    assert kernel.objective(plan, matrix(counts), alpha, beta) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_objective_of_many_rows_is_the_mean() -> None:
    """More than fit into one group of rows."""
    counts = np.tile(matrix([[3, 1] * 5000, [0, 2] * 5000]), (50, 1))
    plan = np.full(10_000, 2.0)
    assert kernel.objective(plan, counts, 0.1, 0.1) == pytest.approx(
        kernel.objective(plan, counts[:2], 0.1, 0.1), rel=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(rows_and_plan, weights, weights)
def test_rounding_of_suffix_sums_costs_nothing_on_average(
    given: tuple[list[list[int]], list[float]], alpha: float, beta: float
) -> None:
    """The mean over all thresholds is the cost of the plan with its fractions; so no optimum is lost by rounding."""
    counts, plan = given
    sums = kernel.suffix_sums(np.array(plan))
    costs = []
    for threshold in (0.125, 0.375, 0.625, 0.875):  # plans are in quarters: nothing changes in between
        rounded = np.floor(sums + threshold)
        costs.append(kernel.objective(-np.diff(rounded, append=0.0), matrix(counts), alpha, beta))
    cost = kernel.objective(plan, matrix(counts), alpha, beta)
    assert np.mean(costs) == pytest.approx(cost, rel=1e-12, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(rows_and_plan)
def test_whole_plans_keep_the_sum(given: tuple[list[list[int]], list[float]]) -> None:
    plan = np.array(given[1])
    rounded = kernel.whole(plan)
    assert rounded.dtype == np.int64
    assert (rounded >= 0).all()
    assert (np.abs(kernel.suffix_sums(rounded.astype(float)) - kernel.suffix_sums(plan)) <= 0.5).all()


def test_gap() -> None:
    assert kernel.gap(0.0, 0.0) == 0.0
    assert kernel.gap(4.0, 3.0) == 0.25
    assert kernel.gap(1.0, 1.0 + 1e-15) == 0.0


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (np.zeros((0, 3)), "at least one run"),
        (np.zeros((3, 0)), "at least one run"),
        (np.zeros(3), "at least one run"),
        ([[1, -1]], "less than nothing"),
        ([[2**50, 1]], "larger units"),
    ],
)
@pytest.mark.parametrize("solver", [LpSolver(), FastSolver()])
def test_what_is_no_matrix_of_counts(solver: MatrixSolver, counts: object, text: str) -> None:
    with pytest.raises(SolverError, match=text):
        solver.plan(matrix(counts), 0.1, 0.1, None)


# -- the reference --------------------------------------------------------------------------------------------------


def test_lp_finds_the_optimum_of_every_small_problem() -> None:
    """Against all plans in whole numbers, of which one is optimal."""
    generator = np.random.default_rng(1)
    for _ in range(40):
        counts = generator.integers(0, 4, (int(generator.integers(1, 4)), 3))
        alpha, beta = generator.choice([0, 0.1, 0.5, 1], 2)
        most = int(counts.sum(axis=1).max())
        plans = np.stack(np.meshgrid(*[np.arange(most + 1)] * 3), axis=-1).reshape(-1, 3)
        best = min(naive(list(plan), counts.tolist(), alpha, beta) for plan in plans)
        found = LpSolver().plan(counts, alpha, beta, None)
        assert found.objective == pytest.approx(best, rel=1e-9, abs=1e-12)
        assert found.gap <= 1e-9


def test_lp_says_what_went_wrong() -> None:
    class Hurried(LpSolver):
        time_limit = 0.0

    counts = np.random.default_rng(1).integers(0, 1000, (30, 60))
    with pytest.raises(SolverError, match=r"highs-ds: .*[Tt]ime limit"):
        Hurried().plan(counts, 0.1, 0.1, None)


# -- predictions ----------------------------------------------------------------------------------------------------


def history(*rows: tuple[int, ...] | list[int]) -> dict[RecurrenceId, list[ResourceSkyline]]:
    """Runs of containers of 1 GB and one vcore."""
    return {
        RecurrenceId("q", f"q_{number}"): [
            ResourceSkyline(f"q_{number}", Skyline.sampled([[1024 * count, count] for count in row], 5))
        ]
        for number, row in enumerate(rows)
    }


def vcores(skyline: Skyline, number: int) -> list[float]:
    return [skyline.at(5 * step)["vcores"] for step in range(number)]


def test_sample_of_two_runs() -> None:
    """What Hadoop's service answers for its own two-run sample."""
    found = FastSolver().solve("q", history(*SAMPLE), PLAIN)
    assert vcores(found.skyline, 6) == [1, 1, 1058, 2538, 2484, 0]
    assert [found.skyline.at(5 * step)["memory"] for step in range(6)] == [
        1024 * count for count in (1, 1, 1058, 2538, 2484, 0)
    ]
    assert found.gap == 0.0
    assert found.runs == ("q_0", "q_1")
    assert found.settings == PLAIN.fingerprint("fast")


def test_lp_agrees_on_the_sample() -> None:
    fast, reference = (solver.solve("q", history(*SAMPLE), PLAIN) for solver in (FastSolver(), LpSolver()))
    assert reference.objective == pytest.approx(fast.objective, rel=1e-12)
    assert reference.gap is not None
    assert reference.gap <= 1e-9


def test_too_few_runs() -> None:
    with pytest.raises(InvalidInput, match="less job runs than 3"):
        FastSolver().solve("q", history(*SAMPLE), replace(PLAIN, min_runs=3))


class Recorder(MatrixSolver):
    """Plans the maximum, and remembers the hints it was given."""

    name: ClassVar[str] = "recorder"

    def __init__(self) -> None:
        self.hints: list[Mapping[str, Any] | None] = []

    def plan(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        self.hints.append(warm)
        return Plan(counts.max(axis=0), 3.0, 2.0, 1 / 3, {"sum": int(counts.sum())})


def mixed() -> dict[RecurrenceId, list[ResourceSkyline]]:
    """One run without common containers: 3 GB on half a core, then 1 GB on two gpus as well."""
    steps = {0: {"memory": 3072.0, "vcores": 0.5}, 5: {"memory": 1024.0, "vcores": 0.5, "gpus": 2.0}, 10: {}}
    return {RecurrenceId("q", "q_0"): [ResourceSkyline("q_0", Skyline.of(steps))]}


def test_several_resources_make_one_prediction() -> None:
    once = replace(PLAIN, min_runs=1)
    found = Recorder().solve("q", mixed(), once)
    assert found.skyline == Skyline.of(
        {0: {"memory": 3072, "vcores": 0.5}, 5: {"memory": 1024, "vcores": 0.5, "gpus": 2}, 10: {}}
    )
    assert found.objective == 9.0
    assert found.gap == pytest.approx(1 / 3)


def test_hints_come_back_to_the_problem_they_are_of() -> None:
    once = replace(PLAIN, min_runs=1)
    solver = Recorder()
    warm = solver.solve("q", mixed(), once).warm
    solver.hints.clear()
    solver.solve("q", mixed(), once, warm=warm)
    assert solver.hints == [{"sum": 4}, {"sum": 100}, {"sum": 2}]
    solver.hints.clear()
    solver.solve("q", history(*SAMPLE), once, warm=warm)
    assert solver.hints == [None]


@pytest.mark.parametrize("warm", [{}, {"memory=1024,vcores=1": 7}, {"memory=1024,vcores=1": {"starts": "x"}}])
def test_hints_that_make_no_sense(warm: Mapping[str, Any]) -> None:
    found = FastSolver().solve("q", history(*SAMPLE), PLAIN, warm=warm)
    assert vcores(found.skyline, 5) == [1, 1, 1058, 2538, 2484]


def test_confidence_is_computed_if_asked_for() -> None:
    found = FastSolver().solve("q", history(*SAMPLE), SolverSettings())
    assert found.confidence is not None
    assert found.confidence.runs == 2
