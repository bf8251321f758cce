"""The fast solver finds what the linear programme finds, and proves it.

``ESTIMATOR_SWEEP=20000`` compares so many histories instead of some thousands.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import SolverError
from estimator.skyline import FloatArray, IntArray
from estimator.solver import kernel, lazy, master
from estimator.solver.blocks import Problem
from estimator.solver.fast import FastSolver
from estimator.solver.greedy import applies
from estimator.solver.kernel import Plan
from estimator.solver.lp import LpSolver

HISTORIES = int(os.environ.get("ESTIMATOR_SWEEP", "3000"))
PARTS = 8
EXACT = 1e-9
ALPHAS = (0.0, 0.02, 0.1, 0.1, 0.1, 0.3, 0.9, 1.0)
BETAS = (0.0, 0.1, 0.1, 0.5, 1.0)
Shape = Callable[[np.random.Generator, int, int, int], IntArray]


def iid(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    return generator.integers(0, most + 1, (n, number))


def staged(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    """A few stages; every run has its own height and its own pace."""
    heights = generator.integers(0, most + 1, 4)
    stage = (np.arange(number) * generator.uniform(0.7, 1.3, (n, 1)) * 4 / number).astype(int)
    steps = np.append(heights, 0)[np.minimum(stage, 4)] * generator.uniform(0.8, 1.2, (n, 1))
    return np.asarray(np.rint(steps), dtype=np.int64)


def spiky(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    spikes = generator.random((n, number)) < 0.1
    return np.where(spikes, generator.integers(0, most + 1, (n, number)), 1)


def constant(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    return np.repeat(generator.integers(0, most + 1, (n, 1)), number, axis=1)


def equal(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    return np.repeat(generator.integers(0, most + 1, (1, number)), n, axis=0)


def gaps(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    """Intervals in which nobody, and runs in which nothing held anything."""
    counts = iid(generator, n, number, most)
    counts[:, generator.random(number) < 0.5] = 0
    counts[generator.random(n) < 0.2] = 0
    return counts


def ties(generator: np.random.Generator, n: int, number: int, most: int) -> IntArray:
    return generator.integers(0, 3, (n, number)) * (most // 2)


SHAPES: tuple[Shape, ...] = (iid, staged, spiky, constant, equal, gaps, ties)


def histories(seed: int, many: bool = False) -> tuple[IntArray, float, float]:
    """A history, alpha and beta: small, or of so many runs that the block method is asked."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(12, 41)) if many else int(generator.integers(1, 11))
    number, most = int(generator.integers(1, 13)), int(generator.choice([1, 10, 1000, 10**6]))
    counts = SHAPES[seed % len(SHAPES)](generator, n, number, most)
    return counts, float(generator.choice(ALPHAS)), float(generator.choice(BETAS))


def best(counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None = None) -> Plan:
    """The plan, after looking at everything it says about itself."""
    plan = FastSolver().plan(counts, alpha, beta, warm)
    assert plan.counts.dtype == np.int64
    assert plan.counts.shape == (counts.shape[1],)
    assert (plan.counts >= 0).all()
    assert plan.objective == pytest.approx(kernel.objective(plan.counts, counts, alpha, beta), rel=1e-12, abs=1e-300)
    assert 0 <= plan.lower_bound <= plan.objective
    assert plan.gap == kernel.gap(plan.objective, plan.lower_bound)
    assert plan.gap <= EXACT
    return plan


@pytest.mark.parametrize("part", range(PARTS))
def test_thousands_of_histories_against_the_programme(part: int) -> None:
    for seed in range(part, HISTORIES, PARTS):
        counts, alpha, beta = histories(seed, many=seed % 6 == 0)
        found, reference = best(counts, alpha, beta), LpSolver().plan(counts, alpha, beta, None)
        difference = abs(found.objective - reference.objective)
        assert difference <= EXACT * reference.objective, f"seed {seed}: {alpha=} {beta=} {counts.tolist()}"


matrices = st.tuples(st.integers(1, 14), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 40), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    ).map(lambda rows: np.array(rows, dtype=np.int64))
)
probabilities = st.sampled_from((0.0, 0.05, 0.1, 0.25, 0.5, 0.9, 1.0)) | st.floats(0.001, 0.999)


@settings(max_examples=100, deadline=None)
@given(matrices, probabilities, probabilities)
def test_any_history_against_the_programme(counts: IntArray, alpha: float, beta: float) -> None:
    reference = LpSolver().plan(counts, alpha, beta, None).objective
    assert best(counts, alpha, beta).objective == pytest.approx(reference, rel=EXACT, abs=1e-15)


