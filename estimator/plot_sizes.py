"""Images of sizes: within a run, and from run to run."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .plot import BAND, FIXED, PLAN, RUNS, TEXT, draw_steps, image
from .sizeview import SizedStep, SizePicture
from .units import amount, amount_ticks, nice_top, time_ticks


def plot_sizes(drawn: SizePicture, *, format: str = "png", width: float = 10.0) -> bytes:
    """Draw what jobs ask for, what runs used and what the next should get.

    Where a run is one job there are two panels: the runs over time, and run after run. Else one for each step.

    Args:
        width: Inches; a PNG has 144 pixels to the inch.

    Raises:
        InvalidInput: an unknown format.
    """
    figure = Figure(figsize=(width, 5.2), layout="constrained")
    if drawn.curves:
        one, other = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _within(one, drawn)
        _run_by_run(other, drawn.steps[0], "run by run")
    else:
        for axes, step in zip(_places(figure, len(drawn.steps)), drawn.steps, strict=True):
            _run_by_run(axes, step, step.change if len(drawn.steps) > 1 else "run by run")
    below = drawn.steps[0].verdict if len(drawn.steps) == 1 else "run by run; the steps that save most"
    figure.suptitle(f"{drawn.title}\n", x=0.01, ha="left", fontsize=13, fontweight="bold", color=TEXT, parse_math=False)
    figure.text(0.01, 0.945, below, ha="left", va="top", fontsize=10.5, color=TEXT, parse_math=False)
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(),
        loc="outside lower center", ncols=6, frameon=False, fontsize=9, handlelength=2.6,
    )  # fmt: skip
    return image(figure, format)


def _places(figure: Figure, count: int) -> list[Axes]:
    rows = 1 if count <= 2 else 2
    grid = figure.subplots(rows, -(-count // rows), squeeze=False)
    places: list[Axes] = list(grid.flat)
    for unused in places[count:]:
        unused.set_visible(False)
    return places[:count]


def _within(axes: Axes, drawn: SizePicture) -> None:
    step, length = drawn.steps[0], max(drawn.length, 1.0)
    faint = min(1.0, max(0.15, 5 / len(drawn.curves)))
    for index, points in enumerate(drawn.curves):
        label = "used by past runs" if index == 0 else None
        draw_steps(axes, points, color=RUNS, linewidth=1.2, alpha=faint, label=label, zorder=3)
    across = (0.0, length)
    axes.plot(across, (step.asked,) * 2, color=FIXED, linewidth=1.8, dashes=(5, 3), label="asked for", zorder=5)
    axes.plot(across, (step.given,) * 2, color=PLAN, linewidth=3.0, label="given", zorder=4)
    if step.given < step.asked:
        axes.fill_between(
            across, step.given, step.asked, facecolor="none", edgecolor=FIXED, alpha=0.25, hatch="//", linewidth=0,
            zorder=1, label="free for others",
        )  # fmt: skip
    top = _up(axes, step)
    for value, word in ((step.asked, "asked for"), (step.given, "the next should get")):
        axes.text(
            0.02 * length, value + 0.012 * top, f"{word}: {amount(value, 'MB')}", fontsize=9.5, fontweight="bold",
            color=TEXT, va="bottom", parse_math=False, zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2},
        )  # fmt: skip
    ticks = time_ticks(0, length, 6)
    axes.set_xticks([tick.value for tick in ticks], [tick.label for tick in ticks])
    axes.set_xlim(0, length)
    axes.set_xlabel("time from the run's start", color=TEXT)
    axes.set_title("within a run", loc="left", fontsize=10.5, color=TEXT)


def _run_by_run(axes: Axes, step: SizedStep, title: str) -> None:
    """Run n is the column around n; the last column is the next one."""
    count = len(step.past)
    edges = [place - 0.5 for place in range(count + 2)]
    asked = [*(run.asked for run in step.past), step.asked]
    given = [*(run.given for run in step.past), step.given]
    axes.stairs(given, edges, baseline=None, color=PLAN, linewidth=3.0, label="given", zorder=4)
    axes.stairs(asked, edges, baseline=None, color=FIXED, linewidth=1.8, linestyle=(0, (5, 3)), label="asked for",
                zorder=5)  # fmt: skip
    foretold = [(place, run.foretold) for place, run in enumerate(step.past) if run.foretold is not None]
    if foretold:
        axes.plot(*zip(*foretold, strict=True), color=BAND, marker="_", markersize=11, markeredgewidth=2.2,
                  linestyle="", label="foretold by the runs before", zorder=3)  # fmt: skip
    peaks = [(place, run.peak) for place, run in enumerate(step.past) if run.peak is not None]
    if peaks:
        axes.plot(*zip(*peaks, strict=True), color=RUNS, marker="o", markersize=5, linestyle="", label="used at most",
                  zorder=6)  # fmt: skip
    _up(axes, step)
    axes.axvspan(count - 0.5, count + 0.5, color="#f2f2f2", zorder=0)
    first = [(0, _ago(count))] if count > 3 else []
    ticks = [*first, *([(count - 1, "last")] if count else []), (count, "next")]
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.set_xlim(-0.5, count + 0.5)
    axes.set_title(title, loc="left", fontsize=10.5, color=TEXT, parse_math=False)


def _ago(count: int) -> str:
    return f"{count} runs ago"


def _up(axes: Axes, step: SizedStep) -> float:
    """Scale the axis from zero to above all that is drawn, and return its top."""
    highest = max([step.asked, step.given, *(value or 0.0 for run in step.past for value in run)])
    top = nice_top(highest * 1.1, 6, "MB")
    ticks = amount_ticks(0, top, 6, "MB")
    axes.set_yticks([tick.value for tick in ticks], [tick.label for tick in ticks])
    axes.set_ylim(0, top)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return top
