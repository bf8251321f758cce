"""Images of predictions and back-tests: PNG, SVG, PDF. Colour is never the only sign: weight and dashes differ too."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .drawing import Drawing, drawing, shortened
from .errors import InvalidInput
from .model import History, Prediction
from .steps import Point
from .units import amount_ticks, duration, nice_top, percent, scale, time_ticks

if TYPE_CHECKING:
    from .backtest import BacktestReport

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = get_args(Format)

# A dark blue, with vermilion and light blue of Okabe and Ito's palette: apart for every kind of colour blindness, and
# dark, middle and light in grey.
PLAN, FIXED, BAND, RUNS, TEXT = "#005B96", "#D55E00", "#56B4E9", "#555555", "#222222"
_DPI = 144


def plot_prediction(
    history: History,
    prediction: Prediction,
    *,
    resource: str = "memory",
    format: str = "png",
    width: float = 10.0,
    height: float = 5.6,
) -> bytes:
    """Draw the past runs, their band, the plan, and what a request of fixed size would have reserved.

    Args:
        history: The pipeline's runs.
        width, height: Inches; a PNG has 144 pixels to the inch.

    Raises:
        InvalidInput: an unknown format, or nothing of that resource to draw.
    """
    drawn = drawing(history, prediction, resource)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _draw_prediction(axes, drawn)
    _headline(axes, drawn.title, drawn.subtitle)
    _legend(figure)
    return image(figure, format)


def plot_backtest(
    report: BacktestReport, *, resource: str = "memory", format: str = "png", width: float = 10.0
) -> bytes:
    """Draw how each solver did on one resource: four figures side by side, a bar for each solver.

    Args:
        width: Inches; the height follows from the number of solvers.

    Raises:
        InvalidInput: an unknown format, or no solver was replayed, or no run held anything of that resource.
    """
    results = [result for result in report.solvers if result.points]
    if not results or resource not in results[0].waste:
        raise InvalidInput(
            "resource",
            f"not in any replayed run ({resource})",
            f"they held {', '.join(results[0].waste)}" if results else "",
        )
    panels = [
        ("reserved in vain", "of what was held", [result.waste[resource] for result in results], FIXED),
        ("missing", "of what was held", [result.under[resource] for result in results], FIXED),
        ("done in time", "of the runs", [result.deadline_hits or 0.0 for result in results], PLAN),
        ("peak too low", "of the runs", [result.peak_misses[resource] for result in results], FIXED),
    ]
    figure = Figure(figsize=(width, 1.7 + 0.36 * len(results)), layout=ConstrainedLayoutEngine(h_pad=0.12))
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(places, panels, strict=True):
        _draw_panel(axes, *panel)
    places[0].set_yticks(range(len(results)), [result.solver for result in results], parse_math=False)
    places[0].invert_yaxis()
    figure.suptitle(
        f"{shortened(report.pipeline, 40)}: {resource}, {len(report.replayed)} of {report.runs} runs predicted from"
        f" those before them, steps of {duration(report.interval)}",
        x=0.01, ha="left", fontsize=12, fontweight="bold", color=TEXT, parse_math=False,
    )  # fmt: skip
    return image(figure, format)


def _draw_panel(axes: Axes, title: str, of: str, shares: Sequence[float], color: str) -> None:
    """Bars with their figures; an axis from zero with room for the longest one's."""
    bars = axes.barh(range(len(shares)), shares, color=color, height=0.6)
    axes.bar_label(bars, [percent(share) for share in shares], padding=4, fontsize=9, color=TEXT)
    axes.set_xlim(0, 1.35 * (1.0 if of == "of the runs" else max(shares) or 1.0))
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=TEXT)
    axes.set_xlabel(of, loc="left", fontsize=9, color="#555555")
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_prediction(axes: Axes, drawn: Drawing) -> None:
    length = max(drawn.length, drawn.plan[-1][0] if drawn.plan else 0.0, 1.0)
    highest = max([drawn.height, *(value for _, value in drawn.plan)])
    top = nice_top(highest * 1.12, 6, drawn.unit)  # room for the verdict above the dashed line
    _band(axes, drawn)
    faint = min(1.0, max(0.12, 8 / max(len(drawn.runs), 1)))
    for index, run in enumerate(drawn.runs):
        label = f"past run{'s' if drawn.count > 1 else ''} ({drawn.count})" if index == 0 else None
        draw_steps(axes, run, color=RUNS, linewidth=0.9, alpha=faint, label=label, zorder=2)
    draw_steps(axes, drawn.plan, color=PLAN, linewidth=3.0, label="plan for the next run", zorder=4)
    _saved(axes, drawn)
    across, up = [0.0, drawn.length, drawn.length], [drawn.height, drawn.height, 0.0]
    axes.plot(across, up, color=FIXED, linewidth=1.8, dashes=(5, 3), label="fixed request", zorder=5)
    axes.text(
        0.01, highest / top + 0.02, drawn.verdict, transform=axes.transAxes, color=TEXT,
        fontsize=10, fontweight="bold", va="bottom", parse_math=False,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )  # fmt: skip
    _axes(axes, length * 1.02, top, drawn.unit, drawn.resource)


