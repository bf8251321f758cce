"""Sandbox files, opened component by component: no link, no ``..``, nothing but directories and plain files.

A server that is root could read everything: there a file must also belong to whom the sandbox belongs to, because a
hard link in it may be to anybody's.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import stat
from functools import lru_cache
from typing import Literal

from retz.engine.base import FileEntry, FileRefused
from retz.engine.paths import parts_of

INLINE_BYTES = 1 << 16
"""Reads up to this size are done in place: a thread costs more than the page cache does."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class SandboxFile:
    """An open plain file of a sandbox; see :class:`retz.engine.base.FileReader`."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    @property
    def size(self) -> int:
        """Size in bytes when it was opened or last refreshed."""
        return self._size

    async def refresh(self) -> int:
        """Look again: the present size in bytes."""
        self._size = os.fstat(self._fd).st_size
        return self._size

    async def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; empty at or past the end."""
        if length <= INLINE_BYTES:
            return os.pread(self._fd, length, offset)
        return await asyncio.to_thread(os.pread, self._fd, length, offset)

    def close(self) -> None:
        """Release it. Twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_file(dir_fd: int, sandbox: str, path: str) -> SandboxFile:
    """Open a plain file of a sandbox.

    Raises:
        FileNotFoundError: no such sandbox or path.
        FileRefused: the path leaves the sandbox, passes a link, or is not a plain file.
    """
    parts = parts_of(path)
    if not parts:
        raise FileRefused("the sandbox itself is a directory; name a file in it")
    parent = _descend(dir_fd, sandbox, parts[:-1])
    try:
        _require(_look(parent, parts[-1], path), path, stat.S_ISREG, "a plain file")
        fd = _open(parts[-1], _FILE, parent, path)
    finally:
        os.close(parent)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):  # it was exchanged between the two looks
        os.close(fd)
        raise FileRefused(f"{path} is not a plain file")
    if os.geteuid() == 0 and status.st_uid != _look(dir_fd, sandbox, sandbox).st_uid:
        os.close(fd)
        raise FileRefused(f"{path} belongs to another Unix user than the sandbox")
    return SandboxFile(fd, status.st_size)


def list_files(dir_fd: int, sandbox: str, path: str) -> list[FileEntry]:
    """Return the entries of a directory in name order, or the one entry of a file. Raises as :func:`open_file`."""
    parts = parts_of(path)
    if parts:
        parent = _descend(dir_fd, sandbox, parts[:-1])
        try:
            status = _look(parent, parts[-1], path)
        finally:
            os.close(parent)
        if not stat.S_ISDIR(status.st_mode):
            return [_entry("/".join(parts), status)]
    directory = _descend(dir_fd, sandbox, parts)
    try:
        return _entries(directory, "/".join(parts))
    finally:
        os.close(directory)


def _entries(directory: int, prefix: str) -> list[FileEntry]:
    entries = []
    for name in sorted(os.listdir(directory)):
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed since
        entries.append(_entry(f"{prefix}/{name}" if prefix else name, status))
    return entries


def _descend(dir_fd: int, sandbox: str, parts: list[str]) -> int:
    """Open the directory reached by ``parts``; the caller closes it."""
    current = os.dup(dir_fd)
    try:
        walked: list[str] = []
        for part in (*sandbox.split("/"), *parts):
            walked.append(part)
            shown = "/".join(walked[-len(parts) :]) if parts else part
            _require(_look(current, part, shown), shown, stat.S_ISDIR, "a directory")
            deeper = _open(part, _DIRECTORY, current, shown)
            os.close(current)
            current = deeper
    except BaseException:
        os.close(current)
        raise
    return current


def _look(parent: int, name: str, shown: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        raise _refusal(error, shown) from error


def _open(name: str, flags: int, parent: int, shown: str) -> int:
    try:
        return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        raise _refusal(error, shown) from error


def _refusal(error: OSError, shown: str) -> Exception:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"no such file or directory in the sandbox: {shown}")
    return FileRefused(f"{shown}: {error.strerror}")


def _require(status: os.stat_result, shown: str, test: object, wanted: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise FileRefused(f"{shown} is a symbolic link; links are not followed")
    if callable(test) and not test(status.st_mode):
        raise FileRefused(f"{shown} is not {wanted}")


def _entry(path: str, status: os.stat_result) -> FileEntry:
    return FileEntry(
        path=path,
        size=status.st_size,
        mtime=status.st_mtime,
        mode=stat.filemode(status.st_mode),
        uid=_user(status.st_uid),
        gid=_group(status.st_gid),
        nlink=status.st_nlink,
        type=_type(status.st_mode),
    )


def _type(mode: int) -> Literal["file", "directory", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=256)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
