"""The images: what is in them, told from the SVG; that they are what they claim to be; what the drawing says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace

import pytest

from estimator.backtest import backtest
from estimator.config import EstimatorConfig
from estimator.drawing import MOST_IN_TERMINAL, MOST_RUNS, Drawing, drawing, series, shortened, text_picture
from estimator.errors import InvalidInput
from estimator.model import Prediction, RecurrenceId, ResourceSkyline
from estimator.plot import plot_backtest, plot_prediction
from estimator.plot_sizes import plot_sizes
from estimator.sizeview import PastSize, SizedStep, size_picture, size_text
from estimator.skyline import Skyline
from estimator.skylinestore.base import Runs
from estimator.solver.base import SolverSettings
from estimator.solver.baselines import MaxSolver

GB = 1024.0
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}


def history(count: int, pipeline: str = "nightly", gpus: bool = False, stretch: int = 1) -> Runs:
    """Runs of two stages, each a bit higher and longer than the one before."""
    runs: Runs = {}
    for index in range(count):
        steps: dict[int, Mapping[str, float]] = {
            0: {"memory": GB * (1 + index % 7), "vcores": 1.0},
            10 * stretch: {"memory": 8 * GB, "vcores": 8.0, **({"gpus": 2.0} if gpus else {})},
            (30 + index % 5) * stretch: {},
        }
        runs[RecurrenceId(pipeline, f"r{index}")] = [
            ResourceSkyline(f"j{index}", Skyline.of(steps), container={"memory": GB, "vcores": 1.0})
        ]
    return runs


def predicted(runs: Runs) -> Prediction:
    return MaxSolver().solve(next(iter(runs)).pipeline, runs, SolverSettings(min_runs=1))


def drawn(runs: Runs, resource: str = "memory") -> Drawing:
    return drawing(runs, predicted(runs), resource)


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_each_format_is_what_it_claims(form: str) -> None:
    runs = history(4)
    picture = plot_prediction(runs, predicted(runs), format=form)
    assert picture.startswith(MAGIC[form])
    assert len(picture) > 4000


def test_the_same_data_give_the_same_bytes() -> None:
    runs = history(3)
    prediction = predicted(runs)
    for form in MAGIC:
        assert plot_prediction(runs, prediction, format=form) == plot_prediction(runs, prediction, format=form)


def lines_of(svg: str) -> int:
    return len(re.findall(r'<g id="line2d_\d+">\s*<path', svg))


def test_each_run_is_a_line() -> None:
    few, more = (plot_prediction(runs, predicted(runs), format="svg").decode() for runs in (history(2), history(9)))
    assert lines_of(more) - lines_of(few) == 7


@pytest.mark.parametrize(
    ("runs", "resource"),
    [
        (history(1), "memory"), (history(2), "vcores"), (history(3, gpus=True), "gpus"), (history(250), "memory"),
        (history(3, stretch=5000), "memory"), (history(3, "Räksmörgås $x_2$ 日本\n\x1b[31m" + "long-" * 80), "memory"),
    ],
)  # fmt: skip
def test_all_shapes_are_drawn_without_complaints(runs: Runs, resource: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = plot_prediction(runs, predicted(runs), resource=resource)
    assert len(picture) > 10_000


def test_without_confidence_there_is_no_band() -> None:
    runs = history(3)
    prediction = replace(predicted(runs), confidence=None)
    assert drawing(runs, prediction).upper == []
    assert plot_prediction(runs, prediction).startswith(MAGIC["png"])


def test_what_cannot_be_drawn_is_refused() -> None:
    runs = history(2)
    prediction = predicted(runs)
    with pytest.raises(InvalidInput, match="memory, vcores"):
        plot_prediction(runs, prediction, resource="gpus")
    with pytest.raises(InvalidInput, match="png, svg, pdf"):
        plot_prediction(runs, prediction, format="gif")


# -- what the pictures say ------------------------------------------------------------------------------------------


def test_the_saving_is_told() -> None:
    prediction = Prediction(
        "p", Skyline.of({0: {"memory": GB}, 50: {"memory": 2 * GB}, 100: {}}), "fast", "allocated", {}, ("a",)
    )
    runs: Runs = {RecurrenceId("p", "a"): [ResourceSkyline("a", Skyline.interval(0, 100, {"memory": 2 * GB}))]}
    seen = drawing(runs, prediction)
    assert seen.saving == pytest.approx(0.25)
    assert seen.verdict == "fixed request: 2 GB × 1 min 40 s = 56.9 MB·h; plan reserves 25 % less"
    assert seen.title == "p: memory of the next run"
    assert seen.subtitle.startswith("from 1 run · solver fast")


def test_runs_begin_at_their_own_start_and_their_jobs_are_summed() -> None:
    one = Skyline.interval(100, 110, {"memory": GB})
    jobs = [ResourceSkyline("a", one, submitted=5_000_000), ResourceSkyline("b", one, submitted=5_005_000)]
    runs: Runs = {RecurrenceId("p", "r"): jobs}
    prediction = Prediction("p", Skyline.interval(0, 15, {"memory": GB}), "fast", "allocated", {}, ("r",))
    assert drawing(runs, prediction).runs == [[(0.0, GB), (5.0, 2 * GB), (10.0, GB), (15.0, 0.0)]]


def test_of_many_runs_some_are_drawn_the_newest_among_them() -> None:
    runs = history(MOST_RUNS * 3)
    seen = drawn(runs)
    assert seen.count == MOST_RUNS * 3
    assert len(seen.runs) == MOST_RUNS
    newest = runs[RecurrenceId("nightly", f"r{MOST_RUNS * 3 - 1}")][0].skyline
    assert seen.runs[-1] == [(float(time), amounts["memory"]) for time, amounts in newest.steps()]


def test_in_a_terminal_fewer_are_drawn() -> None:
    seen = drawn(history(50))
    curves = [each.points for each in series(seen) if each.style == "thin"]
    assert len(curves) == MOST_IN_TERMINAL
    assert curves[-1] == seen.runs[-1]


def test_names_are_made_safe() -> None:
    assert shortened("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert shortened("x" * 200, 20) == "x" * 13 + "…" + "x" * 6


@pytest.mark.parametrize(("width", "height"), [(100, 28), (40, 12), (20, 6), (1, 1)])
def test_the_terminal_picture_keeps_its_size(width: int, height: int) -> None:
    lines = text_picture(drawn(history(4)), width=width, height=height).splitlines()
    assert len(lines) == max(height, 6)
    assert all(len(line) <= max(width, 20) for line in lines)


def test_the_terminal_picture_has_everything() -> None:
    picture = text_picture(drawn(history(4)), width=110)
    for text in ("nightly: memory", "from 4 runs", "plan", "fixed request", "past runs", "8 GB", "30 s", "% less"):
        assert text in picture


# -- the backtest ---------------------------------------------------------------------------------------------------


def test_a_backtest_is_drawn() -> None:
    runs = history(5)
    report = backtest(runs, EstimatorConfig(), ("fast", "max", "last"))
    svg = plot_backtest(report, format="svg")
    assert svg.startswith(MAGIC["svg"])
    assert svg != plot_backtest(report, resource="vcores", format="svg")
    with pytest.raises(InvalidInput, match="gpus"):
        plot_backtest(report, resource="gpus")


# -- sizes -----------------------------------------------------------------------------------------------------------


def measured(count: int) -> Runs:
    """Runs of one job that reserved a gigabyte, and used a tenth of it in two stages."""
    runs: Runs = {}
    for index in range(count):
        used = Skyline.of({0: {"memory": 60.0}, 10: {"memory": 100.0 + index}, 30: {}})
        held = Skyline.of({0: {"memory": GB}, 30: {}})
        runs[RecurrenceId("etl", f"r{index}")] = [ResourceSkyline(f"j{index}", held, used=used)]
    return runs


def sized(step: str = "etl", given: float = 130.0, count: int = 5) -> SizedStep:
    known = [PastSize(GB, GB, 100.0 + n, None if n < 2 else 125.0) for n in range(count)]
    return SizedStep(step, GB, given, known)


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_a_picture_of_sizes_is_what_it_claims_and_always_the_same(form: str) -> None:
    drawn = size_picture("etl", [sized()], measured(5), one_job=True)
    picture = plot_sizes(drawn, format=form)
    assert picture.startswith(MAGIC[form]) and picture == plot_sizes(drawn, format=form)
    with pytest.raises(InvalidInput):
        plot_sizes(drawn, format="gif")


def test_a_picture_of_sizes_shows_runs_over_time_only_where_a_run_is_a_job() -> None:
    alone = plot_sizes(size_picture("etl", [sized()], measured(5), one_job=True), format="svg").decode()
    many = plot_sizes(size_picture("etl", [sized()], measured(5), one_job=False), format="svg").decode()
    assert lines_of(alone) - lines_of(many) >= 5


@pytest.mark.parametrize(
    "steps",
    [[sized(f"s{n}") for n in range(count)] for count in (1, 2, 3, 7)]
    + [[sized(count=0)], [sized(given=9 * GB)], [SizedStep("Räk $x_2$ \x1b[2J\n" + "long-" * 80, 0.0, 0.0, [])]],
)
def test_any_sizes_can_be_drawn(steps: list[SizedStep]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = size_picture("p" * 300, steps, {}, one_job=True)
        assert plot_sizes(drawn).startswith(MAGIC["png"])
    for width, height in ((80, 24), (1, 1), (300, 60)):
        text = size_text(drawn, width=width, height=height)
        assert "\x1b" not in text
        assert all(len(line) <= max(20, width) for line in text.splitlines())


def test_sizes_are_told_as_they_are() -> None:
    text = size_text(size_picture("etl", [sized()], measured(5), one_job=True), width=80)
    last = text.splitlines()[-1]
    assert last == "asks for 1 GB; used 104 MB at most in 5 runs; should get 130 MB: 87 % less"
    assert "asked for" in text and "used by past runs" in text and "20 s" in text
    assert sized(given=GB).verdict.endswith("should get 1 GB: no less")
    assert sized(given=2 * GB).verdict.endswith("should get 2 GB: 100 % more")
    assert sized("train").change == "train: 1 GB to 130 MB, 87 % less"
    assert SizedStep("s", GB, 130.0, []).verdict == "asks for 1 GB; should get 130 MB: 87 % less"


def test_the_steps_that_save_most_are_drawn() -> None:
    steps = [sized("little", 900.0), sized("more", 2 * GB), sized("much", 10.0)]
    drawn = size_picture("p", steps, {}, one_job=False)
    assert [step.step for step in drawn.steps] == ["much", "little", "more"]
    text = size_text(drawn)
    assert "run by run" in text and text.endswith("much: 1 GB to 10 MB, 99 % less\n")
    with pytest.raises(InvalidInput, match="too few runs"):
        size_picture("p", [], {}, one_job=False)