def _legend(figure: Figure) -> None:
    """Below the axes, so that it hides nothing; a faint line of many runs is not faint there."""
    legend = figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9, handlelength=2.6)
    for line in legend.get_lines():
        line.set_alpha(1.0)


def _saved(axes: Axes, drawn: Drawing) -> None:
    """Hatch what the fixed request reserves and the plan does not: the saving is an area to be seen."""
    inside = [time for time, _ in drawn.plan if 0 < time < drawn.length]
    times = [0.0, *inside, drawn.length]
    axes.fill_between(
        times, [min(_at(drawn.plan, time), drawn.height) for time in times], drawn.height, step="post",
        facecolor="none", edgecolor=FIXED, alpha=0.22, hatch="//", linewidth=0, zorder=1.5,
        label="not reserved by the plan",
    )  # fmt: skip


def _band(axes: Axes, drawn: Drawing) -> None:
    if not drawn.upper:
        return
    times = sorted({time for time, _ in (*drawn.lower, *drawn.upper)})
    lower, upper = ([_at(points, time) for time in times] for points in (drawn.lower, drawn.upper))
    axes.fill_between(
        times, lower, upper, step="post", color=BAND, alpha=0.3, linewidth=0, zorder=1,
        label="p10 to p90 of the runs",
    )  # fmt: skip


def _at(points: Sequence[Point], time: float) -> float:
    return next((value for start, value in reversed(points) if start <= time), 0.0)


def draw_steps(axes: Axes, points: Sequence[Point], **style: Any) -> None:
    """A step line that rises from zero and falls to it."""
    if points:
        times = [points[0][0], *(time for time, _ in points)]
        axes.step(times, [0.0, *(value for _, value in points)], where="post", solid_joinstyle="miter", **style)


def _axes(axes: Axes, right: float, top: float, unit: str, resource: str) -> None:
    across, up = time_ticks(0, right, 9), amount_ticks(0, top, 6, unit)
    axes.set_xticks([tick.value for tick in across], [tick.label for tick in across])
    axes.set_yticks([tick.value for tick in up], [tick.label for tick in up])
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    axes.set_xlabel("time from the run's start", color=TEXT)
    name = scale(top, unit)[1] if unit == "MB" else ""
    axes.set_ylabel(f"memory ({name})" if name else resource, color=TEXT, parse_math=False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _headline(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold", color=TEXT, parse_math=False)
    axes.annotate(
        subtitle, (0, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points",
        fontsize=9.5, color="#555555", parse_math=False,
    )  # fmt: skip


def image(figure: Figure, format: str) -> bytes:
    """The figure as a file, the same bytes for the same data."""
    if format not in FORMATS:
        raise InvalidInput("format", f"unknown ({format})", f"use {', '.join(FORMATS)}")
    FigureCanvasAgg(figure)
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[format]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "skyline"}):
        warnings.simplefilter("ignore", UserWarning)  # a name may have letters that no font here has
        figure.savefig(buffer, format=format, dpi=_DPI, metadata=dates)
    return buffer.getvalue()
