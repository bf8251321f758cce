"""Every operating-system call that durability depends on, in one place.

Tests replace this layer by one that records, fails or forgets what was not synced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from .lock import DirectoryLock

Buffer = bytes | memoryview

# writev takes at most IOV_MAX buffers, 1024 on Linux.
MAX_BUFFERS = 1024


class FileLayer:
    """The real thing. All methods raise OSError; files are created readable by their owner only."""

    def create(self, path: Path) -> int:
        """Create (or empty) a file for appending; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def open_append(self, path: Path) -> int:
        """Open an existing file for appending."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def open_read(self, path: Path) -> BinaryIO:
        """Open an existing file for reading, from its beginning."""
        return path.open("rb", buffering=1 << 20)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        """Append; return the number of bytes written, which may be fewer than given."""
        return os.writev(fd, buffers)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """Create a directory (0700) if it is not there; parents must exist."""
        path.mkdir(mode=0o700, exist_ok=True)

    def fsync_dir(self, path: Path) -> None:
        """Make creations, renames and removals in a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def listdir(self, path: Path) -> list[str]:
        return os.listdir(path)  # noqa: PTH208 - names, not paths

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def modified(self, path: Path) -> float:
        """Return the time of the last change, seconds since the epoch."""
        return path.stat().st_mtime

    def lock(self, path: Path) -> DirectoryLock:
        """Take the lock file or raise StoreLocked."""
        return DirectoryLock(path)

    # Built from the above.

    def write_all(self, fd: int, buffers: Sequence[Buffer]) -> int:
        """Append every byte, in order; return their number."""
        total = 0
        rest = list(buffers)
        while rest:
            written = self.writev(fd, rest[:MAX_BUFFERS])
            total += written
            done = 0
            while done < len(rest) and written >= len(rest[done]):
                written -= len(rest[done])
                done += 1
            del rest[:done]
            if written:
                rest[0] = memoryview(rest[0])[written:]
        return total

    def install(self, path: Path, buffers: Sequence[Buffer]) -> int:
        """Create a whole file under its name, durably: temporary file, fsync, rename, directory fsync.

        Returns its descriptor, open for appending.
        """
        temporary = path.with_name(path.name + ".tmp")
        fd = self.create(temporary)
        try:
            self.write_all(fd, buffers)
            self.fsync(fd)
            self.rename(temporary, path)
            self.fsync_dir(path.parent)
        except BaseException:
            self.close(fd)
            raise
        return fd
