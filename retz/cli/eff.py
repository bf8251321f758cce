"""``retz eff``: how well jobs used what they asked for."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Any

import click

from retz.client import calls
from retz.client.efficiency import Efficiency, Report, Total
from retz.model.job import ENDED_STATES
from retz.model.units import format_size, span

from .accounting import moment, safe
from .app import App
from .listing import MAX_IDS_TEXT, PAGE, compact
from .output import Cell, Column, is_terminal, note, plural, print_json, print_table
from .parameters import Ids, json_option

TERMINAL_LIMIT = 50
OTHER_LIMIT = 10_000
LOW, FAIR = 0.25, 0.5
"""Below the first a part is red, below the second yellow."""
FULL = 0.95
"""Memory above this part of what was asked for is close to its end."""

COLUMNS = (
    Column("ID", right=True),
    Column("STATE"),
    Column("NAME", flexible=True, optional=True, drop=2),
    Column("USER", flexible=True, varied=True, drop=1),
    Column("RAN", right=True),
    Column("CPUS", right=True),
    Column("USED", right=True, drop=4),
    Column("CPU", right=True),
    Column("MEM", right=True),
    Column("PEAK", right=True, drop=3),
    Column("MEM%", right=True),
    Column("TRIES", right=True, varied=True, drop=1),
)


@click.command("eff")
@click.argument("ids", nargs=-1, type=Ids())
@click.option("--pipeline", metavar="NAME", help="Of this pipeline.")
@click.option("--user", metavar="KEY", help="Of another user, * for all; for administrators.")
@click.option("--since", metavar="TIME", help="Submitted since: 7d, 12h, 2026-11-20.")
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), help="Show the worst so many jobs.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@json_option
@click.pass_obj
def eff_command(
    app: App, /, ids: tuple[list[int | str], ...], pipeline: str | None, user: str | None, since: str | None,
    limit: int | None, as_csv: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say how well ended jobs used what they asked for, the worst first.

    CPU is processor time over processors asked for times the time it ran, MEM% the highest memory over what was asked
    for. All attempts that ran to an end count; what was lost with its machine does not. The id of an array stands for
    its tasks.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    numbers = app.resolve(tuple(number for group in ids for number in group))
    terminal = is_terminal(sys.stdout) and not as_csv and not as_json
    report = Report(limit or (TERMINAL_LIMIT if terminal else OTHER_LIMIT))
    wanted = {"pipeline": pipeline, "user": user, "since": moment(since), "state": "ENDED"}
    for job in _jobs(app, wanted, numbers):
        report.add(job)
    worst, total = report.worst, report.total
    if as_json:
        print_json("eff", jobs=[each._asdict() for each in worst], total=total._asdict())
    elif as_csv:
        _print_csv(worst)
    else:
        _print(worst, total)
    if len(worst) < total.jobs:
        note(f"the worst {len(worst)} of {total.jobs} jobs; -n {total.jobs} shows all")


def _jobs(app: App, wanted: dict[str, Any], numbers: list[int]) -> Iterator[dict[str, Any]]:
    """All of them; an array's id stands for its tasks."""
    if not numbers:
        yield from _pages(app, wanted)
        return
    ids, arrays = compact(numbers), list[int]()
    if len(ids) > MAX_IDS_TEXT:
        raise click.UsageError("these are too many separate ids for one request: ask in several turns")
    for job in _pages(app, {**wanted, "ids": ids, "state": "ALL"}):  # an array goes on while tasks of it have ended
        if job.get("array") is not None:
            arrays.append(job["id"])
        elif job["state"] in ENDED_STATES:
            yield job
    named = set(numbers)
    for array in arrays:
        tasks = _pages(app, {**wanted, "where": [f"array={array}", "kind=task"]})
        yield from (task for task in tasks if task["id"] not in named)


def _pages(app: App, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Page by page: of a million no more than a page is held."""
    cursor: str | None = None
    parameters = {name: value for name, value in wanted.items() if value is not None}
    while True:
        window = app.call(calls.jobs({**parameters, "limit": PAGE, "cursor": cursor}))
        yield from window["jobs"]
        cursor = window["next"]
        if cursor is None:
            return


def _print_csv(jobs: list[Efficiency]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(Efficiency._fields)
    for each in jobs:
        writer.writerow([safe(value) for value in each])


def _print(jobs: list[Efficiency], total: Total) -> None:
    if not jobs:
        note("no ended job that ran matches")
        return
    print_table(COLUMNS, [_row(each) for each in jobs])
    if total.jobs < 2:
        return
    print()
    print(
        f"{plural(total.jobs, 'job')}: {_percent(total.cpu)} of {_hours(total.cpu_hours)} cpu hours, "
        f"{_percent(total.mem)} of {_hours(total.mem_gib_hours)} GiB hours of memory used"
        + (f"; {total.unmeasured} not measured" if total.unmeasured else "")
    )


def _row(each: Efficiency) -> list[Cell | str]:
    return [
        str(each.id),
        each.state.lower(),
        each.name or each.pipeline or "",
        each.user,
        "-" if each.elapsed_s is None else span(each.elapsed_s),
        f"{each.cpus:g}",
        "-" if not each.elapsed_s or each.cpu_s is None else f"{each.cpu_s / each.elapsed_s:.2f}",
        Cell(_percent(each.cpu), _colour(each.cpu)),
        format_size(each.mem_mb),
        "-" if each.mem_peak_mb is None else format_size(round(each.mem_peak_mb)),
        Cell(_percent(each.mem), "31" if (each.mem or 0.0) >= FULL else _colour(each.mem)),
        str(each.attempts),
    ]


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.01 or not hours else f"{hours:.2g}"


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.0%}"


def _colour(part: float | None) -> str:
    if part is None:
        return ""
    return "31" if part < LOW else "33" if part < FAIR else "32"
