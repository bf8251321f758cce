"""``retz-estimator export``: predictions and history for other programs."""

from __future__ import annotations

import csv
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from .app import App, solver_options
from .moments import Duration, Moment, now_ms
from .output import print_json

if TYPE_CHECKING:
    from ..skyline import Skyline

_RESERVING = ("queue", "arrival", "deadline", "recurrence", "gang", "priority", "name", "reservation_id")


@click.command("export")
@click.argument("pipeline")
@click.option("--json", "form", flag_value="json", default="json", help="Prediction and history (default).")
@click.option("--csv", "form", flag_value="csv", help="The plan: from, until (seconds), then one column per resource.")
@click.option("--reservation", "form", flag_value="reservation", help="YARN's ReservationSubmissionRequest.")
@click.option("--queue", help="Queue of the reservation.  [default: default]")
@click.option(
    "--arrival", type=Moment(), metavar="TIME", help="When the run may start: 2026-03-01T06:00Z, +2h.  [default: now]"
)
@click.option("--deadline", type=Moment(), metavar="TIME", help="By when it must have ended.  [default: as the plan]")
@click.option("--recurrence", type=Duration(), metavar="PERIOD", help="Period of a recurring reservation: 1h, 1d.")
@click.option("--gang", type=click.IntRange(1), metavar="N", help="Containers that must be given together.")
@click.option("--priority", type=click.IntRange(0), metavar="N", help="Of the reservation.")
@click.option("--name", help="Of the reservation.  [default: the pipeline's]")
@click.option("--reservation-id", metavar="ID", help="What YARN's new-reservation answered.")
@solver_options
@click.pass_obj
def export_command(app: App, /, pipeline: str, form: str, **options: Any) -> None:
    """Print prediction and history as JSON or CSV, or a YARN reservation."""
    reserving = {name: options.pop(name) for name in _RESERVING}
    if form != "reservation" and (given := [name for name, value in reserving.items() if value is not None]):
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with --reservation")
    runs, prediction = app.predict(pipeline, options)
    if form == "csv":
        _print_csv(prediction.skyline)
    elif form == "reservation":
        from ..reservation import container_of, reservation_request

        arguments = {name: value for name, value in reserving.items() if value is not None}
        arrival = arguments.pop("arrival", None)
        for mine, theirs in (("deadline", "deadline_ms"), ("recurrence", "recurrence_ms")):
            if mine in arguments:
                arguments[theirs] = arguments.pop(mine)
        arguments["arrival_ms"] = now_ms() if arrival is None else arrival
        print_json(reservation_request(prediction, container=container_of(runs), **arguments))
    else:
        from ..documents import history_to_json, prediction_to_json

        print_json({"prediction": prediction_to_json(prediction), "history": history_to_json(runs)})


def _print_csv(skyline: Skyline) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["from", "until", *skyline.resources])
    steps = skyline.steps()
    for (start, amounts), (end, _) in pairwise(steps):
        writer.writerow([start, end, *(f"{amounts[name]:.6f}".rstrip("0").rstrip(".") for name in skyline.resources)])
