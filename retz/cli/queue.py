"""``retz status``, ``ping``, ``drain``: the queue as a whole."""

from __future__ import annotations

import time
from typing import Any

import click

from retz.client import calls
from retz.model.units import format_size

from .app import App
from .output import plural, print_json, printable
from .parameters import json_option, watch_option
from .waiting import Progress
from .watching import repeat

POLL_S = 0.5


@click.command("status")
@watch_option
@json_option
@click.pass_obj
def status_command(app: App, /, watch: bool, as_json: bool) -> None:
    """Show the queue at a glance."""
    for _ in repeat(watch, as_json):
        status = app.call(calls.status())
        if as_json:
            print_json("status", **{name: value for name, value in status.items() if name != "same_host_token"})
            continue
        for name, value in _lines(status, app.config.server_uri):
            print(f"{name:<10}{printable(value)}")


def _lines(status: dict[str, Any], uri: str) -> list[tuple[str, str]]:
    used, total = status["used"], status["total"]
    lines = [
        ("server", f"{uri} on {status['host']}, version {status['version']}, engine {status['engine']}"),
        ("queue", f"{status['mode']}, planner {status['planner']}"),
        ("jobs", f"{status['queued']} queued ({status['held']} held), {status['starting']} starting, "
                 f"{status['started']} started"),
        ("agents", str(status["agents"])),
        ("cpus", f"{used['cpus']:g} of {total['cpus']:g} in use"),
        ("memory", f"{format_size(used['mem'])} of {format_size(total['mem'])} in use"),
    ]  # fmt: skip
    if total["gpus"]:
        lines.append(("gpus", f"{used['gpus']} of {total['gpus']} in use"))
    if status["read_only"]:
        lines.append(("READ-ONLY", status["read_only"]))
    if status["engine_failure"]:
        lines.append(("ENGINE", status["engine_failure"]))
    if status.get("planner_failure"):
        lines.append(("PLANNER", status["planner_failure"]))
    if status.get("estimator_failure"):
        lines.append(("ESTIMATOR", status["estimator_failure"]))
    return [*lines, ("you", status["user"]["key"] + (" (administrator)" if status["user"]["admin"] else ""))]


@click.command("ping")
@json_option
@click.pass_obj
def ping_command(app: App, /, as_json: bool) -> None:
    """Ask whether the server answers."""
    seconds = app.transport.ping()
    if as_json:
        print_json("ping", server=app.config.server_uri, seconds=seconds)
    else:
        print(f"OK  {app.config.server_uri}  {seconds * 1000:.1f} ms")


@click.command("drain")
@click.option("--pause", is_flag=True, help="Go on accepting jobs, but start none.")
@click.option("--resume", is_flag=True, help="Accept and start jobs again.")
@click.option("--wait", is_flag=True, help="Wait until nothing runs any more.")
@json_option
@click.pass_obj
def drain_command(app: App, /, pause: bool, resume: bool, wait: bool, as_json: bool) -> None:
    """Let running jobs end and start no more, pause, or resume. For administrators.

    Draining refuses new jobs too; nothing that is queued is lost.
    """
    if (pause and resume) or (resume and wait):
        raise click.UsageError("--resume goes alone; --pause goes with --wait only")
    mode = "open" if resume else "paused" if pause else "draining"
    answer = app.call(calls.queue(mode))
    if wait:
        answer = {"mode": mode, "running": _wait_idle(app, answer["running"])}
    if as_json:
        print_json("drain", **answer)
    else:
        print(f"the queue is {answer['mode']}, {plural(answer['running'], 'job')} running")


def _wait_idle(app: App, running: int) -> int:
    with Progress("jobs", running) as progress:
        while running:
            time.sleep(POLL_S)
            status = app.call(calls.status())
            now = status["starting"] + status["started"]
            progress.advance(max(0, running - now))
            running = now
    return 0
