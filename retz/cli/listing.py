"""``retz list``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from retz.client import calls
from retz.model.units import format_size, span

from .app import App
from .output import (
    Cell,
    Column,
    ago,
    command_text,
    is_terminal,
    note,
    off_path_text,
    print_json,
    print_table,
    seconds_of,
    state_cell,
)
from .parameters import Ids, json_option, watch_option
from .watching import repeat

PAGE = 1000
TERMINAL_LIMIT = 100
MAX_IDS_TEXT = 7_000
"""The ids stand in the request's address, and servers refuse long ones."""

SOON = "now"
IN = "in "

COLUMNS = (
    Column("ID", right=True),
    Column("STATE"),
    Column("NAME", flexible=True, optional=True, drop=8),
    Column("CPUS", right=True, drop=6),
    Column("MEM", right=True, drop=5),
    Column("GPUS", right=True, optional=True, drop=7),
    Column("PRIO", right=True, optional=True, drop=4),
    Column("AGE", right=True, drop=3),
    Column("RUN", right=True, optional=True, drop=9),
    Column("ETA", optional=True, drop=8),
    Column("AGENT", flexible=True, varied=True, drop=1),
    Column("TAGS", flexible=True, optional=True, drop=2),
    Column("COMMAND", flexible=True, least=16),
    Column("WHY", flexible=True, optional=True, least=20, drop=10),
)


