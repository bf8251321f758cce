"""The path of a step: who leaves it is flagged, and of those who are like the others hardly any."""

from __future__ import annotations

import math
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.engine.series import Series
from retz.model.job import Usage
from retz.server.learning.curves import curve_of
from retz.server.learning.past import PastRun
from retz.server.learning.paths import LAST_RUNS, MIN_RUNS, SLACK_MB, SLACK_S, Path, bound, path_of


def run(number: int, seconds: float = 100.0, peak: float | None = 500.0, **more: object) -> PastRun:
    plain = PastRun(f"r{number}", number, 0.0, seconds, peak, 1000.0, 1000.0, 1.0, None, "finished", longest_s=seconds)
    return plain._replace(**more)  # type: ignore[arg-type]


def test_too_few_runs_make_no_path() -> None:
    few = [run(number) for number in range(MIN_RUNS - 1)]
    nothing = Path(None, None)
    assert path_of(few) == nothing
    known = path_of([*few, run(9)])
    assert known.seconds is not None and known.mem_mb is not None
    assert path_of([*few, run(9, outcome="failed", partial=True)]) == nothing
    assert path_of([*few, run(9, peak=None)]).mem_mb is None


def test_of_several_jobs_of_a_run_the_longest_tells_how_long_is_usual() -> None:
    path = path_of([run(number, 20.0, jobs=3, longest_s=100.0) for number in range(9)])
    assert path.seconds is not None and path.seconds.usual == 100.0


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


# -- what is held when ---------------------------------------------------------------------------------------------

Noise = random.Random
STAGES = ((1.0, 200.0), (2.0, 1000.0), (1.0, 300.0), (1.0, 2500.0), (3.0, 400.0))
"""(share of the time, MiB)."""
EACH_S = 5.0


def held(noise: Noise, spread: float, stages: tuple[tuple[float, float], ...] = STAGES) -> list[float]:
    """MiB in each second of a run of some 300 s: everything about it varies by so much."""
    whole, seconds = noise.lognormvariate(0, spread), 300 * noise.lognormvariate(0, spread)
    lengths = [share * noise.lognormvariate(0, spread / 2) for share, _ in stages]
    memory = [most * whole * noise.lognormvariate(0, spread / 4) for _, most in stages]
    return [
        mib * noise.lognormvariate(0, spread / 4)
        for mib, length in zip(memory, lengths, strict=True)
        for _ in range(round(seconds * length / sum(lengths)))
    ]


def sampled(memory: list[float]) -> tuple[Usage, list[tuple[float, float]]]:
    """What the engine would measure: the usage, and what every look sees (seconds, MiB in the latest point)."""
    series, looks = Series(EACH_S), []
    for second, mib in enumerate(memory, 1):
        series.add(float(second), 0.0, mib)
        if series.points and second % EACH_S == 0:
            looks.append((float(second), float(series.points[-1][1])))
    series.end(float(len(memory)), 0.0)
    points = tuple(series.points)
    return Usage(max_rss_mb=max(memory), interval_s=series.interval if points else 0.0, series=points), looks


def past_run(number: int, memory: list[float]) -> PastRun:
    usage, seconds = sampled(memory)[0], float(len(memory))
    return run(number, seconds, usage.max_rss_mb, curve=curve_of(usage, seconds, usage.max_rss_mb))


def leaves(path: Path, memory: list[float]) -> float | None:
    """When a run is above its band at two looks in a row; None if never."""
    assert path.band is not None
    above = False
    for seconds, mib in sampled(memory)[1]:
        usual = path.band.at(seconds)
        before, above = above, usual is not None and mib > usual.most
        if before and above:
            return seconds
    return None


def usual_path(noise: Noise, spread: float, runs: int) -> Path:
    return path_of([past_run(number, held(noise, spread)) for number in range(runs)])


def test_a_run_that_holds_more_than_usual_at_its_time_leaves_the_band_long_before_the_peak_of_whole_runs() -> None:
    noise = random.Random(1)
    path = usual_path(noise, 0.02, 10)
    early = leaves(path, held(noise, 0.02, ((1.0, 900.0), *STAGES[1:])))
    assert early is not None and early <= 20
    late = leaves(path, held(noise, 0.02, (*STAGES[:4], (3.0, 2500.0))))
    assert late is not None and late > 5 / 8 * 300, "a stage whose memory is not given back"
    assert path.mem_mb is not None and path.mem_mb.most > 2500


def test_a_run_like_the_others_or_one_whose_stages_come_a_little_early_stays_within() -> None:
    noise = random.Random(2)
    path = usual_path(noise, 0.02, 10)
    assert leaves(path, held(noise, 0.02)) is None
    quicker = [mib for second, mib in enumerate(held(noise, 0.02)) if second % 5]
    assert leaves(path, quicker) is None


@pytest.mark.parametrize(("runs", "most_false"), [(6, 0.05), (15, 0.03), (30, 0.03)])
@pytest.mark.parametrize("spread", [0.05, 0.2, 0.4])
def test_over_its_whole_time_a_run_like_those_before_seldom_leaves_the_band(
    spread: float, runs: int, most_false: float
) -> None:
    noise, false, tried = random.Random(runs), 0, 0
    for _ in range(40):
        path = usual_path(noise, spread, runs)
        for _ in range(5):
            false += leaves(path, held(noise, spread)) is not None
            tried += 1
    assert false / tried <= most_false


def test_where_durations_differ_widely_the_time_tells_little_and_only_peaks_count() -> None:
    noise = random.Random(3)
    runs = [held(noise, 0.02) for _ in range(10)]
    path = path_of([past_run(number, mib * (1 + number % 4)) for number, mib in enumerate(runs)])
    assert leaves(path, [2000.0] * 200) is None


def test_after_the_end_of_the_others_there_is_no_band() -> None:
    path = usual_path(random.Random(4), 0.02, 10)
    assert path.band is not None and path.band.at(250.0) is not None
    assert path.band.at(3000.0) is None and path.band.at(1e12) is None


def test_ten_thousand_paths_take_forty_megabytes() -> None:
    runs = [past_run(number, held(random.Random(number), 0.1)) for number in range(LAST_RUNS)]
    tracemalloc.start()
    paths = [path_of([each._replace(run=f"{number}") for each in runs]) for number in range(50)]
    for path in paths:
        assert path.band is not None
        for seconds in range(0, 60, 5):  # it is kept for a minute, with a look every five seconds
            path.band.at(float(seconds))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size / len(paths) < 4000


def test_runs_without_a_curve_say_nothing_of_the_time() -> None:
    assert path_of([run(number) for number in range(20)]).band is None


@given(st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 1e7)), min_size=MIN_RUNS, max_size=8), st.floats(0, 1e8))
def test_no_duration_or_peak_breaks_the_band(runs: list[tuple[float, float]], seconds: float) -> None:
    usage = Usage(interval_s=1.0, series=((1, 1), (1, 3), (1, 2)))
    path = path_of([
        run(number, length, peak, curve=curve_of(usage, max(length, 1.0), 3.0))
        for number, (length, peak) in enumerate(runs)
    ])  # fmt: skip
    assert path.band is not None
    usual = path.band.at(seconds)
    assert usual is None or 0 <= usual.usual <= usual.most < math.inf
