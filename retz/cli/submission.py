"""From options to a submission: what a job asks for, where it runs, with which environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from retz.client import calls
from retz.client.errors import ApiError
from retz.client.retry import Backoff, new_key
from retz.config import JOB_VARIABLES, host_token

from .app import App
from .output import is_terminal, note, plural, printable
from .parameters import Cpus, Duration, Moment, Size
from .sizing import submitted_text

F = TypeVar("F", bound=Callable[..., Any])

CARRIED = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "USER", "LOGNAME", "SHELL", "TZ")
"""What a command that runs here finds as its caller left it, beside LC_*."""
_NEVER_CARRIED = {"TERM", "_", "PWD", "OLDPWD", "SHLVL", "CUDA_VISIBLE_DEVICES", "TMUX", "STY", "WINDOWID", "TTY"}
"""They describe the submitter's terminal, shell or devices, not the work."""


def job_options(function: F) -> F:
    """All options that say what a job is and needs; their values come as keyword arguments."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


key_option = click.option(
    "--key", metavar="TEXT",
    help="Name of this submission: given again within a day, it is the same job, and not a second one.",
)  # fmt: skip

_PRIORITY = click.IntRange(-20, 19)
_OPTIONS = [
    click.option("-A", "--appname", metavar="NAME", help="Application to run in [default: default]."),
    click.option("-c", "--command", "-cmd", "line", metavar="LINE", help="Shell line to run; - reads it from stdin."),
    click.option("--each-line", metavar="FILE", help="One job for each line of the file; - is stdin."),
    click.option(
        "-E", "--env", "env", metavar="NAME=VALUE", multiple=True,
        help="Set a variable; NAME alone takes the value it has here. Repeatable.",
    ),
    click.option("--cpu", "--cpus", "-cpu", "cpus", type=Cpus(), metavar="N", help="Processors, 0.5 too [default: 1]."),
    click.option("--mem", "-mem", type=Size(), metavar="SIZE", help="Memory: 512 (MiB), 1.5g [default: its share]."),
    click.option("--gpu", "--gpus", "-gpu", "gpus", type=click.IntRange(0), metavar="N", help="GPUs."),
    click.option("--disk", type=Size(), metavar="SIZE", help="Disk space."),
    click.option("--ports", "-ports", type=click.IntRange(0, 1000), metavar="N", help="Free ports, in $PORT0..."),
    click.option("--prio", "--priority", "priority", type=_PRIORITY, metavar="P", help="-20..19, lower is earlier."),
    click.option("--attributes", metavar="LIST", help="What the machine must have: 'rack=r1,level>=10,ssd'."),
    click.option("-N", "--name", metavar="TEXT", help="A name for the job."),
    click.option("--tags", "--tag", "-t", "tags", metavar="A,B", multiple=True, help="Tags. Repeatable."),
    click.option("--timeout", type=Duration(), metavar="TIME", help="Time limit: 30 (minutes), 90s, 2h; 0 is none."),
    click.option("--grace", type=Duration("s"), metavar="TIME", help="Between SIGTERM and SIGKILL: 10 (seconds), 1m."),
    click.option("--retries", type=click.IntRange(0), metavar="N", help="Tries after a lost machine [default: 5]."),
    click.option("--hold", is_flag=True, help="Do not start it before 'retz release'."),
    click.option(
        "--after", metavar="LIST", multiple=True,
        help="Start when these jobs (12, last) have ended well; 12:any: have ended, no matter how. Repeatable.",
    ),
    click.option("--at", "start_at", type=Moment(), metavar="TIME", help="Not before: +2h, 03:00, 'tomorrow 03:00'."),
    click.option("--array", metavar="RANGE", help="Tasks 1-1000; 1-1000%20: 20 at a time; 0-99:3: every third."),
    click.option("--group", metavar="NAME", help="Of jobs that --max-fails counts together."),
    click.option(
        "--max-fails", type=click.IntRange(1), metavar="N",
        help="After N failures in the array or group, start no more of it.",
    ),
    click.option(
        "--on-end",
        metavar="URL",
        help="Told by POST of its end (of an array: once, at the end of all), and if it leaves its pipeline's path.",
    ),
    click.option("--pipeline", metavar="NAME", help="The recurring work that it is part of: see 'retz predict'."),
    click.option("--run", metavar="ID", help="Which run of the pipeline, a date for instance [default: a fresh one]."),
    click.option(
        "--predicted/--no-predicted", default=None,
        help="Ask for what past runs of the pipeline used; --mem and --cpus hold until enough is known.",
    ),
    click.option("--strict", is_flag=True, help="Refuse it if it could never run on the machines there are now."),
    click.option("-w", "--directory", metavar="DIR", help="Working directory on the machine that runs it."),
    click.option("--env-all", is_flag=True, help="Pass your whole environment (except RETZ_*)."),
    click.option("--sandbox", is_flag=True, help="Run in the job's own empty directory, with nothing of yours."),
]  # fmt: skip


def bodies(app: App, words: tuple[str, ...], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs that the command line says, as they are sent.

    Raises:
        click.UsageError: there is no command, or several.
    """
    if options["run"] is not None and options["pipeline"] is None:
        raise click.UsageError("--run is a run of a pipeline: name that too with --pipeline, or leave --run out")
    commands = _commands(words, options["line"], options["each_line"])
    common = _fields(options)
    if "after" in common:
        common["after"] = _awaited(app, common["after"])
    surroundings = _surroundings(app, options)
    environment = surroundings.pop("environment", {}) | _environment(options["env"])
    common |= surroundings
    if environment:
        common["environment"] = environment
    if options["directory"]:
        common["directory"] = options["directory"]
    return [{"command": command, **common} for command in commands]


