"""How failures are told: one sentence on stderr that says what to do, and an exit code."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import click

from ..errors import EstimatorError
from .output import printable

REFUSED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


class Refused(click.ClickException):
    """The command cannot be done; the text says what to do instead."""

    exit_code = REFUSED


def guarded(command: click.Command, arguments: list[str]) -> int:
    """Run a command line; return its exit code, having told what went wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        code = command.main(arguments, prog_name="retz-estimator", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit:  # click's own way when the reader has gone
        return _reader_gone()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "retz-estimator"
        _tell(f"{error.format_message()} (try '{path} --help')")
        return USAGE
    except click.ClickException as error:
        _tell(error.format_message())
        return error.exit_code
    except EstimatorError as error:
        _tell(str(error))
    except OSError as error:
        _tell(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError:
        _tell("out of memory; larger steps need less: --interval")
    return REFUSED


def _tell(text: str) -> None:
    print(f"retz-estimator: {printable(text)}", file=sys.stderr)


def _reader_gone() -> int:
    # Python would complain again when it flushes at its exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