# -- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_runs_changes_nothing(seed: int) -> None:
    counts, alpha, beta = histories(seed, many=seed % 2 == 0)
    order = np.random.default_rng(seed).permutation(len(counts))
    one, other = best(counts, alpha, beta), best(counts[order], alpha, beta)
    assert one.counts.tolist() == other.counts.tolist()
    assert one.warm == other.warm


@pytest.mark.parametrize("factor", [2, 3, 1000])
@pytest.mark.parametrize("seed", range(14))
def test_scaling_runs_and_beta_scales_the_plan(seed: int, factor: int) -> None:
    """The missing part is relative to a run's total, so it is ``beta`` that has to grow with the counts."""
    counts, _, beta = histories(seed, many=seed % 2 == 0)
    one, other = best(counts, 0.1, beta), best(counts * factor, 0.1, beta * factor)
    assert other.objective == pytest.approx(one.objective * factor, rel=1e-9)
    if applies(len(counts), 0.1):  # there the plan is unique
        assert other.counts.tolist() == (one.counts * factor).tolist()
    scaled = kernel.objective(one.counts * factor, counts * factor, 0.1, beta * factor)
    assert scaled == pytest.approx(other.objective, rel=1e-9)


def plans(number: int, most: int) -> FloatArray:
    """All plans in whole numbers up to ``most``, in lexicographical order."""
    return np.array(list(itertools.product(range(most + 1), repeat=number)), dtype=np.float64)


def costs(every: FloatArray, counts: IntArray, alpha: float, beta: float) -> FloatArray:
    deficit = counts[None, :, :] - every[:, None, :]
    backlog = np.maximum(np.cumsum(deficit[..., ::-1], axis=-1).max(axis=-1), 0).sum(axis=-1)
    missing = (np.maximum(deficit, 0).sum(axis=-1) / np.maximum(counts.sum(axis=1), 1)).sum(axis=-1)
    over = np.maximum(-deficit, 0).sum(axis=(1, 2))
    return np.asarray((alpha * over + (1 - alpha) * backlog + beta * missing) / len(counts))


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_for_few_runs_the_first_of_all_optimal_plans(alpha: float, beta: float) -> None:
    """The first optimum in lexicographical order. Totals of 2, 3 and 6 make weights add up to one another."""
    generator = np.random.default_rng(7)
    for _ in range(60):
        counts = generator.integers(0, 4, (int(generator.integers(1, 5)), int(generator.integers(1, 4))))
        every = plans(counts.shape[1], int(counts.sum(axis=1).max()))
        cost = costs(every, counts, alpha, beta)
        first = every[np.flatnonzero(cost <= cost.min() + 1e-12)[0]]
        assert best(counts, alpha, beta).counts.tolist() == first.tolist(), counts.tolist()


def test_equal_sums_of_different_weights_are_ties() -> None:
    """1/3 + 1/6 = 1/2: columns 0 and 1 cost the same to raise, so the later one is raised, whatever rounding says."""
    counts = np.array([[0, 1, 1], [1, 0, 2], [1, 0, 5], [0, 0, 6]])
    every = plans(3, 7)
    cost = costs(every, counts, 0.1, 1.0)
    first = every[np.flatnonzero(cost <= cost.min() + 1e-12)[0]]
    assert best(counts, 0.1, 1.0).counts.tolist() == first.tolist()


# -- ends of the ranges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 30])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_equal_runs_are_predicted_as_they_were(n: int, beta: float) -> None:
    row = [3, 0, 0, 7, 1, 1_000_000]
    found = best(np.tile(np.array(row), (n, 1)), 0.1, beta)
    assert found.counts.tolist() == row
    assert found.objective == 0.0


def test_free_over_allocation_takes_the_maximum() -> None:
    counts, _, _ = histories(14, many=True)
    found = best(counts, 0.0, 0.1)
    assert found.counts.tolist() == counts.max(axis=0).tolist()
    assert found.objective == 0.0


def test_free_over_allocation_that_nothing_asks_for_stays_small() -> None:
    found = best(np.array([[5, 1, 0], [0, 3, 2]]), 0.0, 0.0)
    assert found.objective == 0.0
    assert found.counts.sum() == 6  # the largest total, no more


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_free_backlogs_plan_little(beta: float) -> None:
    counts = histories(21, many=True)[0] + 10
    found = best(counts, 1.0, beta)
    assert (found.counts <= counts.min(axis=0)).all()


