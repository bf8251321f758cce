"""Starting a job that needs something first: another Unix user's rights, files.

A child of the launcher sees to it and then becomes the job by ``exec``, so that there is one process from the first to
the last moment: it is recorded, watched and killed like any other, also while it still fetches. The launcher does not
wait for it. It holds the reading end of a pipe that ``exec`` closes: the last word on it is :data:`BEGUN`, or what went
wrong, as JSON (``[reason, exit code or null, message]``), or nothing if the child was killed.

A job in a container is the exception: the child stays, as its keeper (``container.py``).

The child does not execute a helper program: the interpreter may lie where the job's user may not read (below
``/root``, say). After the change of user the kernel lets nobody but root look into it until it has become the job.
"""

# ruff: noqa: PTH102, PTH109, PTH116
from __future__ import annotations

import errno
import json
import os
import signal

from .spawn import (
    NOT_EXECUTABLE,
    SHELL,
    StartError,
    enter,
    explain,
    find_program,
)
from .system import end_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd
    from typing import Any

BEGUN = b"."
CACHE = "cache"
_TELL = 3
_MAX_MESSAGE = 600
"""Characters of at most six bytes, so that the message is written at once or not at all (PIPE_BUF)."""
_UMASK = 0o022
_RESTORED = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGALRM}
"""What Python, or fetching, handles otherwise than a new program expects."""


def start(
    path: str,
    stdout: int,
    stderr: int,
    command: str | list[str],
    environment: dict[str, str],
    directory: str | None,
    how: dict[str, Any],
) -> tuple[int, int]:
    """Begin to prepare a job. Returns the pid that it will have, and the descriptor of the news.

    Args:
        path: Its sandbox, relative to the current directory, which is the engine's.
        how: ``user``: name of the Unix user, absent for our own. ``files``: ``[[uri, cached], ...]`` with ``limits``,
            see :mod:`retz.engine.local.fetch`. ``container``: see :mod:`retz.engine.local.container`.

    Raises:
        StartError: there can be no more processes.
    """
    news, tell = os.pipe()
    launcher = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(news)
        raise explain(error, SHELL) from error
    else:
        if pid == 0:
            _child(launcher, tell, path, stdout, stderr, command, environment, directory, how)
    finally:
        os.close(tell)
    return pid, news


def _child(
    launcher: int,
    tell: int,
    path: str,
    stdout: int,
    stderr: int,
    command: str | list[str],
    environment: dict[str, str],
    directory: str | None,
    how: dict[str, Any],
) -> None:
    """Become the job, or say why not. Never returns."""
    trouble: list[Any] = ["start", NOT_EXECUTABLE, "it ended for no known reason"]
    try:
        end_with(launcher)  # until we carry the mark by which its successor would find us
        _detach(tell, stdout, stderr)
        base = os.getcwd()
        user = _look_up(how["user"], "container" in how) if "user" in how else None
        cache = _cache(how, os.geteuid() if user is None else user.pw_uid)
        os.chdir(path)
        if "container" in how:
            trouble = _contain(base, command, environment, directory, user, cache, how)
            return
        if "files" in how:
            from . import fetch  # while we may read it: the job's user may not
        if user is not None:
            _hand_over(user, cache)
            environment = _become(user, environment)
            end_with(launcher)
        if "files" in how:
            try:
                fetch.fetch_all(how["files"], how["limits"], cache, environment)
            except fetch.FetchError as error:
                trouble = ["fetch", None, str(error)]
                return
        _check_sandbox(environment, how)
        if directory is not None:
            enter(directory)
        _execute(command, environment)
    except StartError as error:
        trouble = ["start", error.exit_code, str(error)]
    except Exception as error:  # noqa: BLE001 -- the launcher's loop must never run twice
        trouble = ["start", NOT_EXECUTABLE, f"cannot prepare it: {type(error).__name__}: {error}"]
    finally:
        trouble[2] = trouble[2][:_MAX_MESSAGE]
        os.write(_TELL, json.dumps(trouble).encode())
        os._exit(1)


def _detach(tell: int, stdout: int, stderr: int) -> None:
    """Keep of the launcher's descriptors none but the two outputs and the way to tell, and none of its signals."""
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if tell != _TELL:
        os.dup2(tell, _TELL, inheritable=False)
    os.closerange(_TELL + 1, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _contain(
    base: str,
    command: str | list[str],
    environment: dict[str, str],
    directory: str | None,
    user: struct_passwd | None,
    cache: int | None,
    how: dict[str, Any],
) -> list[Any]:
    """Keep the job's container to its end, and exit as it did. Returns only what went wrong."""
    from . import container

    trouble = _fetch_apart(user, cache, environment, how)
    if trouble is not None:
        return trouble
    who = container.Who(os.geteuid(), os.getegid())
    if user is not None:
        who = container.Who(user.pw_uid, user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid))
    keeper = container.Keeper(base, environment, who, how["container"], _tell)
    try:
        os._exit(keeper.run(keeper.prepare(), command, directory))
    except container.Trouble as error:
        return [error.reason, error.exit_code, str(error)]


