"""Where an attempt's files are, and the claim that makes it start at most once. Used by launcher and server."""

from __future__ import annotations

import os

ROOT = "sandboxes"
PASSABLE = 0o711
"""Of the directories above the sandboxes on a server of root's: other users' jobs pass, and see nothing."""
JOBS_PER_SHARD = 1000


def sandbox_path(task: str) -> str:
    """Return the sandbox of a task, relative to the engine's directory.

    Raises:
        ValueError: if ``task`` is not ``<job>.<attempt>``; nothing else may become part of a path.
    """
    job, dot, attempt = task.partition(".")
    if not (dot and job.isascii() and job.isdigit() and attempt.isascii() and attempt.isdigit()):
        raise ValueError(f"not a task id: {task!r}")
    return f"{ROOT}/{int(job) // JOBS_PER_SHARD}/{task}"


def claim(path: str, dir_fd: int) -> int:
    """Make the sandbox and own the attempt: whoever creates ``stdout`` in it does. Returns its descriptor.

    Raises:
        FileExistsError: somebody owns it already.
    """
    try:
        os.mkdir(path, 0o700, dir_fd=dir_fd)
    except FileExistsError:
        pass  # made by a claimant who died before the claim; only the file decides
    except FileNotFoundError:
        _make_parents(path, dir_fd)
        os.mkdir(path, 0o700, dir_fd=dir_fd)
    return create_output(f"{path}/stdout", dir_fd)


def create_output(path: str, dir_fd: int) -> int:
    """Create an output file for appending; it must not exist. Returns its descriptor, closed on exec."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600, dir_fd=dir_fd)


def _make_parents(path: str, dir_fd: int) -> None:
    shard = path.rpartition("/")[0]
    for directory in (ROOT, shard):
        try:
            os.mkdir(directory, 0o700, dir_fd=dir_fd)
        except FileExistsError:
            continue
        if os.geteuid() == 0:
            os.chmod(directory, PASSABLE, dir_fd=dir_fd)  # apart, because of the umask
