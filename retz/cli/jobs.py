"""``retz get-job``, ``why``, ``watch``: looking at single jobs."""

from __future__ import annotations

import time
from typing import Any

import click

from retz.client import calls
from retz.client.sse import Subscription
from retz.model.units import format_size, span

from .app import App
from .listing import run_time
from .output import (
    Cell,
    Column,
    ago,
    command_text,
    note,
    off_path_text,
    print_json,
    print_table,
    printable,
    state_cell,
    to_seconds,
)
from .parameters import Ids, ids_of, ids_option, json_option, one_id, watch_option
from .sizing import sized_text
from .waiting import ENDED, exit_code_of
from .watching import repeat


@click.command("get-job")
@ids_option
@watch_option
@json_option
@click.pass_obj
def get_job_command(app: App, /, ids: Any, id_option: Any, watch: bool, as_json: bool) -> None:
    """Show everything about jobs."""
    wanted = ids_of(ids, id_option)
    for _ in repeat(watch, as_json):
        jobs = [app.call(calls.job(number)) for number in wanted]
        if as_json:
            print_json("get-job", jobs=jobs)
            continue
        for index, job in enumerate(jobs):
            if index:
                print()
            show(job)


def show(job: dict[str, Any]) -> None:
    """Print one job for people."""
    now = time.time()
    for name, value in details(job, now):
        if value:
            print(f"{name:<13}{printable(value)}")
    if len(job["attempts"]) > 1:
        print()
        _show_attempts(job["attempts"], now)


def details(job: dict[str, Any], now: float) -> list[tuple[str, str]]:
    """Names and texts of what there is to say; empty texts are not worth a line."""
    resources, usage = job["resources"], job["usage"] or {}
    asks = f"{resources['cpus']:g} cpu{'s' * (resources['cpus'] != 1)}, {format_size(resources['mem'])} memory"
    asks += "".join(f", {resources[n]} {n}" for n in ("gpus", "ports") if resources[n])
    asks += f", {format_size(resources['disk'])} disk" if resources["disk"] else ""
    used = f"{usage.get('cpu_s', 0):.1f} s cpu, {format_size(round(usage.get('max_rss_mb') or 0))} memory at most"
    return [
        ("job", str(job["id"])),
        ("state", state_cell(job).text),
        ("why", job["why"] or ""),
        ("off path", off_path_text(job)),
        ("message", job["message"] or ""),
        ("name", job["name"]),
        ("command", command_text(job["command"])),
        ("directory", job["directory"] or ""),
        ("asks", asks),
        ("predicted", sized_text(job.get("sized"))),
        ("used", used if usage else ""),
        ("attributes", job["attributes"]),
        ("priority", str(job["priority"] or "")),
        *_bonds(job),
        ("tags", ",".join(job["tags"])),
        ("application", job["application"]),
        ("pipeline", " ".join(filter(None, (job["pipeline"], job["run"])))),
        ("owner", job["owner"]),
        ("submitted", _when(job["submitted"], now)),
        ("started", _when(job["started"], now)),
        ("ended", _when(job["ended"], now)),
        ("ran", run_time(job, now)),
        ("eta", _foreseen(job, now)),
        ("exit code", "" if job["exit_code"] is None else str(job["exit_code"])),
        ("signal", str(job["signal"] or "")),
        ("time limit", span(job["timeout_s"]) if job["timeout_s"] else ""),
        ("agent", job.get("host") or job["agent"] or ""),
        # A cluster's are AGENT/gpu0; the agent stands above.
        ("gpus", ",".join(gpu.rpartition("/")[2] for gpu in job["gpus"])),
        ("ports", ",".join(map(str, job["ports"]))),
        ("losses", f"{job['losses']} (--retries {job['max_retries']})" if job["losses"] else ""),
        ("on end", _news(job, now)),
        ("repeats", f"job {job['resubmit_of']}" if job["resubmit_of"] else ""),
        # Values stay out: they are where people keep secrets. --json has what the server gives.
        ("environment", ", ".join(n + " <masked>" * (v == "<masked>") for n, v in sorted(job["environment"].items()))),
    ]


def _foreseen(job: dict[str, Any], now: float) -> str:
    """When it starts and ends, if that is known already."""
    from .eta import about

    eta = job.get("eta") or {}
    return ", ".join(f"{word}s {about(eta[word], now)}" for word in ("start", "end") if eta.get(word))


def _bonds(job: dict[str, Any]) -> list[tuple[str, str]]:
    """What it has to do with other jobs, and when it may start."""
    array, start_at = job.get("array"), job.get("start_at")
    counts = ("active", "waiting", "finished", "failed", "killed")
    return [
        ("array", f"{array['text']}: " + ", ".join(f"{array[n]} {n}" for n in counts if array[n]) if array else ""),
        ("task", f"{job['array_id']}_{job['array_index']}" if job.get("array_id") is not None else ""),
        ("after", ", ".join(job.get("after") or ())),
        ("not before", to_seconds(start_at) if start_at else ""),
        ("group", job.get("group") or ""),
        ("max fails", str(job.get("max_fails") or "")),
    ]


def _news(job: dict[str, Any], now: float) -> str:
    """Who is told of its end, and how that stands."""
    told = [
        (f"{n['kind']}: " if n.get("kind") else "")
        + f"{n['state']}{', ' + _when(n['done'], now) if n['done'] else ''}"
        + (f", {n['tries']} call{'s' * (n['tries'] != 1)}" if n["tries"] else "")
        + (f", the last: {n['error']}" if n["error"] else "")
        for n in job.get("news") or ()
    ]
    return ": ".join(filter(None, (job.get("on_end") or "", "; ".join(told))))


