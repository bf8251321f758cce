"""What both pictures of a prediction show, the image and the one in the terminal: curves, band, plan, saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from .errors import InvalidInput
from .model import History, Kind, Prediction
from .skyline import Skyline
from .solver.runs import run_skyline
from .steps import Charset, Point, Series, render, to_text
from .units import amount, duration, percent, unit_of, usage

MOST_RUNS = 100
"""More curves than that are one grey area: evenly chosen ones are drawn, the newest among them."""

MOST_IN_TERMINAL = 12
"""In a terminal's few dots fewer are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """One resource of a prediction and its history, as plain numbers.

    Attributes:
        unit: Of all amounts: ``MB``, or the resource's name.
        runs: The past runs that are drawn, each as ``(seconds, amount)`` breakpoints from its own start.
        count: Number of past runs, drawn or not.
        lower, upper: The band from the 10th to the 90th percentile; empty without confidence.
        plan: The prediction.
        height, length: The request of constant size that fits every run: its amount and its seconds.
        reserved: What the plan reserves, in amount times seconds.
    """

    prediction: Prediction
    resource: str
    unit: str
    runs: Sequence[Sequence[Point]]
    count: int
    lower: Sequence[Point]
    upper: Sequence[Point]
    plan: Sequence[Point]
    height: float
    length: float
    reserved: float

    @property
    def saving(self) -> float:
        """The share of the fixed request that the plan does not reserve; negative if it reserves more."""
        fixed = self.height * self.length
        return 1 - self.reserved / fixed if fixed > 0 else 0.0

    @property
    def title(self) -> str:
        """What is drawn, of which pipeline."""
        what = {"memory": "memory", "vcores": "vcores"}.get(self.resource, self.resource)
        measured = "used " if self.prediction.kind == "used" else ""
        return f"{shortened(self.prediction.pipeline, 40)}: {measured}{what} of the next run"

    @property
    def subtitle(self) -> str:
        """What it was made from, and how."""
        settings = self.prediction.settings
        parts = [f"from {self.count} run{'s' if self.count != 1 else ''}", f"solver {self.prediction.solver}"]
        if self.prediction.objective is not None:
            parts += [f"{name} = {settings[name]:g}" for name in ("alpha", "beta") if name in settings]
        if "interval" in settings:
            parts.append(f"steps of {duration(settings['interval'])}")
        return " · ".join(parts)

    @property
    def verdict(self) -> str:
        """What is saved, in one sentence."""
        size = f"{amount(self.height, self.unit)} × {duration(self.length)}"
        return f"fixed request: {size} = {usage(self.height * self.length, self.unit)}; {compared(self.saving)}"


def compared(saving: float) -> str:
    """The plan against a fixed request in words: ``plan reserves 41 % less``."""
    if abs(saving) < 0.0005:
        return "plan reserves no less"
    return f"plan reserves {percent(abs(saving))} {'less' if saving > 0 else 'more'}"


def drawing(history: History, prediction: Prediction, resource: str = "memory") -> Drawing:
    """Gather what the pictures of one resource show.

    Args:
        history: The pipeline's runs; those that the prediction was not made from are left out.

    Raises:
        InvalidInput: neither runs nor prediction hold anything of that resource.
    """
    runs = [run_skyline(jobs, prediction.kind) for run, jobs in history.items() if run.run in set(prediction.runs)]
    curves = [run for run in runs if run.column(resource).any()]
    if not curves and not prediction.skyline.column(resource).any():
        raise InvalidInput("resource", f"unknown to this pipeline ({resource})", f"it has {_held(runs)}")
    confidence = prediction.confidence
    return Drawing(
        prediction=prediction,
        resource=resource,
        unit=unit_of(resource),
        runs=[_points(run, resource) for run in _chosen(curves, MOST_RUNS)],
        count=len(prediction.runs),
        lower=_points(confidence.lower, resource) if confidence else [],
        upper=_points(confidence.upper, resource) if confidence else [],
        plan=_points(prediction.skyline, resource),
        height=max((float(run.column(resource).max()) for run in curves), default=0.0),
        length=float(max((run.end for run in runs), default=0)),
        reserved=prediction.skyline.integral().get(resource, 0.0),
    )


def text_picture(
    drawn: Drawing, *, width: int = 100, height: int = 28, colour: bool = False, charset: Charset = "braille"
) -> str:
    """The picture for a terminal: title, what it was made from, the curves, and what is saved.

    Args:
        width, height: Columns and lines of the whole; at least 20 x 6 are used.
    """
    width, height = max(width, 20), max(height, 6)
    verdict = drawn.verdict if len(drawn.verdict) <= width else f"{compared(drawn.saving)} than a fixed request"
    title, below, verdict = (cut(text, width) for text in (drawn.title, drawn.subtitle, verdict))
    lines = render(series(drawn), width=width, height=height - 3, y_unit=drawn.unit, charset=charset)
    return f"{_emphasised(title, colour)}\n{below}\n{to_text(lines, colour)}{_emphasised(verdict, colour)}\n"


def cut(text: str, width: int) -> str:
    """At most so many characters, the last an ellipsis if some are missing."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _emphasised(text: str, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def series(drawn: Drawing, most: int = MOST_IN_TERMINAL) -> list[Series]:
    """The curves for :mod:`estimator.steps`, in the order of its legend; at most so many past runs."""
    band = [Series("p10 to p90 of the runs", drawn.lower, "band", drawn.upper)] if drawn.upper else []
    runs = [Series("past runs", points, "thin") for points in _chosen(drawn.runs, most)]
    fixed = Series("fixed request", [(0, drawn.height), (drawn.length, 0)], "dashed")
    return [Series("plan", drawn.plan, "bold"), fixed, *runs, *band]


def shortened(name: str, most: int = 60) -> str:
    """A name of a length that fits, its middle left out, control characters escaped."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in name
    )
    return shown if len(shown) <= most else f"{shown[: most - most // 3 - 1]}…{shown[-(most // 3) :]}"


def run_points(history: History, resource: str, kind: Kind) -> list[list[Point]]:
    """What the runs of a history held of one resource over time, evenly chosen ones of very many; the newest last."""
    curves = [run_skyline(jobs, kind) for jobs in history.values()]
    return [_points(run, resource) for run in _chosen([run for run in curves if not run.is_empty], MOST_RUNS)]


def _points(skyline: Skyline, resource: str) -> list[Point]:
    """Breakpoints from zero on: what begins later is zero until then."""
    times, values = skyline.times.tolist(), skyline.column(resource).tolist()
    points = [(float(time), float(value)) for time, value in zip(times, values, strict=True)]
    return [(0.0, 0.0), *points] if points and points[0][0] > 0 else points


def _chosen(runs: Sequence[T], most: int) -> Sequence[T]:
    """All, or evenly chosen ones; always the newest, which is the last."""
    if len(runs) <= most:
        return runs
    return [runs[len(runs) - 1 - index * len(runs) // most] for index in reversed(range(most))]


def _held(runs: Sequence[Skyline]) -> str:
    names = dict.fromkeys(name for run in runs for name in run.resources if run.column(name).any())
    return ", ".join(names) or "none"
