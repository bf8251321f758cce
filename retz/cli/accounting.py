"""``retz admin usage``, ``audit``, ``gc``: what was used, what was done, what is removed."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from retz.client import calls
from retz.model.units import parse_duration

from .app import App
from .output import Column, is_terminal, note, plural, print_json, print_table, to_seconds
from .parameters import Duration, json_option

FIELDS = (
    "user", "info", "application", "finished", "failed", "killed", "running", "cpu_hours", "cpu_hours_used",
    "gpu_hours", "gpu_hours_used", "mem_gib_hours", "mem_gib_hours_used",
)  # fmt: skip
_SUMMED = FIELDS[3:]
_COUNTED = ("FINISHED", "FAILED", "KILLED", "RUNNING")
"""On a narrow terminal the last of them goes first: who and how many hours stay."""
_SPAN = re.compile(r"\d+(\.\d+)?[a-z]+")


def moment(text: str | None) -> str | None:
    """A time for the API: ISO-8601 as it is, a length of time (``7d``, ``12h``) counted back from now.

    Raises:
        click.UsageError: it is neither.
    """
    from datetime import UTC, datetime, timedelta

    if text is None:
        return None
    try:
        if _SPAN.fullmatch(text):
            return (datetime.now(UTC) - timedelta(seconds=parse_duration(text))).isoformat()
        datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.UsageError(f"not a time: {text!r}; write 7d, 12h, 2026-11-20 or 2026-11-20T06:27:17Z") from None
    return text


@click.command("usage")
@click.option("--since", "--start", "-start", "since", metavar="TIME", help="From then on: 2026-11-20, or 7d for ago.")
@click.option("--until", "--end", "-end", "until", metavar="TIME", help="Up to then [default: now].")
@click.option("--user", metavar="KEY", default="*", help="Of this user only.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@json_option
@click.pass_obj
def usage_command(app: App, /, since: str | None, until: str | None, user: str, as_csv: bool, as_json: bool) -> None:
    """Say who used what: the last week, unless told otherwise.

    Hours asked for are resources times the time for which jobs held them; hours used are what was measured: processor
    time, mean memory, and for GPUs at most that much.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    report = app.call(calls.usage_report(moment(since), moment(until), user))
    if as_json:
        print_json("admin usage", **report)
    elif as_csv:
        _print_csv(report)
    else:
        _print_report(report)


def _print_csv(report: dict[str, Any]) -> None:
    # Every line ends as a Unix tool expects it.
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("since", "until", *FIELDS))
    for row in report["rows"]:
        values = [safe(row[name]) for name in FIELDS]
        writer.writerow((report["since"], report["until"], *values))


def safe(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _print_report(report: dict[str, Any]) -> None:
    print(f"{to_seconds(report['since'])} to {to_seconds(report['until'])}")
    columns = [
        Column("USER", flexible=True, least=8),
        Column("INFO", flexible=True, optional=True, least=12),
        Column("APPLICATION", flexible=True, least=8, varied=True),
        *(Column(title, right=True, drop=4 - place) for place, title in enumerate(_COUNTED)),
        *(Column(title, right=True) for title in ("CPU-H", "USED")),
        *(Column(title, right=True, optional=True) for title in ("GPU-H", "USED")),
        *(Column(title, right=True) for title in ("GiB-H", "USED")),
    ]
    rows = report["rows"]
    if not rows and is_terminal(sys.stdout):
        note("no job held anything in that time")
        return
    lines = [_cells(row) for row in rows]
    if len(rows) > 1:
        lines.append(_cells({"user": "TOTAL", "info": "", "application": "", **_total(rows)}))
    print_table(columns, lines)


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = {name: sum(row[name] or 0 for row in rows) for name in _SUMMED}
    if all(row["gpu_hours_used"] is None for row in rows if row["gpu_hours"]):
        total["gpu_hours_used"] = None  # nobody measured
    return total


def _cells(row: dict[str, Any]) -> list[str]:
    gpus = bool(row["gpu_hours"])
    used = row["gpu_hours_used"]
    return [
        row["user"],
        row["info"],
        row["application"],
        *(str(row[name.lower()]) for name in _COUNTED),
        _hours(row["cpu_hours"]),
        _hours(row["cpu_hours_used"]),
        _hours(row["gpu_hours"]) if gpus else "",
        ("?" if used is None else _hours(used)) if gpus else "",
        _hours(row["mem_gib_hours"]),
        _hours(row["mem_gib_hours_used"]),
    ]


def _hours(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


@click.command("audit")
@click.option("--since", metavar="TIME", help="From then on: 2026-11-20, or 7d for ago.")
@click.option("--until", metavar="TIME", help="Up to then.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), help="The newest so many [default: 1000].")
@json_option
@click.pass_obj
def audit_command(app: App, /, since: str | None, until: str | None, limit: int | None, as_json: bool) -> None:
    """Show what administrators did."""
    records = app.call(calls.audit(moment(since), moment(until), limit))["records"]
    if as_json:
        print_json("admin audit", records=records)
        return
    columns = [
        Column("TIME"),
        Column("WHO", flexible=True, least=8),
        Column("WHAT"),
        Column("WHOM", flexible=True, least=8, optional=True),
        Column("DETAIL", flexible=True, least=12, optional=True),
        Column("FROM", optional=True, drop=1),
    ]
    print_table(
        columns,
        [[to_seconds(r["at"]), r["who"], r["what"], ",".join(r["whom"]), r["detail"], r["origin"]] for r in records],
    )


@click.command("gc")
@click.option("--older-than", type=Duration("d"), metavar="TIME", help="Ended longer ago: 7d, 12h.")
@click.option("--leeway", type=click.IntRange(-1), metavar="S", help="The same in seconds, as Retz writes it.")
@click.option("--records", is_flag=True, help="Forget the jobs themselves, too: they are gone from every list.")
@json_option
@click.pass_obj
def gc_command(app: App, /, older_than: float | None, leeway: int | None, records: bool, as_json: bool) -> None:
    """Remove what ended jobs left: their sandboxes, by default those that the server would remove soon itself."""
    if older_than is not None and leeway is not None:
        raise click.UsageError("--older-than or --leeway, not both")
    seconds = older_than if leeway in (None, -1) else float(leeway or 0)
    answer = app.call(calls.gc(seconds, records))
    if as_json:
        print_json("admin gc", **answer)
        return
    print(f"removing the sandboxes of {plural(answer['sandboxes'], 'job')}")
    if records:
        print(f"{plural(answer['records'], 'record')} forgotten")
