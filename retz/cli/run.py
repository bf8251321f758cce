"""``retz run``: a job as if it ran here."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import click

from .app import App
from .attached import Attached
from .output import print_json
from .parameters import json_option
from .submission import job_options, key_option, submit
from .waiting import wait_for


@click.command("run", context_settings={"allow_interspersed_args": False})
@job_options
@key_option
@click.option("--stderr", "-stderr", is_flag=True, help="Accepted for Retz's sake: stderr is always shown.")
@json_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--] [PROGRAM [ARGS]...]")
@click.pass_obj
def run_command(app: App, /, words: tuple[str, ...], stderr: bool, as_json: bool, **options: Any) -> int:
    """Run a command as a job: its output and exit code as if it ran here.

    Exits with the job's own code, 128+n for signal n, 124 for its time limit, 137 for its memory limit,
    125 when Retz itself failed. On the server's own host it runs in this directory, else in its sandbox.
    Ctrl-C asks whether to kill it; a second Ctrl-C does.

    Example: retz run --mem 4g --gpu 1 -- python train.py --epochs 3
    """
    if options["array"] is not None:
        raise click.UsageError("the output of many tasks does not fit one terminal: use 'retz schedule --array'")
    signal.signal(signal.SIGTERM, _interrupt)
    ids = submit(app, words, options)
    if as_json:
        jobs, code = wait_for(app, ids)
        print_json("run", ids=ids, jobs=jobs, exit_code=code)
        return code
    attached = Attached(app, ids)
    code = 0
    for number in ids:
        code = max(code, attached.follow(number))
        if attached.stopped is not None:
            return attached.stopped
    return code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Whoever terminates ``retz run`` means the job: end it as Ctrl-C does."""
    raise KeyboardInterrupt