@click.command("list")
@click.argument("ids", nargs=-1, type=Ids())
@click.option("--state", "--states", "states", metavar="LIST", help="QUEUED, STARTED, ... LIVE, ENDED, ALL.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="Having this tag. Repeatable: all must hold.")
@click.option("-A", "--appname", metavar="NAME", help="Of this application.")
@click.option("-N", "--name", metavar="TEXT", help="Of this name.")
@click.option("--text", metavar="TEXT", help="With this in name or command.")
@click.option("--pipeline", metavar="NAME", help="Of this pipeline.")
@click.option("--group", metavar="NAME", help="Of this group.")
@click.option("--array", metavar="ID", help="This array and its tasks.")
@click.option("--tasks/--no-tasks", default=True, help="Tasks of arrays too, once they start; or only the arrays.")
@click.option("--held/--not-held", default=None, help="Held or not.")
@click.option("--since", metavar="TIME", help="Submitted since (ISO-8601).")
@click.option("--until", metavar="TIME", help="Submitted until (ISO-8601).")
@click.option("--at", metavar="TIME", help="What was queued or running then (ISO-8601).")
@click.option("--user", metavar="KEY", help="Of another user, * for all; for administrators.")
@click.option("--sort", metavar="FIELD", help="id, state, user, application, priority, pipeline; - in front reverses.")
@click.option("-n", "--limit", type=click.IntRange(0), help="At most so many; 0 is all [default: 100 on a terminal].")
@watch_option
@json_option
@click.pass_obj
def list_command(
    app: App, /, ids: tuple[list[int | str], ...], limit: int | None, watch: bool, as_json: bool, **options: Any
) -> None:
    """List jobs: the live ones, unless told otherwise.

    On a terminal long columns are cut, and columns left out that say nothing or for which it is too narrow;
    piped, everything is printed.
    """
    show_list(app, ids, options, limit, watch, as_json)


def show_list(
    app: App, ids: tuple[list[int | str], ...], options: dict[str, Any], limit: int | None, watch: bool, as_json: bool,
    kind: str = "list",
) -> None:  # fmt: skip
    """Print the jobs that match, as often as asked for.

    Args:
        options: By the names of ``retz list``'s options.
        kind: The name of the JSON document; ``admin jobs`` has a column that says whose job it is.
    """
    parameters = _parameters(app, ids, options)
    if is_terminal(sys.stdout) and "at" not in parameters:
        parameters["foresee"] = "true"
    if limit is None:
        limit = TERMINAL_LIMIT if is_terminal(sys.stdout) and not as_json else 0
    for _ in repeat(watch, as_json):
        jobs, window = fetch(app, parameters, limit)
        if as_json:
            print_json(kind, jobs=jobs, total=window["total"], counts=window["counts"], as_of=window["as_of"])
            continue
        if not jobs and is_terminal(sys.stdout):
            note(_nothing(parameters))
            continue
        columns, rows = list(COLUMNS), [row(job, time.time()) for job in jobs]
        if kind == "admin jobs":
            columns.insert(1, Column("USER", flexible=True, least=8))
            for cells, job in zip(rows, jobs, strict=True):
                cells.insert(1, job["owner"])
        print_table(columns, rows)
        if len(jobs) < window["total"]:
            note(f"{len(jobs)} of {window['total']} jobs; -n 0 shows all")


def _nothing(parameters: dict[str, Any]) -> str:
    if "at" in parameters:
        return "no job was queued or running then, or none that matches"
    if "state" in parameters:
        return "no job matches"
    return f"no live job{' matches' if parameters else 's'}; 'retz list --state ALL' shows ended ones too"


def _parameters(app: App, ids: tuple[list[int | str], ...], options: dict[str, Any]) -> dict[str, Any]:
    numbers = app.resolve(tuple(number for group in ids for number in group))
    chosen = compact(numbers)
    if len(chosen) > MAX_IDS_TEXT:
        raise click.UsageError(f"these ids make {chosen.count(',') + 1} separate ranges: list them in several turns")
    parameters = {
        "ids": chosen or None,
        "state": (options["states"] or "").upper() or ("ALL" if numbers else None),
        "tag": list(options["tags"]),
        "application": options["appname"],
        "held": options["held"],
        "where": [f"{name}={options[name]}" for name in ("group", "array") if options[name]]
        + ([] if options["tasks"] else ["kind!=task"]),
    }
    same = ("name", "text", "pipeline", "since", "until", "at", "user", "sort")
    return {n: v for n, v in {**parameters, **{n: options[n] for n in same}}.items() if v not in (None, [])}


def compact(numbers: list[int]) -> str:
    """Return ``3-9,12`` for a list of ids."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def fetch(app: App, parameters: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return up to ``limit`` jobs (0: all) and the first window's document."""
    jobs: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for window in _windows(app, parameters, limit):
        first = first or window
        jobs += window["jobs"]
        if limit and len(jobs) >= limit:
            break
    return (jobs[:limit] if limit else jobs), first


def _windows(app: App, parameters: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        window = app.call(calls.jobs({**parameters, "limit": min(limit or PAGE, PAGE), "cursor": cursor}))
        yield window
        cursor = window["next"]
        if cursor is None:
            return


def row(job: dict[str, Any], now: float) -> list[Cell | str]:
    """The cells of one job."""
    resources = job["resources"]
    return [
        id_text(job),
        state_cell(job),
        job["name"],
        f"{resources['cpus']:g}",
        format_size(resources["mem"]),
        str(resources["gpus"] or ""),
        str(job["priority"] or ""),
        ago(job["submitted"], now),
        run_time(job, now),
        eta_text(job, now),
        job.get("host") or job["agent"] or "",
        ",".join(job["tags"]),
        command_text(job["command"]),
        job["why"] or (off_path_text(job) if job["state"] == "STARTED" else ""),
    ]


def eta_text(job: dict[str, Any], now: float) -> str:
    """When it starts, or when it ends if it runs, as far as that is foreseen: ``start 14:05``."""
    eta = job.get("eta") or {}
    for word in ("start", "end"):
        if eta.get(word):
            return f"{word} {clock(eta[word]['p50'], now)}"
    return ""


def clock(text: str, now: float) -> str:
    """An ISO-8601 time to come, in the local time zone, as short as it is clear: ``14:05``, ``Sat 14:05``.

    Of what is less than a minute away how long it takes: ``in 8s``; a second or less is ``now``.
    """
    from datetime import datetime, timedelta

    when, today = datetime.fromisoformat(text).astimezone(), datetime.fromtimestamp(now).astimezone()
    left = when - today
    if left < timedelta(minutes=1):
        return f"{IN}{left.total_seconds():.0f}s" if left > timedelta(seconds=1.5) else SOON
    if when.date() == today.date():
        return f"{when:%H:%M:%S}" if left < timedelta(minutes=5) else f"{when:%H:%M}"
    return f"{when:%a %H:%M}" if left < timedelta(days=6) else f"{when:%Y-%m-%d}"


def id_text(job: dict[str, Any]) -> str:
    """The id; for a task of an array the form that says which: ``17_3``."""
    return str(job["id"]) if job.get("array_id") is None else f"{job['array_id']}_{job['array_index']}"


def run_time(job: dict[str, Any], now: float) -> str:
    """How long the job runs, or ran."""
    started, ended = seconds_of(job["started"]), seconds_of(job["ended"])
    if started is None or job["state"] == "QUEUED":
        return ""
    return span((now if ended is None else ended) - started)
