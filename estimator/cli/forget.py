"""``retz-estimator forget``: runs and pipelines that no longer count."""

from __future__ import annotations

import sys

import click

from .app import App
from .errors import Refused
from .output import note


@click.command("forget")
@click.argument("pipeline")
@click.argument("run", required=False)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget_command(app: App, pipeline: str, run: str | None, yes: bool) -> None:
    """Delete a run, or a pipeline with its prediction.

    Without RUN all runs go; on a terminal that is asked first. Logs are not touched: parsing one again brings its runs
    back.
    """
    runs = app.runs(pipeline)
    wanted = list(runs) if run is None else [each for each in runs if each.run == run]
    if not wanted:
        raise Refused(f"{pipeline} has no run {run!r}: 'retz-estimator history PIPELINE' lists its runs")
    if run is None and not yes and sys.stdin.isatty():
        click.confirm(f"Forget all {len(runs)} runs of {pipeline!r}?", abort=True, err=True)
    if len(wanted) == len(runs):
        app.store.forget(pipeline)
    else:
        app.store.delete_history(wanted[0])
    note(f"forgot {len(wanted)} of {len(runs)} run{'' if len(runs) == 1 else 's'} of {pipeline}")
