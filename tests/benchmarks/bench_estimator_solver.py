"""What a prediction costs: the fast solver against HiGHS, at the largest size, and starting from the solve before.

Run: ``python -m tests.benchmarks.bench_estimator_solver [HIGHS_LIMIT_S]``. Prints one JSON object. Only the solve is
timed, counts in and plan out, on one core; ratios are of times from one process. HiGHS is stopped after the limit
(120 s), and the ratio is then at least what is printed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from estimator.errors import SolverError
from estimator.skyline import IntArray
from estimator.solver.fast import FastSolver
from estimator.solver.kernel import Plan
from estimator.solver.lp import LpSolver
from estimator.solver.matrix import MatrixSolver

ALPHA = BETA = 0.1
SIZES = ((100, 100), (10, 1000), (100, 1000))
LARGEST = (1000, 10_000)
GROWING = (1000, 1000)
LIMIT_S = 120.0


def recurring(runs: int, intervals: int, seed: int = 1) -> IntArray:
    """Skylines of a recurring job, ``int64[runs, intervals]``: overlapping stages with a rise, a level and a tail.

    Each run begins and ends its stages a little earlier or later, holds a little more or less, and is noisy.
    """
    generator = np.random.default_rng(seed)
    stages = int(generator.integers(3, 6))
    starts, lengths = np.sort(generator.uniform(0, 0.7, stages)), generator.uniform(0.1, 0.4, stages)
    heights = generator.uniform(30, 200, stages)
    clock = np.linspace(0, 1, intervals) / generator.uniform(0.75, 1.0, (runs, 1))
    held = np.ones((runs, intervals))
    for start, length, height in zip(starts, lengths, heights, strict=True):
        first = start + generator.normal(0, 0.01, (runs, 1))
        last = first + length * generator.uniform(0.8, 1.25, (runs, 1))
        level = height * generator.uniform(0.85, 1.15, (runs, 1))
        held += level * np.clip((clock - first) / 0.03, 0, 1) * np.clip((last - clock) / 0.1, 0, 1)
    held *= np.exp(generator.normal(0, 0.08, (runs, intervals)))
    held[clock > 1] = 0
    return np.rint(held).astype(np.int64)


def timed(solver: MatrixSolver, counts: IntArray, warm: Mapping[str, Any] | None = None) -> tuple[Plan, float]:
    """The plan and its seconds."""
    begin = time.perf_counter()
    plan = solver.plan(counts, ALPHA, BETA, warm)
    return plan, time.perf_counter() - begin


def median(counts: IntArray, warm: Mapping[str, Any] | None = None, rounds: int = 5) -> tuple[Plan, float]:
    """The fast solver's plan, and the median of its seconds; the first time, which loads code, is not counted."""
    measured = [timed(FastSolver(), counts, warm) for _ in range(rounds + 1)][1:]
    return measured[0][0], statistics.median(seconds for _, seconds in measured)


def against_highs(runs: int, intervals: int, limit: float) -> dict[str, Any]:
    """Ratio of times; ``stopped`` if HiGHS did not get to the end, so that the true ratio is larger."""
    counts = recurring(runs, intervals)
    plan, seconds = median(counts)
    reference = LpSolver()
    reference.time_limit = limit
    found: dict[str, Any] = {"runs": runs, "intervals": intervals, "fast_ms": round(seconds * 1e3, 2), "gap": plan.gap}
    begin = time.perf_counter()
    try:
        other, taken = timed(reference, counts)
    except SolverError:
        taken = time.perf_counter() - begin
        return {**found, "highs_s": round(taken, 2), "ratio": round(taken / seconds, 1), "stopped": True}
    difference = abs(other.objective - plan.objective) / plan.objective
    return {**found, "highs_s": round(taken, 2), "ratio": round(taken / seconds, 1), "difference": difference}


def largest() -> dict[str, Any]:
    """Time and memory of the largest size, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_estimator_solver", "largest"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(done.stdout))


def largest_here() -> dict[str, Any]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    plan, seconds = timed(FastSolver(), recurring(*LARGEST))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "runs": LARGEST[0],
        "intervals": LARGEST[1],
        "seconds": round(seconds, 2),
        "peak_mb": round(peak / 1e6),
        "gap": plan.gap,
    }


def one_more_run() -> dict[str, Any]:
    """From scratch against starting from the prediction without the newest run."""
    counts = recurring(*GROWING)
    before = FastSolver().plan(counts[:-1], ALPHA, BETA, None)
    scratch, seconds = median(counts, rounds=3)
    resumed, less = median(counts, before.warm, rounds=3)
    return {
        "scratch_ms": round(seconds * 1e3, 1),
        "resumed_ms": round(less * 1e3, 1),
        "ratio": round(seconds / less, 1),
        "difference": abs(resumed.objective - scratch.objective) / scratch.objective,
    }


def run(limit: float = LIMIT_S) -> dict[str, Any]:
    """All figures."""
    return {
        "against_highs": [against_highs(*size, limit) for size in SIZES],
        "largest": largest(),
        "one_more_run": one_more_run(),
    }


def main() -> None:
    if sys.argv[1:] == ["largest"]:
        print(json.dumps(largest_here()))
        return
    print(json.dumps(run(*(float(each) for each in sys.argv[1:])), indent=1))


if __name__ == "__main__":
    main()