@pytest.mark.parametrize("beta", [1e-12, 1e-9, 1e-6])
def test_free_backlogs_and_hardly_any_price_of_missing(beta: float) -> None:
    assert best(histories(21, many=True)[0] + 10, 1.0, beta).gap == 0.0


@pytest.mark.parametrize("counts", [[[1, 10**6, 1], [10**6, 1, 1], [1, 1, 1]] * 2, [[5, 0, 9], [10**6, 3, 2]] * 8])
@pytest.mark.parametrize("alpha", [1 / 3, 0.5, 1 - 1e-6])
@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_bounds_hold_without_trust_in_the_linear_programme(
    monkeypatch: pytest.MonkeyPatch, counts: list[list[int]], alpha: float, beta: float
) -> None:
    """Whatever HiGHS says: a bound that is no bound would call a bad plan optimal."""
    monkeypatch.setattr(lazy, "_ROUNDS", 1)
    found = best(np.array(counts), alpha, beta)
    assert found.lower_bound <= LpSolver().plan(np.array(counts), alpha, beta, None).objective


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (30, 1), (30, 5)])
def test_nothing_held_nothing_planned(shape: tuple[int, int], alpha: float) -> None:
    found = best(np.zeros(shape, dtype=np.int64), alpha, 0.1)
    assert not found.counts.any()
    assert found.objective == 0.0


# -- the block method -----------------------------------------------------------------------------------------------


def large(n: int, number: int, seed: int = 3) -> IntArray:
    return staged(np.random.default_rng(seed), n, number, 500) + iid(np.random.default_rng(seed), n, number, 20)


@pytest.mark.parametrize(
    "counts",
    [
        large(60, 200),
        large(200, 40),
        iid(np.random.default_rng(1), 60, 200, 10**6),
        spiky(np.random.default_rng(1), 60, 200, 10**5),
        ties(np.random.default_rng(1), 60, 200, 1000),
        iid(np.random.default_rng(1), 3000, 1, 10**6),
        np.abs(np.cumsum(np.random.default_rng(1).integers(-5, 6, (60, 200)), axis=1)),
    ],
    ids=["staged", "wide", "iid", "spiky", "ties", "one interval", "walk"],
)
@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.1), (0.5, 0.0), (0.3, 1.0)])
def test_large_histories_prove_themselves(counts: IntArray, alpha: float, beta: float) -> None:
    assert best(counts, alpha, beta).objective > 0


def test_equal_neighbours_are_merged_without_loss() -> None:
    counts, alpha, beta = large(20, 12), 0.1, 0.1
    longer = np.repeat(counts, [1, 7, 2, 1, 1, 30, 2, 3, 1, 1, 5, 4], axis=1)
    assert Problem(longer, alpha, beta).shape == Problem(counts, alpha, beta).shape
    reference = LpSolver().plan(longer, alpha, beta, None)
    assert best(longer, alpha, beta).objective == pytest.approx(reference.objective, rel=EXACT)


@settings(max_examples=60, deadline=None)
@given(matrices, probabilities, st.floats(0, 1), st.integers(0, 2**32))
def test_any_multipliers_give_a_lower_bound(counts: IntArray, alpha: float, beta: float, seed: int) -> None:
    """The certificate does not depend on what HiGHS says."""
    if alpha == beta == 0:
        beta = 0.1
    generator = np.random.default_rng(seed)
    problem = Problem(counts, alpha, beta)
    n, number = problem.shape
    runs, columns = (axis.ravel() for axis in np.indices((n, number)))
    cuts = master.Cuts.of(runs, columns)
    multipliers = generator.exponential(generator.choice([0.001, 0.1, 10]), n * number)
    bound = lazy.lower_bound(problem, cuts, multipliers) / n
    cost = LpSolver().plan(counts, alpha, beta, None).objective
    assert bound <= cost * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("alpha", [0.0, 5e-324])
@pytest.mark.parametrize("beta", [5e-324, 2.3e-308, 1e-300])
@pytest.mark.parametrize("runs", [1, 30])
def test_parameters_that_are_hardly_a_number(alpha: float, beta: float, runs: int) -> None:
    counts = np.array([[1, 0, 3]] * runs)
    plan = best(counts, alpha, beta)
    assert plan.counts.sum() == 4 and plan.objective <= 1e-299 and plan.gap <= 1e-9


