"""How failures are told: one sentence on stderr, or a JSON object there under ``--json``, and an exit code."""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper

import click

from retz.client.errors import ApiError, RetzError
from retz.config import ConfigError

SCHEMA = "retz.cli/1"
REFUSED, USAGE, RUN_FAILED, INTERRUPTED = 1, 2, 125, 130
BROKEN_PIPE = 141
"""128 + SIGPIPE: what the shell sees of a program whose reader has gone."""


class CliError(click.ClickException):
    """A failure of the command itself; the text says what to do."""

    exit_code = REFUSED


def guarded(command: click.Command, arguments: list[str]) -> int:
    """Run a command line; return its exit code, having told what went wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        code = command.main(arguments, prog_name="retz", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        _tell("interrupted", "interrupted", arguments)
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as stop:
        # click exits by itself after shell completion, and with 1 when the reader has gone.
        return int(stop.code or 0) if "_RETZ_COMPLETE" in os.environ else _reader_gone()
    except click.UsageError as error:
        _tell("usage", _usage_text(error), arguments)
        return USAGE
    except click.ClickException as error:
        _tell("refused", error.format_message(), arguments)
        return error.exit_code
    except ConfigError as error:
        _tell("configuration", str(error), arguments)
        return _own(arguments)
    except RetzError as error:
        _tell(error.code, str(error), arguments, error)
        return _own(arguments)


def _reader_gone() -> int:
    # Python would complain again when it flushes at its exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _own(arguments: list[str]) -> int:
    """``run`` keeps 1 for the job's own code."""
    return RUN_FAILED if "run" in _words(arguments) else REFUSED


def _words(arguments: list[str]) -> list[str]:
    """The command's name, if it can be told: the first word that is no option of the group."""
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word in ("-C", "--config", "--server"):
            skip = True
        elif not word.startswith("-"):
            return [word]
    return []


def _wants_json(arguments: list[str]) -> bool:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own


def _tell(code: str, message: str, arguments: list[str], error: RetzError | None = None) -> None:
    if not _wants_json(arguments):
        print(f"retz: {message}", file=sys.stderr)
        return
    body: dict[str, object] = {"code": code, "message": message}
    if isinstance(error, ApiError):
        body["status"] = error.status
        body["fields"] = [{"field": field, "message": text} for field, text in error.errors]
    print(json.dumps({"schema": SCHEMA, "error": body}), file=sys.stderr)


def _usage_text(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "retz"
    return f"{error.format_message()}\nTry '{path} --help'."
