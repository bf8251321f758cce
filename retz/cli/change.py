"""``retz kill``, ``killall``, ``update``, ``hold``, ``release``, ``resubmit``: changing jobs."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import click

from retz.client import calls
from retz.client.retry import new_key

from .app import App
from .errors import REFUSED
from .output import plural, print_json, printable
from .parameters import ids_of, ids_option, json_option
from .waiting import wait_for

MAX_LINES = 20
"""On a terminal more than so many jobs are told as a number: 1 000 lines push away what one wants to read."""


def report(kind: str, answer: dict[str, Any], as_json: bool) -> int:
    """Print the results of a bulk request; return the exit code."""
    if as_json:
        print_json(kind, **answer)
        return REFUSED if answer["failed"] else 0
    brief = sys.stdout.isatty() and kind != "resubmit" and answer["ok"] > MAX_LINES
    if brief:
        for word, number in Counter(_word(kind, r) for r in answer["results"] if r["ok"]).items():
            print(f"{plural(number, 'job')}: {word}")
    for result in answer["results"]:
        if not result["ok"]:
            error, subject = printable(str(result["error"])), f"job {result['id']}"
            print(f"retz: {error if error.startswith(subject) else f'{subject}: {error}'}", file=sys.stderr)
        elif result.get("new_id") is not None:
            print(result["new_id"] if not sys.stdout.isatty() else f"job {result['id']} again: job {result['new_id']}")
        elif not brief:
            print(f"job {result['id']}: {_word(kind, result)}")
    return REFUSED if answer["failed"] else 0


def _word(kind: str, result: dict[str, Any]) -> str:
    state = result["state"]
    if kind in ("kill", "killall", "admin kill"):
        return "killed" if state == "KILLED" else "being killed"
    return {"hold": "held", "release": "released"}.get(kind, "changed")


def wait_killed(app: App, answer: dict[str, Any]) -> None:
    """Wait until what was killed has ended, and tell so in the answer."""
    done = [r for r in answer["results"] if r["ok"]]
    jobs, _ = wait_for(app, [r["id"] for r in done])
    for result, job in zip(done, jobs, strict=True):
        result["state"] = job["state"]


@click.command("kill")
@ids_option
@click.option("--wait", is_flag=True, help="Wait until they have ended.")
@json_option
@click.pass_obj
def kill_command(app: App, /, ids: Any, id_option: Any, wait: bool, as_json: bool) -> int:
    """End jobs.

    A queued job is killed at once; a running one gets SIGTERM, and SIGKILL after its grace period.
    """
    answer = app.call(calls.many("kill", ids=app.resolve(ids_of(ids, id_option))))
    if wait:
        wait_killed(app, answer)
    return report("kill", answer, as_json)


def chosen_by(options: dict[str, Any]) -> dict[str, Any]:
    """The filter that is made of the options that choose jobs; empty if none of them is given."""
    fields = {
        "tag": list(options["tags"]),
        "state": [word for word in (options["states"] or "").upper().split(",") if word],
        "application": options["appname"],
        **{name: options.get(name) for name in ("name", "text", "pipeline")},
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


@click.command("killall")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="Having this tag. Repeatable: all must hold.")
@click.option("--state", "--states", "states", metavar="LIST", help="In these states [default: LIVE].")
@click.option("-A", "--appname", metavar="NAME", help="Of this application.")
@click.option("-N", "--name", metavar="TEXT", help="Of this name.")
@click.option("--text", metavar="TEXT", help="With this in name or command.")
@click.option("--pipeline", metavar="NAME", help="Of this pipeline.")
@click.option("--all", "everything", is_flag=True, help="All your live jobs.")
@click.option("--wait", is_flag=True, help="Wait until they have ended.")
@json_option
@click.pass_obj
def killall_command(app: App, /, everything: bool, wait: bool, as_json: bool, **options: Any) -> int:
    """End all live jobs that match."""
    chosen = chosen_by(options)
    if not chosen and not everything:
        raise click.UsageError("which jobs? give --tag, --name, --appname, --text, --state, or --all")
    chosen.setdefault("state", ["LIVE"])
    answer = app.call(calls.many("kill", filter=chosen))
    if wait:
        wait_killed(app, answer)
    if not as_json and not answer["results"]:
        print("no live job matches")
    return report("killall", answer, as_json)


@click.command("update")
@ids_option
@click.option(
    "--prio", "--priority", "priority", type=click.IntRange(-20, 19), required=True, help="-20..19, lower is earlier."
)
@json_option
@click.pass_obj
def update_command(app: App, /, ids: Any, id_option: Any, priority: int, as_json: bool) -> int:
    """Change the priority of queued jobs."""
    call = calls.many("update", ids=app.resolve(ids_of(ids, id_option)), priority=priority)
    return report("update", app.call(call), as_json)


@click.command("hold")
@ids_option
@json_option
@click.pass_obj
def hold_command(app: App, /, ids: Any, id_option: Any, as_json: bool) -> int:
    """Keep queued jobs from being started."""
    call = calls.many("hold", ids=app.resolve(ids_of(ids, id_option)))
    return report("hold", app.call(call), as_json)


@click.command("release")
@ids_option
@json_option
@click.pass_obj
def release_command(app: App, /, ids: Any, id_option: Any, as_json: bool) -> int:
    """Let held jobs be started again."""
    call = calls.many("release", ids=app.resolve(ids_of(ids, id_option)))
    return report("release", app.call(call), as_json)


@click.command("resubmit")
@ids_option
@json_option
@click.pass_obj
def resubmit_command(app: App, /, ids: Any, id_option: Any, as_json: bool) -> int:
    """Submit jobs again, as they were.

    Piped, the output is the new ids alone, one per line.
    """
    call = calls.many("resubmit", ids=app.resolve(ids_of(ids, id_option)), key=new_key())
    return report("resubmit", app.call(call), as_json)
