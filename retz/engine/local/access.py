"""Who may pass the directories above the sandboxes."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from .sandbox import PASSABLE, ROOT

_log = logging.getLogger(__name__)


def close_data_directory(directory: Path) -> None:
    """Let jobs of other users pass the data directory of a root server, and keep everything in it but ``local`` to us.

    Does nothing on a server that is not root.

    Raises:
        OSError: it is not ours.
    """
    if os.geteuid() != 0:
        return
    for entry in directory.iterdir():
        status = entry.lstat()
        if entry.name != "local" and not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
            entry.chmod(stat.S_IMODE(status.st_mode) & 0o700)
    directory.chmod(PASSABLE)


def settle_directories(directory: Path, dir_fd: int, user: str | None) -> None:
    """Close the engine's directory to others; on a server of root's let them pass, to the sandboxes that are theirs.

    Args:
        dir_fd: The open ``directory``.
        user: Who should be able to pass; a directory above that does not look like it is logged.
    """
    if os.geteuid() != 0:
        os.fchmod(dir_fd, 0o700)
        return
    os.fchmod(dir_fd, PASSABLE)
    sandboxes = directory / ROOT
    for shard in (sandboxes, *sandboxes.glob("*")):  # made before jobs had users of their own
        if shard.exists():
            shard.chmod(PASSABLE)
    closed = next((parent for parent in directory.parents if not parent.stat().st_mode & stat.S_IXOTH), None)
    if user is not None and closed is not None:
        _log.warning(
            "jobs of Unix user %r may be unable to reach their sandboxes: %s is closed to others; "
            "open it (chmod o+x) or choose another --data-dir, such as /var/lib/retz",
            user,
            closed,
        )
