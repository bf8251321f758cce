"""A pipeline as curves and sentences."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from retz.client.types import Confidence, History, Prediction, Run, Skyline, Skylines
from tui.screens.skylines import about_history
from tui.skyline_series import MOST_CURVES, Kind, Picture, integral, points_of, resources_of, when

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def skyline(*steps: tuple[int, float], vcores: float = 1.0) -> Skyline:
    return Skyline(steps={at: {"memory": memory, "vcores": vcores if memory else 0.0} for at, memory in steps})


def run(name: str, *steps: tuple[int, float], used: Skyline | None = None, start: datetime = START) -> Run:
    held = skyline(*steps)
    peaks = {"memory": max(memory for _, memory in steps), "vcores": 1.0}
    use = None if used is None else {"memory": max(each["memory"] for each in used.steps.values()), "vcores": 1.0}
    return Run(run=name, start=start, duration_s=float(steps[-1][0]), allocated=peaks, used=use,
               skylines=Skylines(allocated=held, used=used))  # fmt: skip


def prediction(*steps: tuple[int, float], kind: Kind = "allocated") -> Prediction:
    band = Confidence(runs=2, lower=skyline((0, 900), (60, 0)), upper=skyline((0, 2048), (60, 0)))
    return Prediction(pipeline="p", solver="fast", kind=kind, settings={"alpha": 0.1}, runs=("a", "b"),
                      skyline=skyline(*steps), confidence=band)  # fmt: skip


HISTORY = History(name="p", runs=(run("a", (0, 1024), (30, 2048), (60, 0)), run("b", (0, 1024), (40, 1536), (50, 0))))


def picture(plan: Prediction | None = None, **more: object) -> Picture:
    values: Mapping[str, object] = {"resource": "memory", "kind": "allocated", **more}
    return Picture(HISTORY, plan, **values)  # type: ignore[arg-type]


def test_the_curves_in_the_order_of_the_legend() -> None:
    series = picture(prediction((0, 1024), (60, 0))).series()
    assert [each.style for each in series] == ["bold", "dashed", "thin", "thin", "band"]
    assert series[1].points == [(0.0, 2048), (60.0, 0)]
    assert series[3].points == [(0.0, 1024), (40.0, 1536), (50.0, 0)]
    assert series[4].upper == [(0.0, 2048), (60.0, 0)]
    assert [each.style for each in picture().series()] == ["dashed", "thin", "thin"]


def test_only_chosen_runs_are_drawn() -> None:
    assert [each.run for each in picture(chosen=frozenset({"b"})).runs] == ["b"]
    assert picture(chosen=frozenset()).runs == []
    many = History(name="p", runs=tuple(run(str(number), (0, 1), (9, 0)) for number in range(40)))
    shown = Picture(many, None, "memory", "allocated").runs
    assert [each.run for each in shown] == [str(number) for number in range(40 - MOST_CURVES, 40)]


def test_used_against_what_was_asked_for() -> None:
    measured = History(name="p", runs=(run("a", (0, 2048), (60, 0), used=skyline((0, 500), (60, 0))), HISTORY.runs[1]))
    shown = Picture(measured, prediction((0, 512), (60, 0), kind="used"), "memory", "used")
    assert [each.run for each in shown.runs] == ["a"]
    assert shown.asked == (2048.0, 60.0)
    assert "75 % less" in shown.saving()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (((0, 1024.0), (60, 0.0)), "50 % less: 17.1 MB·h a run"),
        (((0, 2048.0), (60, 0.0)), "the prediction holds no less"),
        (((0, 4096.0), (60, 0.0)), "100 % more: 34.1 MB·h a run"),
    ],
)
def test_the_saving_in_a_sentence(plan: tuple[tuple[int, float], ...], words: str) -> None:
    text = picture(prediction(*plan)).saving()
    assert text.startswith("A fixed request would hold 2 GB × 1 min = 34.1 MB·h; ") and words in text


def test_no_saving_is_told_where_nothing_is_known() -> None:
    assert picture().saving() == ""
    assert Picture(History(name="p", runs=()), prediction((0, 1), (2, 0)), "memory", "allocated").saving() == ""


def test_what_the_cursor_reads() -> None:
    shown = picture(prediction((0, 1024), (60, 0)))
    reading = dict(shown.reading(shown.series(), 45.0))
    assert reading == {"predicted": "1 GB", "past": "1.5 GB – 2 GB", "fixed": "2 GB"}
    assert dict(shown.reading(shown.series(), 55.0))["past"] == "0 MB – 2 GB"
    assert dict(shown.peaks()) == {"predicted": "1 GB", "past": "1.5 GB – 2 GB", "fixed": "2 GB"}


def test_resources_and_amounts() -> None:
    assert resources_of(HISTORY, "allocated") == ["memory", "vcores"]
    gpus = History(name="p", runs=(Run(run="a", start=START, allocated={"vcores": 1, "gpus": 2, "memory": 0}),))
    assert resources_of(gpus, "allocated") == ["vcores", "gpus"]
    assert resources_of(gpus, "used") == ["memory"]
    assert integral(HISTORY.runs[0].skylines.allocated, "memory") == 30 * 1024 + 30 * 2048  # type: ignore[union-attr]
    assert points_of(skyline((5, 3), (9, 0)), "memory") == [(0, 0), (5, 3), (9, 0)]
    assert points_of(skyline((5, 3), (9, 0)), "gpus") == []


def test_what_is_not_known_is_not_told() -> None:
    assert when(datetime.fromtimestamp(0, UTC)) == ""
    assert when(START).startswith("2026-11-20")
    old = run("a", (0, 1), (5, 0), start=datetime.fromtimestamp(0, UTC))
    assert about_history(History(name="p", runs=(old,))).startswith("1 run of 5 s; what they used was never measured.")
    assert "2 runs of 50 s to 1 min, the last 2026-11-20" in about_history(HISTORY)


def test_the_window_loads_no_numpy() -> None:
    modules = "tui.app, tui.screens.skylines, tui.screens.cluster, tui.screens.users"
    code = f"import sys, {modules}; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
