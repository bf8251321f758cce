"""A disk that makes everybody wait, or fails, when told to."""

from __future__ import annotations

import errno
import threading

from retz.store.files import FileLayer


class Disk(FileLayer):
    """The real one.

    Attributes:
        open: While it is not set, every fsync waits.
        broken: Every fsync fails.
        syncs: How many there were.
    """

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.broken = False
        self.syncs = 0

    def fdatasync(self, fd: int) -> None:
        assert self.open.wait(30)
        self.syncs += 1
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync(fd)
