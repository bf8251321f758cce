"""``retz-estimator predict``: what the next run will need, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from .app import App, solver_options
from .output import note, print_columns, print_json, printable

if TYPE_CHECKING:
    from ..model import Confidence, Prediction
    from ..skyline import Skyline

_ROWS = 24
"""Steps that are shown; the rest is in the JSON."""


@click.command("predict")
@click.argument("pipeline")
@solver_options
@click.option("--json", "as_json", is_flag=True, help="Print everything about the prediction as JSON.")
@click.pass_obj
def predict_command(app: App, /, pipeline: str, as_json: bool, **wishes: Any) -> None:
    """Say what the next run of a pipeline will need.

    The plan is made from all runs of the history, and made again when the history has changed. Use the solver peak
    for memory limits: the others plan throughput, and let an early lack be made up later.
    """
    _, prediction = app.predict(pipeline, wishes)
    if as_json:
        from ..documents import prediction_to_json

        print_json(prediction_to_json(prediction))
        return
    titles, rows = step_rows(prediction.skyline)
    print(f"{printable(pipeline)}: plan for the next run, from {_runs(len(prediction.runs))} ({_how(prediction)})\n")
    print_columns([titles, *rows[:_ROWS]], left=0)
    if len(rows) > _ROWS:
        note(f"... and {len(rows) - _ROWS} more steps; --json has them all, 'retz-estimator plot' shows them")
    print()
    print_columns(_summary(prediction), left=2)


def step_rows(skyline: Skyline) -> tuple[list[str], list[list[str]]]:
    """Titles, and for each step of a skyline its beginning, end and amounts as texts."""
    from ..units import amount, duration, unit_of

    names = [name for name in skyline.resources if name in ("memory", "vcores") or skyline.column(name).any()]
    steps = skyline.steps()
    rows = []
    for (start, amounts), (end, _) in pairwise(steps):
        row = [amount(amounts[name], "MB" if name == "memory" else "").strip() for name in names]
        rows.append([duration(start) if start else "0", duration(end), *row])
    return ["FROM", "UNTIL", *(unit_of(name).upper() if name != "memory" else "MEMORY" for name in names)], rows


def _summary(prediction: Prediction) -> list[list[str]]:
    from ..units import amount, duration, unit_of, usage

    skyline = prediction.skyline
    peak, reserved = skyline.peak(), skyline.integral()
    names = [name for name in skyline.resources if peak[name] > 0]
    peaks = ", ".join(amount(peak[name], unit_of(name)) for name in names)
    sums = ", ".join(usage(reserved[name], unit_of(name)) for name in names)
    rows = [["peak", peaks or "nothing"], ["reserves", f"{sums or 'nothing'} within {duration(skyline.end)}"]]
    if prediction.confidence is not None:
        rows += _trust(prediction, prediction.confidence, names)
    if prediction.gap is not None:
        text = f"certified: at most {prediction.gap:.0e} (relative) above the optimum" if prediction.gap else "exactly"
        rows.append(["optimal", text])
    if prediction.ignored:
        listed = ", ".join(printable(run) for run in prediction.ignored[:3]) + ", ..." * (len(prediction.ignored) > 3)
        rows.append(["ignored", f"{_runs(len(prediction.ignored))} that held nothing: {listed}"])
    return rows


def _trust(prediction: Prediction, confidence: Confidence, names: Sequence[str]) -> list[list[str]]:
    """Savings and errors by resource; one text if all resources say the same, as where containers are planned."""
    from ..units import percent

    reserved = prediction.skyline.integral()

    def by_resource(texts: dict[str, str]) -> str:
        if len(set(texts.values())) == 1:
            return next(iter(texts.values()))
        return "; ".join(f"{name}: {text}" for name, text in texts.items())

    fixed = {name: confidence.fixed.get(name, 0.0) for name in names}
    saved = {name: _against(1 - reserved[name] / amount) for name, amount in fixed.items() if amount > 0}
    needed = {name: confidence.needed.get(name, 0.0) for name in names if confidence.needed.get(name, 0.0) > 0}
    expected = {
        name: f"{percent(confidence.over.get(name, 0.0) / amount)} too much, "
        f"{percent(confidence.under.get(name, 0.0) / amount)} too little of what a run needs"
        for name, amount in needed.items()
    }
    rows = []
    if saved:
        rows.append(["saving", f"reserves {by_resource(saved)} one request of fixed size that fits every run"])
    if expected:
        rows.append(["expect", by_resource(expected)])
    if confidence.left_out_error:
        off = {name: percent(confidence.left_out_error.get(name, 0.0)) for name in names}
        rows.append(
            ["tested", f"on {_runs(confidence.left_out_runs)}, each left out in turn: off by {by_resource(off)}"]
        )
    return rows


def _against(saving: float) -> str:
    from ..units import percent

    if abs(saving) < 0.0005:
        return "as much as"
    return f"{percent(abs(saving))} {'less' if saving > 0 else 'more'} than"


def _how(prediction: Prediction) -> str:
    from ..units import duration

    settings = prediction.settings
    parts = [f"solver {prediction.solver}"]
    if prediction.objective is not None:
        parts += [f"{name} {settings[name]:g}" for name in ("alpha", "beta") if name in settings]
    if "interval" in settings:
        parts.append(f"steps of {duration(settings['interval'])}")
    if prediction.kind == "used":
        parts.append("from what was used")
    return ", ".join(parts)


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