def _tell(line: Any) -> None:
    os.write(_TELL, json.dumps(line).encode() + b"\n")


def _fetch_apart(
    user: struct_passwd | None, cache: int | None, environment: dict[str, str], how: dict[str, Any]
) -> list[Any] | None:
    """Hand the sandbox over and fetch its files, in a process that has the rights of the job's user and no others."""
    if user is not None:
        _hand_over(user, cache)
    if "files" not in how:
        return None
    from . import fetch  # while we may read it

    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        words = "fetching ended for no known reason"
        try:
            end_with(parent)
            os.close(_TELL)  # the news end with the keeper
            if user is not None:
                environment = _become(user, environment)
                end_with(parent)
            fetch.fetch_all(how["files"], how["limits"], cache, environment)
            words = ""
        except Exception as error:  # noqa: BLE001 -- the child must not go on as if it were its parent
            words = str(error)
        finally:
            os.write(write, words[:_MAX_MESSAGE].encode(errors="replace"))
            os._exit(1 if words else 0)
    os.close(write)
    words = os.read(read, 1 << 16).decode()
    _, status = os.waitpid(pid, 0)
    return None if status == 0 else ["fetch", None, words or "what fetched its files was killed"]


def _cache(how: dict[str, Any], uid: int) -> int | None:
    """Open the cache of the job's user: what one user may read is not served to another one."""
    if not any(cached for _, cached in how.get("files", ())):
        return None
    path = f"{CACHE}/{uid}"
    for directory in (CACHE, path):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            continue
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _hand_over(user: struct_passwd, cache: int | None) -> None:
    """Give sandbox, outputs and cache to a Unix user."""
    try:
        for fd in (1, 2, *(() if cache is None else (cache,))):
            os.fchown(fd, user.pw_uid, user.pw_gid)
        os.chown(".", user.pw_uid, user.pw_gid)
    except OSError as error:
        text = f"cannot give the sandbox to Unix user {user.pw_name!r}: {error.strerror}"
        raise StartError(text, NOT_EXECUTABLE) from error


def _become(user: struct_passwd, environment: dict[str, str]) -> dict[str, str]:
    """Take the rights of a Unix user, for good. Returns their environment."""
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise explain(error, SHELL) from error
        raise StartError(f"cannot become Unix user {user.pw_name!r}: {error.strerror}", NOT_EXECUTABLE) from error
    os.umask(_UMASK)
    own = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or SHELL}
    # Over the submitter's: those that came along with the job are of another user, perhaps on another machine.
    return {**environment, **own}


def _look_up(name: str, contained: bool) -> struct_passwd:
    import pwd

    try:
        user = pwd.getpwnam(name)
    except KeyError:
        text = f"this machine has no Unix user {name!r}: have it made, or name another one"
        raise StartError(text, NOT_EXECUTABLE) from None
    if user.pw_uid == 0 and not contained:
        raise StartError(f"{name!r} has root's rights, which jobs get only if retz.local.user = 'root'", NOT_EXECUTABLE)
    return user


def _check_sandbox(environment: dict[str, str], how: dict[str, Any]) -> None:
    """See that the job can go back to where it begins."""
    if "user" not in how:
        return
    try:
        os.stat(environment["RETZ_SANDBOX"])
    except OSError as error:
        text = (
            f"Unix user {how['user']!r} cannot reach {environment['RETZ_SANDBOX']}: {error.strerror}; every directory "
            "above it must be open to pass (chmod o+x), or the server needs another --data-dir"
        )
        raise StartError(text, NOT_EXECUTABLE) from error


def _execute(command: str | list[str], environment: dict[str, str]) -> None:
    argv = [SHELL, "-c", command] if isinstance(command, str) else command
    program = find_program(argv[0], environment.get("PATH", ""))
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    end_with(0)
    os.write(_TELL, BEGUN)
    try:
        try:
            os.execve(program, argv, environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            os.execve(SHELL, [SHELL, program, *argv[1:]], environment)
    except OSError as error:
        raise explain(error, program) from error
    except ValueError as error:
        raise StartError(f"cannot start {argv[0]!r}: {error}", NOT_EXECUTABLE) from error
