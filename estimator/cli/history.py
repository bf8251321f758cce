"""``retz-estimator history``: what is known of past runs."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .app import App
from .errors import Refused
from .output import note, print_json, print_table


@click.command("history")
@click.argument("pipeline", required=False)
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; for a pipeline or run that of Hadoop's service.")
@click.pass_obj
def history_command(app: App, pipeline: str | None, run: str | None, as_json: bool) -> None:
    """List pipelines, the runs of one, or the steps of a run.

    In a pipe the columns are separated by tabs and have no titles.
    """
    if pipeline is None:
        _pipelines(app, as_json)
    elif run is None:
        _runs(app, pipeline, as_json)
    else:
        _steps(app, pipeline, run, as_json)


def _pipelines(app: App, as_json: bool) -> None:
    pipelines = app.store.pipelines()
    if as_json:
        print_json(
            [{"pipelineId": each.pipeline, "runs": each.runs, "predicted": each.predicted} for each in pipelines]
        )
        return
    if not pipelines:
        note(f"{app.config.directory} is empty: 'retz-estimator parse LOG' reads a log into it")
        return
    rows = [[each.pipeline, str(each.runs), "yes" if each.predicted else "no"] for each in pipelines]
    print_table(("PIPELINE", "RUNS", "PREDICTED"), rows)


def _runs(app: App, pipeline: str, as_json: bool) -> None:
    runs = app.runs(pipeline)
    if as_json:
        from ..documents import history_to_json

        print_json(history_to_json(runs))
        return
    from ..overview import runs_overview
    from ..units import amount, duration, unit_of

    overview = runs_overview(runs)
    names = list(dict.fromkeys(name for each in overview for name in each["allocated"]))
    rows = []
    for each in overview:
        peaks = [amount(each["allocated"].get(name, 0.0), unit_of(name)) for name in names]
        rows.append([each["run"], _moment(each["start"]), str(each["jobs"]), duration(each["duration_s"]), *peaks])
    print_table(("RUN", "STARTED", "JOBS", "LENGTH", *(f"PEAK {name.upper()}" for name in names)), rows, left=2)


def _moment(milliseconds: int) -> str:
    """UTC, as the logs have it; a dash if nobody knows, as in native logs."""
    if milliseconds <= 0:
        return "-"
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # a year beyond 9999
        return "-"


def _steps(app: App, pipeline: str, run: str, as_json: bool) -> None:
    runs = {key: jobs for key, jobs in app.runs(pipeline).items() if key.run == run}
    if not runs:
        raise Refused(f"{pipeline} has no run {run!r}: 'retz-estimator history PIPELINE' lists its runs")
    if as_json:
        from ..documents import history_to_json

        print_json(history_to_json(runs))
        return
    from ..solver.runs import run_skyline
    from .predict import step_rows

    titles, rows = step_rows(run_skyline(next(iter(runs.values())), "allocated"))
    print_table(titles, rows, left=0)
