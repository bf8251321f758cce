"""``retz schedule``."""

from __future__ import annotations

import sys
from typing import Any

import click

from retz.client import calls

from .app import App
from .output import is_terminal, note, print_json
from .parameters import json_option
from .submission import job_options, key_option, submit
from .waiting import wait_for


@click.command("schedule", context_settings={"allow_interspersed_args": False})
@job_options
@key_option
@click.option("--wait", is_flag=True, help="Wait until it has ended; exit with the worst job's code.")
@json_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--] [PROGRAM [ARGS]...]")
@click.pass_obj
def schedule_command(app: App, /, words: tuple[str, ...], wait: bool, as_json: bool, **options: Any) -> int:
    """Submit a job, or one per line of a file, and print the id.

    Piped, the output is the ids alone, one per line.
    """
    ids = submit(app, words, options)
    if not wait:
        _print_ids(app, ids, as_json)
        return 0
    if not as_json:
        _print_ids(app, ids, False)
    jobs, code = wait_for(app, ids)
    if as_json:
        print_json("schedule", ids=ids, jobs=jobs, exit_code=code)
    return code


def _print_ids(app: App, ids: list[int], as_json: bool) -> None:
    if as_json:
        print_json("schedule", ids=ids)
        return
    if not is_terminal(sys.stdout):
        print("\n".join(map(str, ids)), flush=True)
        return
    if len(ids) == 1:
        job = app.call(calls.job(ids[0]))
        why = job.get("why") or ""
        what = why if job.get("held") else job["state"].lower() + (f": {why}" if why else "")
        print(f"job {ids[0]} is {what}")
        note(f"follow it with 'retz get-file --poll {ids[0]}', ask 'retz why {ids[0]}'")
    else:
        print(f"{len(ids)} jobs: {ids[0]}-{ids[-1]}")