# -- starting from the solve before -----------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of rounds of each use of the block method."""
    rounds: list[int] = []
    method = lazy.lazy

    def spied(problem: Problem, warm: Mapping[str, Any] | None, tolerance: float) -> lazy.Found:
        found = method(problem, warm, tolerance)
        rounds.append(found.rounds)
        return found

    monkeypatch.setattr(lazy, "lazy", spied)
    return rounds


def test_one_more_run_takes_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = counted(monkeypatch)
    counts = large(200, 300)
    warm = json.loads(json.dumps(best(counts[:-1], 0.1, 0.1).warm))
    scratch, resumed = best(counts, 0.1, 0.1), best(counts, 0.1, 0.1, warm)
    assert resumed.objective == pytest.approx(scratch.objective, rel=EXACT)
    assert rounds[2] <= rounds[1] / 2


def test_hints_are_small() -> None:
    assert len(json.dumps(best(large(200, 300), 0.1, 0.1).warm)) < 20_000


@pytest.mark.parametrize(
    "warm",
    [
        {},
        {"starts": [0]},
        {"starts": [0, 1], "sums": [1.0]},
        {"starts": [], "sums": []},
        {"starts": [1, 2], "sums": [2.0, 1.0]},
        {"starts": [0, 2, 1], "sums": [3.0, 2.0, 1.0]},
        {"starts": [0, 1], "sums": [1.0, 2.0]},
        {"starts": [0, 1], "sums": [1.0, -2.0]},
        {"starts": [0, 1], "sums": [float("nan"), 1.0]},
        {"starts": [0, 1], "sums": [float("inf"), 1.0]},
        {"starts": "some", "sums": None},
        {"starts": [0, 10**30], "sums": [1.0, 0.0]},
        {"starts": {"0": 1}, "sums": [[1.0]]},
        {"starts": [0, 5, 10**6], "sums": [1e300, 1e200, 0.0]},
        {"starts": [0, 5], "sums": [0.0, 0.0]},
    ],
)
def test_hints_of_other_counts_or_none_at_all(warm: Mapping[str, Any]) -> None:
    counts = large(30, 20)
    reference = best(counts, 0.1, 0.1).objective
    assert best(counts, 0.1, 0.1, warm).objective == pytest.approx(reference, rel=EXACT)


@pytest.mark.parametrize("seed", range(10))
def test_hints_of_any_other_history(seed: int) -> None:
    counts, other = large(30, 20, seed), large(25, 60, seed + 100)
    warm = best(other, 0.3, 0.1).warm
    reference = best(counts, 0.1, 0.1).objective
    assert best(counts, 0.1, 0.1, warm).objective == pytest.approx(reference, rel=EXACT)


def test_hints_where_many_runs_hold_the_same() -> None:
    """Many pieces have no length there; tangents near to one another must still agree on which they count."""
    rows = ["220", "011", "102", "012", "222", "212", "112", "102", "022", "001", "221", "102"]
    counts = np.array([[int(digit) for digit in row] for row in rows])
    reference = best(counts, 0.5, 0.1).objective
    for total in range(8):
        found = best(counts, 0.5, 0.1, {"starts": [0], "sums": [float(total)]})
        assert found.objective == pytest.approx(reference, rel=EXACT)


# -- when the block method does not get there -------------------------------------------------------------------------


def test_too_few_rounds_are_made_up_for_by_the_programme(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = large(30, 20)
    reference = best(counts, 0.1, 0.1).objective
    monkeypatch.setattr(lazy, "_ROUNDS", 1)
    assert best(counts, 0.1, 0.1).objective == pytest.approx(reference, rel=EXACT)


def test_an_open_gap_of_a_large_history_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = large(60, 400)
    reference = best(counts, 0.1, 0.1).objective
    monkeypatch.setattr(lazy, "_ROUNDS", 1)
    found = FastSolver().plan(counts, 0.1, 0.1, None)
    assert found.gap > EXACT
    assert found.lower_bound <= reference <= found.objective


def test_a_failing_master_programme_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = large(30, 20)
    reference = best(counts, 0.1, 0.1).objective

    class Failed:
        status, message = 4, "numerical trouble"

    monkeypatch.setattr(master, "linprog", lambda *_, **__: Failed())
    assert best(counts, 0.1, 0.1).objective == pytest.approx(reference, rel=EXACT)
    with pytest.raises(SolverError, match="highs-ipm: numerical trouble"):
        lazy.lazy(Problem(counts, 0.1, 0.1), None, EXACT)
