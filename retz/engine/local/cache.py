"""Files that are fetched again and again, kept on this machine. One directory per Unix user, and theirs.

A copy is used only if the source says that it has not changed since. One process at a time fetches a file; the others
wait for it and use its copy. What has not been used for longest goes when there is no room.
"""

# ruff: noqa: PTH208, SIM115
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os

from .sources import Source, open_uri, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Cache:
    """A directory of ``KEY.data`` and ``KEY.json``; the key is of the URI.

    Args:
        size: Bytes that all copies may have together.
        most: Bytes that one of them may have.
    """

    def __init__(self, dir_fd: int, size: int, most: int) -> None:
        self._dir_fd = dir_fd
        self._size = size
        self._most = most

    @contextlib.contextmanager
    def open(self, uri: str) -> Iterator[tuple[BinaryIO, int]]:
        """Fetch a URI, unless there is a copy that still holds. Yields the copy and the mode it shall have.

        Raises:
            FetchError, OSError: see :func:`retz.engine.local.sources.open_uri`.
        """
        key = hashlib.sha256(uri.encode(errors="surrogateescape")).hexdigest()
        with self._locked(key):
            copy, mode = self._current(uri, key)
        with copy:
            yield copy, mode

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        # A few locks for all: one per file would be left behind for ever.
        fd = os.open(f"lock-{key[:2]}", _WRITE, 0o600, dir_fd=self._dir_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _current(self, uri: str, key: str) -> tuple[BinaryIO, int]:
        found = self._find(key)
        source = open_uri(uri, None if found is None else found[1]["marks"])
        if source is None:
            assert found is not None
            copy, about = found
            os.utime(copy.fileno())
            return copy, about["mode"]
        if found is not None:
            found[0].close()
        with source:
            return self._keep(source, key), source.mode

    def _find(self, key: str) -> tuple[BinaryIO, dict[str, Any]] | None:
        """The copy and what is known of it; None if there is none, or not the one that is described."""
        try:
            with open(os.open(f"{key}.json", _READ, dir_fd=self._dir_fd), "rb") as file:
                about = json.load(file)
            copy = open(os.open(f"{key}.data", _READ, dir_fd=self._dir_fd), "rb")
        except (OSError, ValueError):
            return None
        if os.fstat(copy.fileno()).st_size == about["size"]:
            return copy, about
        copy.close()
        return None

    def _keep(self, source: Source, key: str) -> BinaryIO:
        self._drop(key)
        copy = open(os.open(f"{key}.new", _WRITE, 0o600, dir_fd=self._dir_fd), "w+b")
        try:
            size = save(source, copy, self._most)
            copy.flush()
            os.fdatasync(copy.fileno())
        except BaseException:
            copy.close()
            os.unlink(f"{key}.new", dir_fd=self._dir_fd)
            raise
        if source.marks and size <= self._size:
            self._rename(f"{key}.new", f"{key}.data")
            about = {"size": size, "mode": source.mode, "marks": source.marks}
            with open(os.open(f"{key}.tmp", _WRITE, 0o600, dir_fd=self._dir_fd), "w", encoding="ascii") as file:
                json.dump(about, file)
            self._rename(f"{key}.tmp", f"{key}.json")
            self._make_room()
        else:
            os.unlink(f"{key}.new", dir_fd=self._dir_fd)
        copy.seek(0)
        return copy

    def _make_room(self) -> None:
        copies = []
        for name in os.listdir(self._dir_fd):
            if name.endswith((".data", ".new")):
                with contextlib.suppress(FileNotFoundError):  # another process made room
                    status = os.stat(name, dir_fd=self._dir_fd, follow_symlinks=False)
                    copies.append((status.st_mtime, status.st_size, name))
        total = sum(size for _, size, _ in copies)
        for _, size, name in sorted(copies):
            if total <= self._size:
                return
            if name.endswith(".data"):
                self._drop(name.removesuffix(".data"))
                total -= size

    def _drop(self, key: str) -> None:
        for name in (f"{key}.json", f"{key}.data"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._dir_fd)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
