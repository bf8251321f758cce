"""``retz eta`` and ``retz plan``: when jobs start and end, before and after they are submitted."""

from __future__ import annotations

import time
from typing import Any

import click

from retz.client import calls
from retz.client.errors import ApiError
from retz.model.units import format_size, span

from .app import App
from .listing import IN, SOON, clock, compact
from .output import Column, note, plural, print_json, print_table, print_text, printable, state_cell
from .parameters import Ids, json_option
from .submission import bodies, job_options, of_one

SOURCES = {
    "pipeline": "past runs",
    "similar": "jobs alike",
    "limit": "time limit",
    "guess": "a guess",
}
_WHY = {
    "pipeline": "from earlier runs of its step",
    "similar": "from your last similar jobs",
    "limit": "supposing that it uses all of its time limit",
    "guess": "a guess: nothing like it has run before; --timeout would tell more",
}

_INDENT = " " * 8

COLUMNS = (
    Column("ID", right=True),
    Column("NAME", flexible=True, optional=True, drop=1),
    Column("STATE"),
    Column("START", optional=True),
    Column("END", optional=True),
    Column("FROM", optional=True, drop=2),
    Column("NOTE", flexible=True, optional=True, least=20),
)


@click.command("eta")
@click.argument("ids", nargs=-1, type=Ids())
@json_option
@click.pass_obj
def eta_command(app: App, /, ids: tuple[list[int | str], ...], as_json: bool) -> None:
    """Say when jobs start and end.

    Without ids of all your jobs that run or wait. 14:05-14:20 means: before 14:05 in half of all cases, before 14:20
    in nine of ten. Of a job that runs, the end alone is told.
    """
    numbers = app.resolve(tuple(number for group in ids for number in group))
    answer = app.call(calls.etas(compact(numbers) or None, max(100, len(numbers)) if numbers else None))
    if as_json:
        print_json("eta", **answer)
        return
    etas, now = answer["etas"], time.time()
    if len(etas) == 1:
        print_text(printable(sentence(etas[0], now)))
    elif etas:
        print_table(COLUMNS, [_row(each, now) for each in etas])
    else:
        note("you have no job that runs or waits")
    if answer["trouble"]:
        note(f"there is no newer forecast: {answer['trouble']}")
    ages = [each["age_s"] for each in etas if each["age_s"] is not None]
    if ages and max(ages) >= 1:
        note(f"as it looked {span(max(ages))} ago")


def _row(eta: dict[str, Any], now: float) -> list[Any]:
    start = between(eta["start"], now)
    if not start and eta["not_before"]:
        start = "after " + earliest(eta["not_before"], now)
    return [
        str(eta["id"]),
        eta["name"],
        state_cell(eta),
        start,
        between(eta["end"], now),
        SOURCES.get(eta["source"] or "", "") if eta["end"] else "",
        eta["note"] or "",
    ]


def sentence(eta: dict[str, Any], now: float) -> str:
    """What there is to say of one job."""
    name = f"job {eta['id']}" + (f" ({eta['name']})" if eta["name"] else "")
    if eta["not_before"]:
        return f"{name} starts not before {earliest(eta['not_before'], now)}, about: it is {eta['note']}"
    if not eta["start"] and not eta["end"]:
        return f"{name}: {eta['note'] or 'nothing is foreseen'}"
    parts = [f"starts {about(eta['start'], now)}"] if eta["start"] else []
    parts += [f"ends {about(eta['end'], now)}"] if eta["end"] else []
    known = _WHY.get(eta["source"] or "", "")
    return f"{name} {', '.join(parts)}" + (f"; {known}" if known and eta["end"] else "")


def about(moment: dict[str, Any], now: float) -> str:
    """``about 14:05 (by 14:20 in 9 of 10)``, ``in about 8s (within 20s in 9 of 10)``."""
    half, most = clock(moment["p50"], now), clock(moment["p90"], now)
    if half != SOON:
        half = f"in about {half.removeprefix(IN)}" if half.startswith(IN) else f"about {half}"
    if clock(moment["p50"], now) == most:
        return half
    by = f"within {most.removeprefix(IN)}" if most.startswith(IN) else f"by {most}"
    return f"{half} ({by} in 9 of 10)"


