"""Plans without a model."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.config import load_class
from estimator.errors import InvalidInput
from estimator.model import History, RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.solver.base import Solver, SolverSettings
from estimator.solver.baselines import Baseline, LastRunSolver, MaxSolver, MeanOfTwoSolver, PercentileSolver
from estimator.solver.kernel import objective
from estimator.solver.quantiles import quantile, rank

PLAIN = SolverSettings(confidence=False)
COUNTS = np.array([[9, 0, 4, 1], [2, 2, 2, 0], [1, 5, 0, 0]], dtype=np.int64)


def history(rows: list[list[int]]) -> History:
    return {
        RecurrenceId("p", str(place)): [
            ResourceSkyline("j", Skyline.sampled([[1024.0 * count, count] for count in counts], 5))
        ]
        for place, counts in enumerate(rows)
    }


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (LastRunSolver(), [1, 5, 0, 0]),
        (MaxSolver(), [9, 5, 4, 1]),
        (MeanOfTwoSolver(), [2, 4, 1, 0]),  # (2 + 1) / 2 rounded up
        (PercentileSolver(), [9, 5, 4, 1]),
    ],
)
def test_what_each_plans(solver: Baseline, expected: list[int]) -> None:
    plan = solver.plan(COUNTS, 0.1, 0.1, None)
    assert plan.counts.tolist() == expected
    assert plan.objective == objective(expected, COUNTS, 0.1, 0.1)


def test_one_run_is_its_own_mean() -> None:
    assert MeanOfTwoSolver().expect(COUNTS[:1]).tolist() == COUNTS[0].tolist()


def test_the_percentile_leaves_rare_outliers_out() -> None:
    counts = np.array([[3]] * 38 + [[50]] * 2, dtype=np.int64)
    assert PercentileSolver().expect(counts).tolist() == [3]
    assert PercentileSolver().expect(counts[1:]).tolist() == [50]  # 2 of 39 are more than 5 %


def test_as_predictions() -> None:
    prediction = LastRunSolver().solve("p", history([[4, 4], [1, 3, 2]]), PLAIN)
    assert prediction.skyline == Skyline.sampled([[1024, 1], [3072, 3], [2048, 2]], 5)
    assert (prediction.solver, prediction.objective, prediction.gap) == ("last", None, None)


@pytest.mark.parametrize("name", ["last", "max", "mean2", "p95"])
def test_they_are_found_by_their_names_and_refuse_what_is_too_thin(name: str) -> None:
    solver = load_class(name, Solver)()  # type: ignore[type-abstract]
    assert solver.name == name
    with pytest.raises(InvalidInput, match="containing less job runs than 2"):
        solver.solve("p", history([[1]]), PLAIN)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 100))
def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(values: list[int], percent: int) -> None:
    found = int(quantile(np.array(values, dtype=np.int64), percent))
    share = Fraction(sum(value <= found for value in values), len(values))
    below = Fraction(sum(value < found for value in values), len(values))
    assert found in values and share >= Fraction(percent, 100) > below
    assert found == sorted(values)[rank(len(values), percent)]