def submit(app: App, words: tuple[str, ...], options: Mapping[str, Any], first: Backoff | None = None) -> list[int]:
    """Submit what the command line says; return the ids.

    Raises:
        click.UsageError: there is no command, or several.
    """
    jobs = bodies(app, words, options)
    try:
        call = calls.submit(jobs, options["key"] or new_key())
    except ValueError as error:
        raise click.UsageError(f"this cannot be sent: {error}") from None
    try:
        answer = app.transport.call(call, first)
    except ApiError as error:
        raise error if len(jobs) > 1 else of_one(error) from None
    _warn(answer)
    if options["predicted"]:
        _tell_size(app, answer["ids"][0])
    return list(answer["ids"])


def of_one(error: ApiError) -> ApiError:
    """A refusal of the only job of a request: there is no need to say which."""
    fields = [(field.removeprefix("jobs[0]."), message) for field, message in error.errors]
    return ApiError(error.status, error.code, error.detail.replace("jobs[0].", ""), fields)


def _tell_size(app: App, job_id: int) -> None:
    """Tell what past runs made of the first job's request, on a terminal."""
    if is_terminal(sys.stderr):
        with suppress(ApiError):  # the jobs are accepted, whatever becomes of this
            note(submitted_text(app.call(calls.job(job_id))))


def _warn(answer: Mapping[str, Any]) -> None:
    """Tell of jobs that could never run, on stderr, whoever reads it."""
    for warning in answer.get("warnings") or ():
        more = warning["jobs"] - 1
        which = f"job {warning['first']}" + (f" and {plural(more, 'more job')}" if more else "")
        said = printable(warning["message"])
        print(f"retz: warning: {which} can never run on the machines there are now: {said}", file=sys.stderr)


def _commands(words: tuple[str, ...], line: str | None, each_line: str | None) -> list[str | list[str]]:
    if sum((bool(words), line is not None, each_line is not None)) != 1:
        raise click.UsageError(
            "give one of: a program after --, a shell line with -c, a file of lines with --each-line"
        )
    if words:
        return [list(words)]
    if line is not None:
        text = sys.stdin.read().rstrip("\n") if line == "-" else line
        if not text.strip():
            raise click.UsageError("the command is empty")
        return [text]
    return list(_lines(each_line or ""))


