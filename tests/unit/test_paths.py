"""The path of a step: who leaves it is flagged, and of those who are like the others hardly any."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.server.learning.past import PastRun
from retz.server.learning.paths import LAST_RUNS, MIN_RUNS, SLACK_MB, SLACK_S, bound, path_of


def run(number: int, seconds: float = 100.0, peak: float | None = 500.0, **more: object) -> PastRun:
    plain = PastRun(f"r{number}", number, 0.0, seconds, peak, 1000.0, 1000.0, 1.0, None, "finished")
    return plain._replace(**more)  # type: ignore[arg-type]


def test_too_few_runs_make_no_path() -> None:
    few = [run(number) for number in range(MIN_RUNS - 1)]
    assert path_of(few) == (None, None)
    assert None not in path_of([*few, run(9)])
    assert path_of([*few, run(9, outcome="failed", partial=True)]) == (None, None)
    assert path_of([*few, run(9, peak=None)]).mem_mb is None


def test_a_step_of_several_jobs_has_no_bound_of_time() -> None:
    path = path_of([*(run(number) for number in range(9)), run(9, jobs=3)])
    assert path.seconds is None and path.mem_mb is not None


def test_only_the_last_runs_say_what_is_usual() -> None:
    path = path_of([*(run(number, 9000.0) for number in range(20)), *(run(20 + n) for n in range(LAST_RUNS))])
    assert path.seconds is not None
    assert (path.seconds.usual, path.seconds.runs) == (100.0, LAST_RUNS)


@pytest.mark.parametrize(("values", "usual"), [([0.0] * 5, 0.0), ([1e-9] * 9, 1e-9), ([1e15] * 5, 1e15)])
def test_tiny_and_huge_values(values: list[float], usual: float) -> None:
    found = bound(values, SLACK_S)
    assert found is not None and math.isfinite(found.most)
    assert found.usual == pytest.approx(usual) and found.most >= found.usual + SLACK_S


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.5])
@pytest.mark.parametrize(("runs", "most_false"), [(MIN_RUNS, 0.04), (10, 0.025), (30, 0.02)])
def test_noise_is_seldom_flagged_and_what_is_far_off_always(spread: float, runs: int, most_false: float) -> None:
    noise = random.Random(runs)
    false = missed = 0
    for _ in range(2000):
        past = [1000 * math.exp(noise.gauss(0, spread)) for _ in range(runs)]
        found = bound(past, SLACK_MB)
        assert found is not None
        false += 1000 * math.exp(noise.gauss(0, spread)) > found.most
        missed += 1000 * math.exp(spread * 9) * (1.5 if spread < 0.1 else 1) < found.most
    assert false / 2000 <= most_false
    assert missed / 2000 <= (0.15 if runs == MIN_RUNS else 0.03)


@given(st.lists(st.floats(0, 1e9), min_size=MIN_RUNS, max_size=50))
def test_no_run_of_the_past_would_be_flagged(values: list[float]) -> None:
    found = bound(values, SLACK_S)
    assert found is not None
    assert max(values) <= found.most and found.usual <= found.most