def _when(text: str | None, now: float) -> str:
    return f"{to_seconds(text)} ({ago(text, now)} ago)" if text else ""


def _show_attempts(attempts: list[dict[str, Any]], now: float) -> None:
    columns = [
        Column("ATTEMPT", True),
        Column("AGENT", varied=True),
        Column("STARTED"),
        Column("ENDED"),
        Column("END", flexible=True),
    ]
    print_table(
        columns,
        [
            [
                str(a["number"]),
                a.get("host") or a["agent"],
                _when(a["started"], now),
                _when(a["ended"], now),
                a["message"] or a["reason"] or "",
            ]
            for a in attempts
        ],
    )


@click.command("why")
@ids_option
@json_option
@click.pass_obj
def why_command(app: App, /, ids: Any, id_option: Any, as_json: bool) -> None:
    """Say why a job waits, or why it ended."""
    answer = app.call(calls.why(one_id(ids, id_option)))
    if as_json:
        print_json("why", **answer)
        return
    print(printable(answer["summary"]))
    if waited := waited_text(answer):
        print(waited)
    if answer["state"] == "QUEUED":
        _show_waiting(answer)
    elif answer["state"] == "FAILED" and "get-file" not in answer["summary"]:
        note(f"what it said last: 'retz get-file --path stderr {answer['id']}'")


_UNSEEN_S = 6.0
"""The server looks every five seconds: less is always missing."""


def waited_text(answer: dict[str, Any]) -> str:
    """What it waited for, in one line; empty if that is not worth one."""
    parts = [part["text"] for part in answer.get("waited") or ()]
    if not parts:
        return ""
    unknown = answer.get("unknown_s") or 0.0
    if unknown >= max(_UNSEEN_S, answer["waited_s"] / 20):
        parts.append(f"{span(unknown)} not known: nobody looked then")
    verb = "has waited" if answer["state"] == "QUEUED" else "waited"
    return f"it {verb} {span(round(answer['waited_s']))}: {', '.join(parts)}"


def _show_waiting(answer: dict[str, Any]) -> None:
    agents = answer.get("agents") or {}
    failing = {name: count for name, count in (agents.get("fail") or {}).items() if count}
    if answer.get("ahead"):
        shown = ", ".join(map(str, answer.get("ahead_ids") or ()))
        print(f"ahead: {shown}" + (", ..." if answer["ahead"] > 10 else ""))
    if failing and agents["total"] > 1:
        print(
            f"{agents['fit']} of {agents['total']} agents fit; "
            + ", ".join(f"{count} fail on {name}" for name, count in failing.items())
        )
    if answer.get("details"):
        print()
        _show_details(answer["details"])


def _show_details(rows: list[dict[str, Any]]) -> None:
    columns = [
        Column("AGENT"),
        Column("CPUS FREE", True),
        Column("MEM FREE", True),
        Column("GPUS FREE", True, optional=True),
        Column("FAILS ON", flexible=True, least=16),
    ]
    print_table(
        columns,
        [
            [
                row["host"] or row["agent"],
                f"{row['free']['cpus']:g}/{row['total']['cpus']:g}",
                f"{format_size(row['free']['mem'])}/{format_size(row['total']['mem'])}",
                f"{row['free']['gpus']}/{row['total']['gpus']}" if row["total"]["gpus"] else "",
                Cell(", ".join(row["failing"]) or "fits", "31" if row["failing"] else "32"),
            ]
            for row in rows
        ],
    )


@click.command("watch")
@click.argument("ids", nargs=-1, type=Ids())
@click.option("--since", type=click.IntRange(0), metavar="SEQ", help="Begin after this event, instead of now.")
@click.option("--user", metavar="KEY", help="* for everybody's jobs; for administrators.")
@json_option
@click.pass_obj
def watch_command(app: App, /, ids: Any, since: int | None, user: str | None, as_json: bool) -> int:
    """Print every change of jobs as it happens.

    With ids it ends when all of them have ended, with the worst exit code; without, at Ctrl-C. It survives
    restarts of the server and misses nothing. --json prints one document per line.
    """
    waiting = app.resolve(tuple(number for group in ids for number in group))
    named = set(waiting)
    subscription = Subscription(app.call(calls.status())["seq"] if since is None else since, user)
    code = 0
    for job in [app.call(calls.job(number)) for number in waiting]:
        _print_change(job, subscription.last, as_json)
        if job["state"] in ENDED:
            waiting.remove(job["id"])
            code = max(code, exit_code_of(job))
    if named and not waiting:
        return code
    for event in app.transport.events(subscription):
        if event.kind != "job" or (named and event.data["id"] not in waiting):
            continue
        _print_change(event.data, event.id, as_json)
        if named and event.data["state"] in ENDED:
            waiting.remove(event.data["id"])
            code = max(code, exit_code_of(event.data))
            if not waiting:
                break
    return code


def _print_change(job: dict[str, Any], seq: int | None, as_json: bool) -> None:
    if as_json:
        print_json("watch", seq=seq, job=job)
        return
    clock = time.strftime("%H:%M:%S")
    rest = printable(job["name"] or command_text(job["command"]))
    print(f"{clock}  {job['id']:>6}  {state_cell(job).text:<14}  {rest}", flush=True)
