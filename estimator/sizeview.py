"""What a picture of sizes shows: what jobs of a step ask for, what its runs used, and what the next one should get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .drawing import MOST_IN_TERMINAL, cut, run_points, shortened
from .errors import InvalidInput
from .model import History
from .steps import Point, Series, render, to_text
from .units import amount, percent

MOST_STEPS = 4
"""Panels of one picture; the steps that save most."""


class PastSize(NamedTuple):
    """A run of a step, in MB: asked for, really given, and, if known, used at most and foretold by the runs before."""

    asked: float
    given: float
    peak: float | None = None
    foretold: float | None = None


class SizedStep(NamedTuple):
    """A step: what the next job that asks for ``asked`` MB should get, and the last runs, oldest first."""

    step: str
    asked: float
    given: float
    past: Sequence[PastSize]

    @property
    def verdict(self) -> str:
        """What is saved, in one sentence."""
        peaks = [run.peak for run in self.past if run.peak is not None]
        used = f"used {amount(max(peaks), 'MB')} at most in {_runs(len(peaks))}; " if peaks else ""
        return f"asks for {amount(self.asked, 'MB')}; {used}should get {amount(self.given, 'MB')}: {self._compared()}"

    @property
    def change(self) -> str:
        """The same in a few words, with the step's name."""
        name = shortened(self.step or "jobs", 20)
        return f"{name}: {amount(self.asked, 'MB')} to {amount(self.given, 'MB')}, {self._compared()}"

    def _compared(self) -> str:
        if not self.asked or self.given == self.asked:
            return "no less"
        share = 1 - self.given / self.asked
        return f"{percent(abs(share))} {'less' if share > 0 else 'more'}"


class SizePicture(NamedTuple):
    """All of it.

    Attributes:
        steps: The steps that save most, the first of them first.
        curves: What whole runs used over time, each as ``(seconds, MB)`` from its own start. Only where a run is one
            job: else they could not be compared with what a job asks for.
        length: Seconds of the longest of them.
    """

    pipeline: str
    steps: Sequence[SizedStep]
    curves: Sequence[Sequence[Point]]
    length: float

    @property
    def title(self) -> str:
        """What is drawn, of which pipeline."""
        first = self.steps[0].step
        step = f", {shortened(first, 30)}" if len(self.steps) == 1 and first not in ("", self.pipeline) else ""
        return f"{shortened(self.pipeline, 40)}{step}: memory asked for, used, and what the next job should get"


def size_picture(pipeline: str, steps: Sequence[SizedStep], history: History, one_job: bool) -> SizePicture:
    """Gather what the pictures show.

    Args:
        one_job: Every run is one job of one step.

    Raises:
        InvalidInput: there is no step to draw.
    """
    if not steps:
        raise InvalidInput("steps", "none", "too few runs were measured; run it again")
    most = sorted(steps, key=lambda step: step.given - step.asked)[:MOST_STEPS]
    curves = [points for points in run_points(history, "memory", "used") if points] if one_job else []
    return SizePicture(pipeline, most, curves, max((points[-1][0] for points in curves), default=0.0))


def size_text(drawn: SizePicture, *, width: int = 100, height: int = 28, colour: bool = False) -> str:
    """The picture for a terminal: of the step that saves most, over time if its curves are known, else run by run."""
    width, height, step = max(width, 20), max(height, 6), drawn.steps[0]
    within = bool(drawn.curves)
    shown = _within(drawn, step) if within else _run_by_run(step)
    lines = render(
        shown, width=width, height=height - 2, x_unit="seconds" if within else "runs", y_unit="MB",
    )  # fmt: skip
    verdict = step.verdict if len(drawn.steps) == 1 and len(step.verdict) <= width else step.change
    title, verdict = cut(drawn.title, width), cut(verdict, width)
    return f"{_bold(title, colour)}\n{to_text(lines, colour)}{_bold(verdict, colour)}\n"


def _within(drawn: SizePicture, step: SizedStep) -> list[Series]:
    asked = Series("asked for", [(0, step.asked), (drawn.length, 0)], "dashed")
    given = Series("the next should get", [(0, step.given), (drawn.length, 0)], "bold")
    return [given, asked, *(Series("used by past runs", each, "thin") for each in drawn.curves[-MOST_IN_TERMINAL:])]


def _run_by_run(step: SizedStep) -> list[Series]:
    """Run n from n - 1 to n, the next one last."""
    count = len(step.past)
    used = [(float(place), run.peak or 0.0) for place, run in enumerate(step.past)]
    asked = [*((float(place), run.asked) for place, run in enumerate(step.past)), (float(count), step.asked)]
    return [
        Series("the next should get", [(count, step.given), (count + 1, 0)], "bold"),
        Series("asked for", [*asked, (count + 1, 0)], "dashed"),
        Series("used at most, run by run", [*used, (count, 0)], "thin"),
    ]


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _bold(text: str, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text