def earliest(bound: str, now: float) -> str:
    """Before when it does not start or end: ``14:05``, ``8s from now``."""
    told = clock(bound, now)
    return f"{told.removeprefix(IN)} from now" if told.startswith(IN) else told


def between(moment: dict[str, Any] | None, now: float) -> str:
    """``14:05-14:20``, for tables; empty if nothing is known."""
    if moment is None:
        return ""
    half, most = clock(moment["p50"], now), clock(moment["p90"], now)
    if half == most:
        return half
    return f"{half}-{most.removeprefix(IN)}" if half.startswith(IN) else f"{half}-{most}"


@click.command("plan", context_settings={"allow_interspersed_args": False})
@job_options
@json_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--] [PROGRAM [ARGS]...]")
@click.pass_obj
def plan_command(app: App, /, words: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Say when and where a job or an array would run, and submit nothing.

    Takes what 'retz run' takes. Exits with 1 if no machine could ever run it.

    Example: retz plan --mem 4g --gpu 1 -- python train.py
    """
    jobs = bodies(app, words, options)
    if len(jobs) != 1:
        raise click.UsageError("a plan is of one job or one array: leave --each-line out")
    try:
        plan = app.call(calls.plan(jobs[0]))
    except ApiError as error:
        raise of_one(error) from None
    if as_json:
        print_json("plan", **plan)
    else:
        _show(plan, time.time())
    return 0 if plan["could"] else 1


def _show(plan: dict[str, Any], now: float) -> None:
    asks, agents, ahead, tasks = plan["resources"], plan["agents"], plan["ahead"], plan.get("tasks")
    print(f"{'asks':<8}{_amounts(asks)}" + (f", each of {plural(tasks, 'task')}" if tasks else ""))
    fits = f"{agents['fit']} of {plural(agents['total'], 'machine')} now"
    print_text(f"{'fits':<8}{fits}, {plan['could']} if nothing else ran", _INDENT)
    failing = ", ".join(f"{count} lack {name}" for name, count in agents["fail"].items() if count)
    if failing and agents["total"] > 1:
        print_text(f"{_INDENT}{failing}", _INDENT)
    if plan["start"]:
        where = f" on {plan['where']}" if plan["where"] else ""
        print_text(f"{'starts':<8}{about(plan['start'], now)}{printable(where)}", _INDENT)
    elif plan.get("not_before"):
        print_text(f"{'starts':<8}not before {earliest(plan['not_before'], now)}, about", _INDENT)
    if tasks and plan["start"]:
        most = f"{plan['at_once']} of {plural(tasks, 'task')} at a time, on {plural(plan['hosts'], 'machine')}"
        print_text(f"{'runs':<8}at most {most}", _INDENT)
    if plan["end"]:
        print_text(f"{'ends':<8}{about(plan['end'], now)}; {_WHY[plan['source']]}", _INDENT)
    elif plan.get("end_not_before"):
        bound = earliest(plan["end_not_before"], now)
        print_text(f"{'ends':<8}not before {bound}, about; {_WHY[plan['source']]}", _INDENT)
    amounts = f", which ask for {_amounts(ahead['resources'])}" if ahead["jobs"] else ""
    print_text(f"{'ahead':<8}{plural(ahead['jobs'], 'job')}{amounts}", _INDENT)
    if plan["note"]:
        print_text(f"{_INDENT}{plan['note']}", _INDENT)


def _amounts(resources: dict[str, Any]) -> str:
    text = f"{resources['cpus']:g} cpu{'s' * (resources['cpus'] != 1)}, {format_size(resources['mem'])} memory"
    return text + "".join(f", {resources[name]} {name}" for name in ("gpus", "ports") if resources[name])
