"""One process per data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import StoreLocked


class DirectoryLock:
    """An exclusive flock on a file that holds our pid. The kernel releases it when the process dies.

    Raises:
        StoreLocked: naming the holder's pid.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreLocked(
                f"{path.parent} is in use by process {holder}: one server per data directory. "
                f"Stop that one, or give this one another --data-dir."
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Give it back. The file stays: removing it would let two processes lock two different files."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