def _lines(name: str) -> list[str]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--each-line {name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--each-line {name}: not UTF-8 text (byte {error.start})") from None
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise click.UsageError(f"--each-line {name}: there is no line in it")
    return lines


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that options set; what is not said is left to the server."""
    resources = {name: options[name] for name in ("cpus", "mem", "gpus", "disk", "ports") if options[name] is not None}
    fields = {
        "application": options["appname"],
        "name": options["name"],
        "tags": [tag for group in options["tags"] for tag in group.split(",") if tag],
        "priority": options["priority"],
        "resources": resources,
        "attributes": options["attributes"],
        "timeout_s": options["timeout"] or None,
        "kill_grace_s": options["grace"],
        "max_retries": options["retries"],
        "held": options["hold"] or None,
        "pipeline": options["pipeline"],
        "run": options["run"],
        "after": [part.strip() for group in options["after"] for part in group.split(",") if part.strip()],
        "start_at": options["start_at"],
        "array": options["array"],
        "group": options["group"],
        "max_fails": options["max_fails"],
        "on_end": options["on_end"],
        "predicted": options["predicted"],
        "strict": options["strict"] or None,
    }
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def _awaited(app: App, after: list[str]) -> list[str]:
    """The same, with the number of the newest job for ``last``; if that is a task, of its array."""
    if not any(text.partition(":")[0] == "last" for text in after):
        return after
    job = app.call(calls.job("last"))
    number = str(job.get("array_id") or job["id"])
    return [number + text.removeprefix("last") if text.partition(":")[0] == "last" else text for text in after]


def _environment(pairs: tuple[str, ...]) -> dict[str, str]:
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise click.UsageError("-E wants NAME=VALUE, or NAME alone")
        if not equals:
            if name not in os.environ:
                raise click.UsageError(f"-E {name}: there is no such variable here; write {name}=VALUE")
            value = os.environ[name]
        environment[name] = value
    return environment


def _surroundings(app: App, options: Mapping[str, Any]) -> dict[str, Any]:
    """Directory and environment of the caller, where the job will run on this very host."""
    if options["sandbox"]:
        if options["env_all"]:
            raise click.UsageError("--sandbox and --env-all contradict each other")
        return {}
    here = _is_here(app) and not _in_container(app, options["appname"])
    environment = carried_environment(os.environ, everything=options["env_all"], here=here)
    if not here or options["directory"]:
        return {"environment": environment}
    try:
        return {"directory": str(Path.cwd()), "environment": environment}
    except FileNotFoundError:
        raise click.UsageError("this directory is gone: go to another one, or say -w DIR or --sandbox") from None


def _is_here(app: App) -> bool:
    status = app.call(calls.status())
    return bool(status.get("local")) and status.get("same_host_token") == host_token()


def _in_container(app: App, name: str | None) -> bool:
    """Whether the application's jobs see the files of an image, where our directories and PATH mean nothing."""
    try:
        return bool(app.call(calls.application(name or "default"))["container"]["type"] == "docker")
    except ApiError:
        return False  # the answer to the submission says what is wrong with it


def carried_environment(environ: Mapping[str, str], *, everything: bool, here: bool) -> dict[str, str]:
    """Return the caller's variables that go with a job.

    Args:
        everything: All but our own and those of the terminal.
        here: It runs on this host, so that paths mean something.
    """
    if everything:
        return {
            name: value
            for name, value in environ.items()
            if not name.startswith(("RETZ_", "_RETZ_")) and name not in _NEVER_CARRIED and not _is_port(name)
        }
    if not here:
        return {}
    return {n: v for n, v in environ.items() if (n in CARRIED or n.startswith("LC_")) and n not in JOB_VARIABLES}


def _is_port(name: str) -> bool:
    return name.startswith("PORT") and name[4:].isdecimal()
