"""Starting a job's process: no fork of the launcher's memory, nothing of the launcher inherited but its limits."""

# ruff: noqa: PTH112, PTH113
from __future__ import annotations

import errno
import os
import signal

SHELL = "/bin/sh"
NOT_FOUND, NOT_EXECUTABLE = 127, 126

# Python ignores SIGPIPE and SIGXFSZ, and ignored signals are inherited.
_MACHINE_ERRORS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_DEFAULT_SIGNALS = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]


class StartError(Exception):
    """The command cannot be started. ``exit_code`` is what a shell would return; None if the machine is to blame."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def spawn(command: str | list[str], environment: dict[str, str], stdout: int, stderr: int) -> int:
    """Start a command in the current directory, in a session of its own. Returns its pid.

    A text goes to the shell; of a vector, the program is looked up in the PATH of ``environment``.

    Raises:
        StartError: with what was not found or may not be executed.
    """
    argv = [SHELL, "-c", command] if isinstance(command, str) else command
    program = find_program(argv[0], environment.get("PATH", ""))
    try:
        try:
            return _spawn(program, argv, environment, stdout, stderr)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without a first line "#!...": what shells do.
            return _spawn(SHELL, [SHELL, program, *argv[1:]], environment, stdout, stderr)
    except OSError as error:
        raise explain(error, program) from error
    except ValueError as error:
        raise StartError(f"cannot start {argv[0]!r}: {error}", NOT_EXECUTABLE) from error


def _spawn(program: str, argv: list[str], environment: dict[str, str], stdout: int, stderr: int) -> int:
    return os.posix_spawn(
        program,
        argv,
        environment,
        # Standard input is /dev/null already in the launcher. Everything else is closed on exec.
        file_actions=[(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)],
        setsid=True,
        setsigmask=[],
        setsigdef=_DEFAULT_SIGNALS,
    )


def find_program(name: str, path: str) -> str:
    """Return the file to execute for ``name``, looked up in ``path`` as a shell does.

    Raises:
        StartError: nothing of that name, or nothing that may be executed.
    """
    if "/" in name:
        return name
    directories = path.split(":") if name else []
    for directory in directories:
        candidate = f"{directory or '.'}/{name}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    # Only now, because most lookups succeed: is there something of that name that may not be executed?
    for directory in directories:
        candidate = f"{directory or '.'}/{name}"
        if os.path.isfile(candidate):
            raise StartError(f"{candidate} is not executable: chmod +x it", NOT_EXECUTABLE)
    raise StartError(f"command not found: {name!r} (looked in PATH={path})", NOT_FOUND)


def enter(directory: str) -> None:
    """Change the working directory.

    Raises:
        StartError: saying what is wrong with it.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        raise StartError(f"cannot enter its working directory {directory}: {error.strerror}", code) from error


def explain(error: OSError, program: str) -> StartError:
    """Return what a failed start means for the job, or for the machine."""
    if error.errno in _MACHINE_ERRORS:
        return StartError(f"the machine could not start another process: {error.strerror}", None)
    if error.errno == errno.ENOENT:
        if os.path.lexists(program):
            return StartError(f"{program} exists, but its interpreter was not found: see its first line", NOT_FOUND)
        return StartError(f"command not found: {program!r}", NOT_FOUND)
    if os.path.isdir(program):
        return StartError(f"{program} is a directory, not a program", NOT_EXECUTABLE)
    if error.errno == errno.EACCES:
        return StartError(f"{program} is not executable: chmod +x it", NOT_EXECUTABLE)
    return StartError(f"cannot start {program!r}: {error.strerror}", NOT_EXECUTABLE)
