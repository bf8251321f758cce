"""``retz-estimator backtest``: how good each solver would have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..config import SOLVERS
from .app import App, solver_options
from .output import note, print_columns, print_json, printable
from .plot import check_suffix, write

if TYPE_CHECKING:
    from ..backtest import BacktestReport, SolverResult


@click.command("backtest")
@click.argument("pipeline")
@solver_options
@click.option("--json", "as_json", is_flag=True, help="Print everything, run by run, as JSON.")
@click.option("-o", "--output", metavar="FILE", help="Draw it: PNG, SVG or PDF by its name.")
@click.pass_obj
def backtest_command(app: App, /, pipeline: str, as_json: bool, output: str | None, **wishes: Any) -> None:
    """Replay the history: how good would each solver have been?

    Every past run is predicted from the runs before it by every solver (or by --solver alone), and compared with what
    it did: what was reserved in vain, what was missing, how often the plan was enough in time, how often it was lower
    than the run's peak.
    """
    from ..backtest import backtest

    suffix = check_suffix(output) if output is not None else ""
    solvers = SOLVERS if wishes["solver"] is None else (wishes["solver"],)
    _, settings = app.wished(wishes)
    report = backtest(app.runs(pipeline), replace(app.config, settings=settings), solvers)
    if as_json:
        print_json(report.to_json())
    else:
        _tell(report)
    if output is not None:
        from ..plot import plot_backtest

        write(output, plot_backtest(report, format=suffix[1:]))


def _tell(report: BacktestReport) -> None:
    number = len(report.replayed)
    print(f"{printable(report.pipeline)}: {number} of {report.runs} runs, each predicted from those before it\n")
    rows = [["SOLVER", "WASTE", "MISSING", "IN TIME", "PEAK MISSED"]]
    rows += [_row(result) for result in report.solvers if not result.skipped]
    print_columns(rows)
    for result in report.solvers:
        if result.skipped:
            note(f"{result.solver}: left out: {result.skipped}")
    print(
        "\nwaste, missing: reserved and not held, held and not reserved, of what was held; in time: runs whose work\n"
        "was done by the plan's end; peak missed: runs that held more at once than the plan ever has"
    )


def _row(result: SolverResult) -> list[str]:
    from ..units import percent

    hits = result.deadline_hits
    return [
        result.solver, _by_resource(result.waste), _by_resource(result.under),
        "-" if hits is None else percent(hits), _by_resource(result.peak_misses),
    ]  # fmt: skip


def _by_resource(shares: Mapping[str, float]) -> str:
    """One figure if all resources agree, as where containers are planned; else one by name."""
    from ..units import percent

    texts = {name: percent(share) for name, share in shares.items()}
    if len(set(texts.values())) <= 1:
        return next(iter(texts.values()), "-")
    return ", ".join(f"{name} {text}" for name, text in texts.items())
