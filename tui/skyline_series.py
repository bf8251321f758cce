"""A pipeline's history and prediction as series for a plot, and as sentences. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from estimator.steps import Point, Series, values_at
from estimator.units import amount, duration, percent, usage
from retz.client.types import History, Prediction, Run, Skyline

Kind = Literal["allocated", "used"]
MOST_CURVES = 12
"""More past runs than that are one grey area in a terminal's dots; all can be chosen by hand."""


@dataclass(frozen=True)
class Picture:
    """One resource of a pipeline.

    Attributes:
        prediction: None while it is not known.
        chosen: The runs to draw; None are the newest, as many as can be told apart.
    """

    history: History
    prediction: Prediction | None
    resource: str
    kind: Kind
    chosen: frozenset[str] | None = None

    @property
    def unit(self) -> str:
        """Of all amounts."""
        return "MB" if self.resource == "memory" else self.resource

    @property
    def runs(self) -> list[Run]:
        """The runs that are drawn, oldest first."""
        known = [run for run in self.history.runs if skyline_of(run, self.kind) is not None]
        if self.chosen is None:
            return known[-MOST_CURVES:]
        return [run for run in known if run.run in self.chosen]

    @property
    def asked(self) -> tuple[float, float]:
        """The request of constant size that fits every run: the most that was reserved, and the longest time."""
        runs = self.history.runs
        return (
            max((run.allocated.get(self.resource, 0.0) for run in runs), default=0.0),
            max((run.duration_s for run in runs), default=0.0),
        )

    def series(self) -> list[Series]:
        """Prediction, fixed request, past runs and band, in the order of the legend."""
        drawn: list[Series] = []
        if self.prediction is not None:
            drawn.append(Series("predicted", points_of(self.prediction.skyline, self.resource), "bold"))
        height, length = self.asked
        if height > 0 and length > 0:
            drawn.append(Series("fixed request", [(0.0, height), (length, 0.0)], "dashed"))
        for run in self.runs:
            skyline = skyline_of(run, self.kind)
            if skyline is not None:
                drawn.append(Series(_counted(self.runs), points_of(skyline, self.resource), "thin"))
        confidence = self.prediction.confidence if self.prediction is not None else None
        if confidence is not None:
            lower, upper = points_of(confidence.lower, self.resource), points_of(confidence.upper, self.resource)
            if upper:
                drawn.append(Series("8 of 10 runs", lower, "band", upper))
        return [each for each in drawn if each.points or each.upper]

    def reading(self, series: Sequence[Series], at: float) -> list[tuple[str, str]]:
        """(what, amount) of the prediction, the fixed request and the past runs at a second of the run."""
        found = dict[str, list[float]]()
        for each, value in zip(series, values_at(series, at), strict=True):
            found.setdefault(each.style, []).append(value or 0.0)
        texts = [("predicted", _amounts(found.get("bold"), self.unit))] if "bold" in found else []
        if "dashed" in found:
            texts.append(("fixed", _amounts(found["dashed"], self.unit)))
        if "thin" in found:
            texts.append(("past", _amounts(found["thin"], self.unit)))
        return texts

    def peaks(self) -> list[tuple[str, str]]:
        """The same of the highest amounts."""
        texts = []
        if self.prediction is not None:
            steps = self.prediction.skyline.steps.values()
            texts.append(("predicted", amount(max((s.get(self.resource, 0.0) for s in steps), default=0.0), self.unit)))
        texts.append(("fixed", amount(self.asked[0], self.unit)))
        peaks = [_peak(run, self.kind).get(self.resource, 0.0) for run in self.runs]
        return [*texts, ("past", _amounts(peaks, self.unit))] if peaks else texts

    def saving(self) -> str:
        """What the prediction saves against a request of constant size, in a sentence."""
        height, length = self.asked
        fixed = height * length
        if self.prediction is None or fixed <= 0:
            return ""
        part = 1 - integral(self.prediction.skyline, self.resource) / fixed
        size = f"{amount(height, self.unit)} × {duration(length)} = {usage(fixed, self.unit)}"
        if abs(part) < 0.0005:
            return f"A fixed request would hold {size}; the prediction holds no less."
        saved = usage(abs(part) * fixed, self.unit)
        word = "less" if part > 0 else "more"
        return f"A fixed request would hold {size}; the prediction holds {percent(abs(part))} {word}: {saved} a run."


def when(start: datetime) -> str:
    """When a run started; empty if its log did not tell."""
    return f"{start.astimezone():%Y-%m-%d %H:%M}" if start.timestamp() > 0 else ""


def skyline_of(run: Run, kind: Kind) -> Skyline | None:
    """A run's skyline; None if it was not asked for, or nobody measured."""
    if run.skylines is None:
        return None
    return run.skylines.allocated if kind == "allocated" else run.skylines.used


def points_of(skyline: Skyline, resource: str) -> list[Point]:
    """Breakpoints of one resource from zero on; none if it never held any."""
    steps = [(float(second), amounts.get(resource, 0.0)) for second, amounts in sorted(skyline.steps.items())]
    if not any(value for _, value in steps):
        return []
    return [(0.0, 0.0), *steps] if steps[0][0] > 0 else steps


def integral(skyline: Skyline, resource: str) -> float:
    """Amount times seconds."""
    steps = points_of(skyline, resource)
    return sum(value * (steps[index + 1][0] - start) for index, (start, value) in enumerate(steps[:-1]))


def resources_of(history: History, kind: Kind) -> list[str]:
    """The resources that any run held, memory and vcores first."""
    held = {name for run in history.runs for name, peak in _peak(run, kind).items() if peak > 0}
    first = [name for name in ("memory", "vcores") if name in held]
    return first + sorted(held.difference(first)) or ["memory"]


def _peak(run: Run, kind: Kind) -> dict[str, float]:
    return run.allocated if kind == "allocated" else run.used or {}


def _counted(runs: Sequence[Run]) -> str:
    return f"{len(runs)} past runs" if len(runs) != 1 else "1 past run"


def _amounts(values: Sequence[float] | None, unit: str) -> str:
    """One amount, or from the least to the most."""
    low, high = min(values or [0.0]), max(values or [0.0])
    return amount(high, unit) if high - low < 0.005 * max(high, 1e-9) else f"{amount(low, unit)} – {amount(high, unit)}"
